"""The record of a modifier, and how one is put before or after an operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from methods.operator import Operator
from methods.vectors import TaskVector, Vectors


@dataclass(frozen=True, eq=False)
class Modifier:
    """A change of the experts before the merge, or of the merged vector after it.

    `function(vectors, **options) -> vectors` (before) or `function(merged, vectors, **options) -> merged` (after).
    Its options join the operator's, so their names carry the modifier's.
    """

    name: str
    function: Callable[..., Any]
    when: Literal["before", "after"]
    title: str
    paper: str
    formula: str
    citation: str = ""  # why there is no `paper`, or BibTeX
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    coefficients: tuple[float, ...] = ()  # empty: the operator's
    per_tensor: bool = False
    unlawful: Mapping[str, str] = field(default_factory=dict)

    def apply(self, operator: Operator) -> Operator:
        """The operator with this modifier, named `operator~modifier`."""
        if self.when == "after" and operator.per_task:
            raise ValueError(
                f"{operator.name}~{self.name}: not applicable, {operator.name} merges to one model per task"
            )
        clash = [option for option in self.grid if option in operator.grid]
        if clash:
            raise ValueError(f"{operator.name}~{self.name}: already modified so; give each modifier once")

        def function(vectors: Vectors, **inputs: Any) -> TaskVector | list[TaskVector]:
            mine = {option: inputs.pop(option) for option in self.grid}
            if self.when == "before":
                return operator.function(self.function(vectors, **mine), **inputs)
            return self.function(operator.function(vectors, **inputs), vectors, **mine)

        return operator.with_(
            name=f"{operator.name}~{self.name}",
            function=function,
            title=f"{operator.title}, {self.title}",
            formula=f"{operator.formula}; {self.formula}",
            grid={**operator.grid, **self.grid},
            coefficients=self.coefficients or operator.coefficients,
            linear=False,
            per_tensor=operator.per_tensor and self.per_tensor,
            unlawful={**operator.unlawful, **self.unlawful},
        )
