"""What the registries of `methods/` hold, readable without importing torch.

`bench/assets/catalogue.json` is generated from the registries by `make catalogue` (a test says whether it is up to
date), so that `bench ls`, `show` and `plan` answer at once. A user's own methods join it at run time: from `--include
FILE.py` and from the entry-point groups `bench.merging` and `bench.finetuning`, which do import torch.
Precedence is built-in, entry point, `--include`; a name that comes twice is an error.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from bench.cards.recipes import Owner
from bench.errors import UnknownName
from bench.ground import names
from methods.options import Grid

KINDS = ("operators", "composed", "finetuning", "regularizers", "modifiers", "spaces")
"""What `catalogue.json` holds."""
PATH = Path(__file__).parents[1] / "assets" / "catalogue.json"


@dataclass(frozen=True)
class Catalogue:
    """Plain facts about every method, by name."""

    operators: dict[str, dict[str, Any]]
    composed: dict[str, dict[str, Any]]
    """Operators with a modifier (`tsv_m~lines`) or in a space (`ties@knots`) that the grid `compositions` runs."""
    finetuning: dict[str, dict[str, Any]]
    regularizers: dict[str, dict[str, Any]]
    modifiers: dict[str, dict[str, Any]]
    spaces: dict[str, dict[str, Any]]
    compose: Callable[[str], dict[str, Any]] | None = field(default=None, compare=False, repr=False)
    """Facts of a composition that `composed` lacks; None: of built-in operators only."""

    def operator(self, name: str) -> dict[str, Any]:
        """Facts of an operator, with modifiers and space (`tsv_m~lines@core`); new compositions import torch."""
        known = self.operators | self.composed
        if name in known:
            return known[name]
        base, *parts = re.split(r"[~@]", name)
        if base not in self.operators:
            raise UnknownName("merging operator", name, known)
        if not parts or "" in parts:
            raise UnknownName("merging operator", name, self.operators)
        if self.compose is not None:
            return self.compose(name)
        from bench.registry import facts

        return facts.composed(name)

    def split_finetuning(self, name: str) -> tuple[str, str]:
        """`att+orthoreg` -> ("att", "orthoreg"); both must be known."""
        asked = names.finetuning(name)
        if asked.method not in self.finetuning or asked.family:
            raise UnknownName("fine-tuning method", str(asked.plain), self.finetuning)
        if asked.regularizer and asked.regularizer not in self.regularizers:
            raise UnknownName("regulariser", asked.regularizer, self.regularizers)
        return asked.method, asked.regularizer

    @cached_property
    def options(self) -> dict[str, Grid]:
        """The options that each fine-tuning method and each regulariser declares: values by name, the default first."""
        return {name: facts["grid"] for name, facts in (*self.finetuning.items(), *self.regularizers.items())}

    def owners(self, finetuning: Iterable[str]) -> list[Owner]:
        """The methods and regularisers in some names such as `att+orthoreg`, each once, with their options."""
        pairs = [self.split_finetuning(name) for name in finetuning]
        return [Owner(m, self.options[m]) for m in dict.fromkeys(method for method, _ in pairs)] + [
            Owner.regularizer(r, self.options[r]) for r in dict.fromkeys(r for _, r in pairs if r)
        ]

    def tangent(self, finetuning: str) -> bool:
        """Whether models of a fine-tuning method, if it is here, are evaluated as tangent models."""
        return bool(self.finetuning.get(names.finetuning(finetuning).method, {}).get("tangent"))


def joint_version(method: int, regularizer: int = 0) -> int:
    """What a key says about the versions of a fine-tuning method and its regulariser."""
    return method + 1000 * regularizer


@cache
def load() -> Catalogue:
    """The built-in methods."""
    return Catalogue(**json.loads(PATH.read_text(encoding="utf-8")))
