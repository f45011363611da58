"""How an expert is trained: a recipe, and the records of the fine-tuning method and the regulariser it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.cards.recipes import Owner, Recipe
from bench.errors import UnknownName
from bench.ground.names import Finetuning
from methods.finetuning import FINETUNING, FineTuning
from methods.options import chosen
from methods.regularizers import REGULARIZERS, Regularizer


@dataclass(frozen=True)
class Training:
    """How an expert is trained: the recipe, and the records of the method and of the regulariser that it is for.

    BenchError for an unknown name, and for an option of the recipe that neither record has.
    """

    recipe: Recipe
    method: FineTuning
    regularizer: Regularizer | None = None

    @classmethod
    def of(cls, recipe: Recipe, method: str | FineTuning, regularizer: str | Regularizer | None = None) -> "Training":
        """With built-in records by their names."""
        if isinstance(method, str):
            method = named("fine-tuning method", method, FINETUNING)
        if isinstance(regularizer, str):
            regularizer = named("regulariser", regularizer, REGULARIZERS) if regularizer else None
        return cls(recipe, method, regularizer)  # type: ignore[arg-type]

    @cached_property
    def _options(self) -> list[dict[str, Any]]:
        owners = [Owner(self.method.name, self.method.declared)]
        if self.regularizer:
            owners.append(Owner.regularizer(self.regularizer.name, self.regularizer.declared))
        return self.recipe.shares(*owners)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Every option of the method."""
        return chosen(self.method.name, self.method.declared, self._options[0])

    @property
    def penalty_options(self) -> dict[str, Any]:
        """Those of the regulariser that are not at their defaults."""
        return self._options[-1]

    @property
    def who(self) -> str:
        """What an error begins with: `fine-tuning att+orthoreg`."""
        return f"fine-tuning {Finetuning(self.method.name, self.regularizer.name if self.regularizer else '')}"


def named(kind: str, name: str, registry: Mapping[str, Any]) -> Any:
    """The registered record, or UnknownName with the nearest name."""
    if name not in registry:
        raise UnknownName(kind, name, registry)
    return registry[name]
