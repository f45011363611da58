"""The record of a merging operator and the checks around its pure function.

An operator takes task vectors and returns one task vector. It never sees a model, a data set, a path or the scaling
coefficient: the harness owns `pretrained + scaling * merged`, so one merge serves the whole coefficient grid.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from methods.options import Grid, chosen
from methods.vectors import TaskVector, Vectors, check, result_dtype, upcast

Board = Literal["data-free", "calibration", "unlabelled-test", "task-id"]
Cost = Literal["elementwise", "global", "spectral", "iterative"]
Need = Literal["factors", "grams", "grams_of", "fisher", "entropy"]
"""Inputs beside task vectors that the harness knows how to supply; `bench/work/inputs.py` says what each is."""


def steps(last: float, step: float) -> tuple[float, ...]:
    """(0, step, 2 step, ..., last), each rounded so that a row's coefficient prints as it was asked for."""
    return tuple(round(i * step, 10) for i in range(round(last / step) + 1))


SUMS = steps(1.0, 0.05)  # operators that add task vectors; the grid of Ilharco et al. (2023)
MEANS = steps(1.5, 0.1)  # operators that average: 1 is the natural scale
SPECTRAL = steps(3.0, 0.2)  # operators that rebuild the spectrum, and those whose best scale lay beyond 1.5
FIXED = (1.0,)  # operators that already decide the scale themselves


@dataclass(frozen=True, eq=False)
class Operator:
    """One merging operator: `function(vectors, **options) -> merged`, and everything to know before calling it.

    `merge` is what callers use: it checks names, shapes, finiteness, options and the number of tasks, hands the
    function float32 (half precision is upcast), and casts the result back to the experts' dtype.
    """

    name: str
    function: Callable[..., Any]
    title: str = ""
    paper: str = ""  # "arXiv:2306.01708"
    citation: str = ""  # BibTeX, where `paper` is not in bench's own bibliography
    formula: str = ""  # one line of text
    grid: Grid = field(default_factory=dict)  # option -> (default, other values to search)
    coefficients: tuple[float, ...] = FIXED  # scaling coefficients tried on validation
    board: Board = "data-free"
    needs: tuple[str, ...] = ()  # further keyword inputs that the harness supplies
    random: bool = False  # the function takes `seed: int` and draws from private generators only
    cost: Cost = "elementwise"
    linear: bool = False  # one fixed combination of the experts: equal in every space, and NaN in shows as NaN out
    per_tensor: bool = False  # merging a subset of the names gives the same tensors, so files can be streamed
    per_task: bool = False  # returns one vector per task (the task must be known at inference)
    non_matrices: str = "treated like every other parameter"
    minimum_tasks: int = 1
    unlawful: Mapping[str, str] = field(default_factory=dict)  # law of bench/checks/laws.py -> why it does not hold
    version: int = 1  # raised when the numbers an operator returns change

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with its default value."""
        return {option: values[0] for option, values in self.grid.items()}

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults overridden by `given`; ValueError for an unknown option or a value outside its domain."""
        return chosen(self.name, self.grid, given)

    def merge(self, vectors: Vectors, *, seed: int = 0, **inputs: Any) -> Any:
        """Merge task vectors: a TaskVector, or a list of one per task where `per_task`.

        `inputs` are options (see `grid`) and what the operator `needs`. Raises ValueError with one line that names
        the expert, the tensor or the option. The inputs are never changed.
        """
        vectors = list(vectors)
        supplied = {name: inputs.pop(name) for name in self.needs if inputs.get(name) is not None}
        missing = [name for name in self.needs if name not in supplied]
        if missing:
            raise ValueError(f"{self.name}: not applicable without {missing[0]!r}; it sees more than task vectors")
        options = self.options(inputs)
        if len(vectors) < self.minimum_tasks or not vectors:
            raise ValueError(f"{self.name}: needs at least {max(1, self.minimum_tasks)} experts, got {len(vectors)}")
        check(vectors, self.name, entries=not self.linear)
        if self.random:
            supplied["seed"] = seed
        merged = self.function([upcast(vector) for vector in vectors], **supplied, **options)
        if self.linear and not all(torch.isfinite(x.sum()) for x in merged.values()):
            check(vectors, self.name)
        if self.per_task:
            return [self._cast(vectors, each) for each in merged]
        return self._cast(vectors, merged)

    __call__ = merge

    def _cast(self, vectors: Vectors, merged: Mapping[str, Tensor]) -> TaskVector:
        if not isinstance(merged, Mapping):
            raise ValueError(f"{self.name}: the operator returned a {type(merged).__name__}, not a dict of tensors")
        if merged.keys() != vectors[0].keys():
            odd = sorted(merged.keys() ^ vectors[0].keys())[0]
            raise ValueError(f"{self.name}: the operator returned other names than it was given, first {odd!r}")
        cast = {}
        for name, given in vectors[0].items():
            x = merged[name]
            if not isinstance(x, Tensor):
                raise ValueError(f"{self.name}: the operator returned {name!r} as a {type(x).__name__}, not a tensor")
            if x.shape != given.shape:
                was, should = tuple(x.shape), tuple(given.shape)
                raise ValueError(f"{self.name}: the operator returned {name!r} with shape {was} instead of {should}")
            cast[name] = x.to(result_dtype(vectors, name))
        return cast

    def with_(self, **changes: Any) -> "Operator":
        """This record with some fields changed (composition builds new operators this way)."""
        return replace(self, **changes)
