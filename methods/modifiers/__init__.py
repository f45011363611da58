"""Modifiers and spaces by name: `tsv_m~lines`, `ties@core`, `iso_c@split_qkv~svc`.

A name is an operator followed by `@space` and `~modifier`, applied from left to right.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from methods.merging import MERGING
from methods.modifiers import isotropise, lines, norm_match, svc
from methods.modifiers.record import Modifier
from methods.operator import Operator
from methods.spaces import SPACES, in_space

MODIFIERS: dict[str, Modifier] = {
    module.MODIFIER.name: module.MODIFIER for module in (lines, svc, isotropise, norm_match)
}


def resolve(name: str, operators: Mapping[str, Operator] | None = None) -> Operator:
    """The operator a composed name stands for; ValueError with the nearest name for an unknown part."""
    known = MERGING if operators is None else operators
    base, *parts = re.split(r"(?=[@~])", name)
    operator = known[_known("merging operator", base, known)]
    for part in parts:
        kind, rest = part[0], part[1:]
        if kind == "@":
            operator = in_space(operator, _known("space", rest, SPACES))
        else:
            operator = MODIFIERS[_known("modifier", rest, MODIFIERS)].apply(operator)
    return operator


def _known(kind: str, name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"no {kind} named {name!r}; {hint}")
    return name
