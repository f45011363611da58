"""Recipes: the numbers of one fine-tuning run as a frozen value. No torch here, so plans and tables can read them.

A recipe holds the loop's own numbers and, as `options`, those options of the fine-tuning method and of the regulariser
that differ from what their records declare. Names of options, wherever a recipe is written (suite file, `--recipe`,
grid, identity of a cell):

    alpha         the loop's number of this name; else the option of the method or of the regulariser that has it
    OWNER.alpha   the option of this method or regulariser, where the loop or both have the plain name

An identity holds the plain name wherever that has one meaning.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args, get_origin

from bench.errors import BenchError, UnknownName
from methods.options import Grid, check_option

Precision = Literal["float32", "bfloat16"]
Augment = Literal["none", "crop"]


class Owner(NamedTuple):
    """A fine-tuning method or a regulariser with the options that it declares: values by name, the default first."""

    name: str
    grid: Grid

    def qualified(self, option: str) -> str:
        """`lora.rank`."""
        return f"{self.name}.{option}"

    @classmethod
    def regularizer(cls, name: str, grid: Grid) -> "Owner":
        """Of a regulariser; the strength is common to all of them, and so one of the loop's numbers."""
        return cls(name, {option: values for option, values in grid.items() if option != "strength"})


@dataclass(frozen=True)
class Recipe:
    """How one expert is trained. Defaults are those of the released task-arithmetic code where it has one."""

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
    """Lambda: the weight of the regulariser. Means different things under two penalties and at different widths."""
    options: Any = ()
    """Of the method and the regulariser, by name: given as a mapping, kept as a tuple of pairs, sorted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(dict(self.options).items())))
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
            "options": (
                all(name not in LOOP and (isinstance(v, str | bool) or _number(v)) for name, v in self.options),
                "names that the loop does not have, with words, numbers or true and false",
            ),
        }
        for field in fields(self):
            if get_origin(field.type) is Literal:
                choices = get_args(field.type)
                checks[field.name] = (getattr(self, field.name) in choices, " or ".join(map(repr, choices)))
        for name, (good, wanted) in checks.items():
            if not good:
                raise BenchError(f"recipe: {name} is {getattr(self, name)!r}; give {wanted}")

    def shares(self, *owners: Owner) -> list[dict[str, Any]]:
        """For each method or regulariser its options that are not at their defaults; BenchError for one of nobody's."""
        check_names(dict(self.options), owners)
        shares = []
        for owner in owners:
            full = {owner.qualified(option): option for option in owner.grid}
            mine = full | {option: option for option in owner.grid}
            shares.append({mine[name]: value for name, value in self.options if name in mine})
        return shares


LOOP: dict[str, Any] = {f.name: f.type for f in fields(Recipe) if f.name != "options"}
"""What the training loop itself reads, by name."""

DEFAULTS: dict[str, Any] = json.loads(
    json.dumps({f.name: f.default for f in fields(Recipe) if f.name in LOOP and f.default is not MISSING})
)
"""The loop's numbers that need not be given, as JSON has them."""


def identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe in the identity of a cell: plain, and without what is at its default, so that an option added later,
    off by default, renames no result. The defaults themselves are pinned by a test."""
    loop = {name: json.loads(json.dumps(getattr(recipe, name))) for name in LOOP}
    return {name: value for name, value in loop.items() if value != DEFAULTS.get(name)} | dict(recipe.options)


def from_identity(found: Mapping[str, Any]) -> Recipe:
    """The recipe that has this identity."""
    return _recipe(found, {name: value for name, value in found.items() if name not in LOOP})


def _recipe(found: Mapping[str, Any], options: Mapping[str, Any]) -> Recipe:
    loop: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in found.items() if n in LOOP}
    return Recipe(**loop, options=options)


def settle(who: str, layers: Iterable[tuple[str, Mapping[str, Any]]], owners: Sequence[Owner]) -> Recipe:
    """The recipe that layers of names and values give, later ones first; a name that none of `owners` has is skipped.

    A layer goes with the name of the owner whose table it is, where plain names mean that owner's options, or "".
    BenchError in one line that begins with `who`, for a value that cannot be and for a name with two meanings.
    """
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for table, values in layers:
        for name, value in values.items():
            found |= dict.fromkeys(_meant(who, name, owners, table), value)
    for owner in owners:
        for option, grid in owner.grid.items():
            if owner.qualified(option) not in found:
                continue
            value = _like(grid[0], found[owner.qualified(option)])
            try:
                check_option(owner.name, option, value, tuple(grid))
            except ValueError as error:
                raise BenchError(f"{who}: {error}") from error
            if value != grid[0]:
                shared = option in LOOP or sum(option in other.grid for other in owners) > 1
                options[owner.qualified(option) if shared else option] = value
    return _recipe(found, options)


def _meant(who: str, name: str, owners: Sequence[Owner], table: str = "") -> list[str]:
    """What a name means for one expert, options in their qualified form; nothing where none of `owners` has it."""
    if name in LOOP:
        return [name]
    found = [o.qualified(option) for o in owners for option in o.grid if name in (option, o.qualified(option))]
    own = f"{table}.{name}"
    if len(found) > 1 and own not in found:
        raise BenchError(f"{who}: {name!r} means {' and '.join(found)}; write the one that you mean")
    return [own] if own in found else found


def known(name: str, owners: Iterable[Owner]) -> bool:
    """Whether the loop or one of `owners` has this name."""
    return name in LOOP or any(name in (o, owner.qualified(o)) for owner in owners for o in owner.grid)


def check_names(given: Iterable[str], owners: Iterable[Owner]) -> None:
    """UnknownName for the first of some names that neither the loop nor any of `owners` has."""
    owners = list(owners)
    for name in given:
        if not known(name, owners):
            options = [(owner.qualified(o) if "." in name else o) for owner in owners for o in owner.grid]
            raise UnknownName("recipe option", name, {*LOOP, *options})


def parse(given: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """`["form=squared", "clip=0.5"]` -> (("form", "squared"), ("clip", 0.5)); the last of a name counts.

    Of the loop's names the values have its types; others are numbers, true or false where they look like it.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name == "betas":  # two numbers, which no text gives
            raise UnknownName("recipe option", name, LOOP.keys() - {name})
        wanted = LOOP.get(name)
        try:
            found[name] = wanted(value.strip()) if wanted in (int, float) else _read(value.strip(), wanted is None)
        except ValueError:
            raise BenchError(f"--recipe {text}: {name} takes a number") from None
    return tuple(found.items())


def _read(text: str, typed: bool) -> Any:
    """A word, or what it looks like."""
    for convert in (int, float, {"true": True, "false": False}.__getitem__) if typed else ():
        try:
            return convert(text)
        except (ValueError, KeyError):
            continue
    return text


def _like(default: Any, value: Any) -> Any:
    """A number as the type of the default, where that loses nothing; equal values then have equal identities."""
    same = _number(value) and _number(default) and type(default)(value) == value
    return type(default)(value) if same else value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object, *, infinite: bool = False) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and (math.isfinite(value) or (infinite and value == math.inf))  # type: ignore[arg-type]
