"""What a method's record declares, held against its types and its function before anything runs."""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args

from methods.finetuning.record import FineTuning
from methods.operator import Board, Cost, Need, Operator
from methods.options import Grid, chosen
from methods.regularizers.record import Regularizer

NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
"""`/ + ~ @ [ , |` and spaces have a meaning in names of rows and on the command line."""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple | list) and all(map(fits, value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and _number(value) and value >= 1


def _one_of(words: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in get_args(words), f"one of {', '.join(map(repr, get_args(words)))}"


def _function(value: Any) -> bool:
    return callable(value) and not inspect.isclass(value)


TEXT, FUNCTION, COUNT = (_text, "text"), (_function, "a function"), (_count, "a whole number of at least 1")
TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "title", "paper", "citation", "formula", "non_matrices"), TEXT),
    **dict.fromkeys(("function", "start", "weights", "updates", "gradients", "penalises", "draws"), FUNCTION),
    **dict.fromkeys(("dense", "factored", "value"), (lambda value: value is None or _function(value), "a function")),
    **dict.fromkeys(("version", "minimum_tasks"), COUNT),
    **dict.fromkeys(
        ("random", "linear", "per_tensor", "per_task", "tangent"),
        (lambda value: isinstance(value, bool), "True or False"),
    ),
    **dict.fromkeys(("options", "unlawful"), (lambda value: isinstance(value, Mapping), "a dict")),
    "grid": (
        lambda value: isinstance(value, Mapping) and all(map(_list_of(lambda _: True), value.values())),
        "a dict of tuples such as {'density': (0.2, 0.1)}, the default first",
    ),
    "coefficients": (_list_of(_number), "a tuple of numbers such as (0.5, 1.0)"),
    "board": _one_of(Board),
    "cost": _one_of(Cost),
    "needs": (_list_of(lambda need: need in get_args(Need)), f"a tuple of some of {', '.join(get_args(Need))}"),
}
"""For each field of a record: whether a value will do, and what is asked for."""


def mistyped(method: Operator | FineTuning | Regularizer) -> str | None:
    """The first field of a record that holds something of another kind, in one line; None where all is well."""
    for field in fields(method):
        fits, wanted = TYPES[field.name]
        value = getattr(method, field.name)
        if not fits(value):
            shown = f"the class {value.__name__}" if inspect.isclass(value) else repr(value)
            return f"its {field.name} is {shown[:60]}, not {wanted}"
    if isinstance(method, Operator):
        return None
    shared = method.options.keys() & method.grid.keys()
    if shared:
        return f"its option {min(shared)!r} stands in options and in grid; the grid will do, the default first"
    return _grid(method.declared, lambda option, value: chosen(method.name, method.declared, {option: value}))


def _grid(grid: Grid, check: Callable[[str, Any], object]) -> str | None:
    for option, values in grid.items():
        if not values:
            return f"its grid gives option {option!r} no value; the first is the default, (0.5,) will do"
        for value in values:
            try:
                check(option, value)
            except ValueError as error:
                return f"its grid has a value that is refused: {error}"
    return None


def misdeclared(operator: Operator) -> str | None:
    """The first thing in the record that cannot be, in one line; None where all is well."""
    wrong = mistyped(operator)
    if wrong:
        return wrong
    parts = re.split(
        "[~@]", operator.name
    )  # of a composition; in a file of one's own `bench.registry.live` refuses both
    if not all(NAME.fullmatch(part) for part in parts):
        return f"its name {operator.name!r} is not made of letters, digits, _, - and dots"
    wrong = _grid(operator.grid, lambda option, value: operator.options({option: value}))
    if wrong:
        return wrong
    if not operator.coefficients or not all(math.isfinite(c) for c in operator.coefficients):
        return "it has no scaling coefficient, or one that is not finite; (1.0,) means fixed"
    return _signature(operator)


def _signature(operator: Operator) -> str | None:
    try:
        parameters = list(inspect.signature(operator.function).parameters.values())
    except ValueError:  # of a function written in C; the laws will call it
        return None
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        return "its function takes no task vectors; they are its first, positional argument"
    parameters = parameters[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    takes = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    given = {
        **dict.fromkeys(operator.grid, "its grid names option"),
        **dict.fromkeys(operator.needs, "its needs name"),
        **dict.fromkeys(["seed"] * operator.random, "it is random and gets"),
    }
    for name, why in given.items():
        if name not in takes:
            return f"{why} {name!r}, which the function does not take"
    for p in parameters:
        if p.default is p.empty and p.name in takes - given.keys():
            return f"the function asks for {p.name!r}, which is no option of the grid and none of its needs"
    return None
