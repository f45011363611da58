"""Names of methods and rows, parsed in one place.

    row           FINETUNING/MERGING          att+orthoreg/tsv_m~lines@core[v1]
    fine-tuning   METHOD[+REGULARIZER][:FAMILY]    att, att+orthoreg, nonlinear:fusionbench
    merging       OPERATOR{~MODIFIER | @SPACE}[MARK]    ties, tsv_m~lines, iso_c@core, ties[v1]

A family names the published checkpoints that experts come from. A mark tells two rows of one name apart. Tasks of a row
are one text too: `digits+letters`. Parsing never fails: whether parts are known is asked of the registry.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

PLUS, FAMILY, SLASH = "+", ":", "/"


@dataclass(frozen=True)
class Finetuning:
    """A way to make experts: what trains, what is added to its gradient, and where published experts are from."""

    method: str
    regularizer: str = ""
    family: str = ""

    def __str__(self) -> str:
        regularized = f"{self.method}{PLUS}{self.regularizer}" if self.regularizer else self.method
        return f"{regularized}{FAMILY}{self.family}" if self.family else regularized

    @property
    def plain(self) -> "Finetuning":
        """The same without a regulariser: what a regularised row is compared with."""
        return Finetuning(self.method, "", self.family)


@dataclass(frozen=True)
class Merging:
    """A merging operator and what is composed with it, from left to right; `steps` keep their sign, `~` or `@`."""

    operator: str
    steps: tuple[str, ...] = ()
    mark: str = ""

    def __str__(self) -> str:
        return "".join((self.operator, *self.steps)) + (f"[{self.mark}]" if self.mark else "")


@dataclass(frozen=True)
class Row:
    """A row of a leaderboard: one way to make experts and one way to merge them. `zero-shot` has no merging."""

    finetuning: Finetuning
    merging: Merging

    def __str__(self) -> str:
        return f"{self.finetuning}{SLASH}{self.merging}" if self.merging.operator else str(self.finetuning)


@cache
def finetuning(name: str) -> Finetuning:
    """`att+orthoreg:orthoreg` -> Finetuning("att", "orthoreg", "orthoreg")."""
    trained, _, family = name.partition(FAMILY)
    method, _, regularizer = trained.partition(PLUS)
    return Finetuning(method, regularizer, family)


@cache
def merging(name: str) -> Merging:
    """`tsv_m~lines@core[v1]` -> Merging("tsv_m", ("~lines", "@core"), "v1")."""
    plain, _, mark = name.partition("[")
    operator, *steps = re.split(r"(?=[~@])", plain)
    return Merging(operator, tuple(steps), mark.removesuffix("]"))


@cache
def row(name: str) -> Row:
    """`att/ties` -> Row(Finetuning("att"), Merging("ties")); a text without `/` has no merging."""
    trained, _, merged = name.partition(SLASH)
    return Row(finetuning(trained), merging(merged))


def join_tasks(tasks: Iterable[str]) -> str:
    """("digits", "letters") -> `digits+letters`, as the column `tasks` has them."""
    return PLUS.join(tasks)


def split_tasks(text: str) -> tuple[str, ...]:
    """The inverse of `join_tasks`."""
    return tuple(text.split(PLUS))
