"""Recipes: the numbers of one fine-tuning run as a frozen value. No torch here, so plans and tables can read them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

from bench.errors import BenchError, UnknownName

Form = Literal["frobenius", "squared"]
Precision = Literal["float32", "bfloat16"]
Penalised = Literal["matrices", "layers"]
PenaltyPrecision = Literal["float32", "mixed"]
Augment = Literal["none", "crop"]


@dataclass(frozen=True)
class Recipe:
    """How one expert is trained. Defaults are those of the released task-arithmetic code where it has one.

    The last group is read by one method only; `canonical` puts the unread ones back to their defaults, so that a cell's
    key does not depend on a number that its training never looks at.
    """

    steps: int
    batch_size: int
    lr: float
    """Peak learning rate, reached after `warmup_steps`, then cosine to zero."""
    weight_decay: float = 0.1
    """AdamW's decoupled decay, on whatever trains (see `bench.work.finetune.train`)."""
    warmup_steps: int = 0
    clip: float = 1.0
    """Largest Euclidean norm of the whole gradient, the regulariser's share included; inf switches it off."""
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = 0.0
    precision: Precision = "float32"
    """Of the forward and backward products; weights, optimiser and losses stay float32."""
    augment: Augment = "none"
    """`crop`: random crops of 90 to 100 % of each training image (`bench.pixels.augment`), as in the released code."""

    strength: float = 0.0
    """Lambda: the weight of the regulariser. Means different things under the two forms and at different widths."""
    form: Form = "frobenius"
    """`squared` is the OrthoReg paper's sum of squares, `frobenius` its released code (not squared)."""
    penalised: Penalised = "matrices"
    """`matrices`: every trainable 2-D parameter, as released; `layers`: without positional_embedding and proj."""
    penalty_precision: PenaltyPrecision = "float32"
    """`mixed` multiplies in bfloat16 where that costs less than a thousandth of the penalty's gradient."""
    sketch: int = 0
    """Random probes from which OrthoReg's squared gradient is estimated; 0 computes it exactly."""
    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        checks: dict[str, tuple[bool, str]] = {
            "steps": (_whole(self.steps) and self.steps >= 1, "a whole number, at least 1"),
            "batch_size": (_whole(self.batch_size) and self.batch_size >= 1, "a whole number, at least 1"),
            "lr": (_number(self.lr) and self.lr > 0, "a number above 0"),
            "weight_decay": (_number(self.weight_decay) and self.weight_decay >= 0, "a number, at least 0"),
            "warmup_steps": (
                _whole(self.warmup_steps) and 0 <= self.warmup_steps < self.steps,
                f"a whole number from 0 to {self.steps - 1 if _whole(self.steps) else 'steps - 1'}",
            ),
            "clip": (_number(self.clip, infinite=True) and self.clip > 0, "a number above 0, or inf"),
            "betas": (
                len(self.betas) == 2 and all(_number(b) and 0 <= b < 1 for b in self.betas),
                "two numbers, at least 0 and below 1",
            ),
            "label_smoothing": (
                _number(self.label_smoothing) and 0 <= self.label_smoothing < 1,
                "a number, at least 0 and below 1",
            ),
            "strength": (_number(self.strength) and self.strength >= 0, "a number, at least 0"),
            "sketch": (
                _whole(self.sketch) and (self.sketch == 0 or self.sketch >= 2),
                "0, or a whole number from 2 on",
            ),
            "rank": (_whole(self.rank) and self.rank >= 1, "a whole number, at least 1"),
            "alpha": (_number(self.alpha) and self.alpha > 0, "a number above 0"),
        }
        for field in fields(self):
            if get_origin(field.type) is Literal:
                choices = get_args(field.type)
                checks[field.name] = (getattr(self, field.name) in choices, " or ".join(map(repr, choices)))
        for name, (good, wanted) in checks.items():
            if not good:
                raise BenchError(f"recipe: {name} is {getattr(self, name)!r}; give {wanted}")

    def canonical(self, finetuning: str, regularizer: str = "") -> "Recipe":
        """This recipe with every number that the built-in methods do not read put back to its default."""
        unread: set[str] = set()
        if not regularizer:
            unread |= {"strength", "form", "penalised", "penalty_precision", "sketch"}
        if finetuning in ("nonlinear", "tta", "att"):
            unread |= {"rank", "alpha"}
        defaults: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in unread}
        return replace(self, **defaults)


def parse(given: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """`["form=squared", "clip=0.5"]` -> (("form", "squared"), ("clip", 0.5)), checked; the last of a name counts."""
    kinds: dict[str, Any] = {f.name: f.type for f in fields(Recipe)}
    found: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in kinds or name == "betas":
            raise UnknownName("recipe option", name, [kind for kind in kinds if kind != "betas"])
        try:
            convert = kinds[name] if kinds[name] in (int, float) else str
            found[name] = convert(value.strip())
        except ValueError:
            raise BenchError(f"--recipe {text}: {name} takes a number") from None
    usual: dict[str, Any] = {"steps": max(1, found.get("warmup_steps", 0) + 1), "batch_size": 1, "lr": 1.0}
    Recipe(**usual | found)
    return tuple(found.items())


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object, *, infinite: bool = False) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and (math.isfinite(value) or (infinite and value == math.inf))  # type: ignore[arg-type]
