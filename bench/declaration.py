"""What an operator's record declares, held against its function before anything runs."""

import inspect
import math
import re

from methods.operator import Operator

NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
"""`/ + ~ @ [ , |` and spaces have a meaning in names of rows and on the command line."""


def misdeclared(operator: Operator) -> str | None:
    """The first thing in the record that cannot be, in one line; None where all is well."""
    parts = re.split("[~@]", operator.name)  # of a composition; in a file of one's own `bench.registry` refuses both
    if not all(NAME.fullmatch(part) for part in parts):
        return f"its name {operator.name!r} is not made of letters, digits, _, - and dots"
    for option, values in operator.grid.items():
        if not values:
            return f"its grid gives option {option!r} no value; the first is the default, (0.5,) will do"
        for value in values:
            try:
                operator.options({option: value})
            except ValueError as error:
                return f"its grid has a value that is refused: {error}"
    if not operator.coefficients or not all(math.isfinite(c) for c in operator.coefficients):
        return "it has no scaling coefficient, or one that is not finite; (1.0,) means fixed"
    return _signature(operator)


def _signature(operator: Operator) -> str | None:
    parameters = list(inspect.signature(operator.function).parameters.values())[1:]  # the first takes the vectors
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    takes = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    given = {
        **dict.fromkeys(operator.grid, "its grid names option"),
        **dict.fromkeys(operator.needs, "its needs name"),
        **dict.fromkeys(["seed"] * operator.random, "it is random and gets"),
        **dict.fromkeys(["cache"] * operator.cached, "it is cached and gets"),
    }
    for name, why in given.items():
        if name not in takes:
            return f"{why} {name!r}, which the function does not take"
    for p in parameters:
        if p.default is p.empty and p.name in takes - given.keys():
            return f"the function asks for {p.name!r}, which is no option of the grid and none of its needs"
    return None
