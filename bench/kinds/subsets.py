"""Accuracy against the number of merged tasks: task addition of some sets of tasks of every size."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from bench.kinds import addition
from bench.kinds.addition import Addition
from bench.kinds.base import Expert, sampled
from bench.kinds.protocol import Kind, Setting


def plan(setting: Setting) -> list[Addition]:
    """Task addition of every set with every operator; the whole set is the ordinary addition, with its key."""
    sets = chosen(setting.experts, setting.subsets)
    return [cell for some in sets for cell in addition.plan(replace(setting, experts=some))]


def chosen(experts: Sequence[Expert], at_most: int) -> list[tuple[Expert, ...]]:
    """Of every size from 2 to all, at most so many sets of experts; all of them where there are no more."""
    return [
        some
        for size in range(2, len(experts) + 1)
        for some in sampled(list(combinations(experts, size)), at_most, lambda some: [e.task for e in some])
    ]


KINDS = (Kind("subsets", Addition, plan, addition.run),)
