"""Sensitivity to lambda: experts at other strengths of their regulariser, and task addition of them.

Rows carry the strength in `options` and have kinds of their own, so that no board mistakes a point of a search for a
method. `bench.sensitivity` chooses among them and counts what the search cost.
"""

import json
from typing import TYPE_CHECKING

from bench.cells import Strength, Variant
from bench.documents import canonical
from bench.kinds import addition, expert
from bench.kinds.rows import Found, Rows

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Strength, session: "Session") -> Found:
    """Task addition at one strength."""
    rows, found = addition.run(cell, session)
    return named(rows, cell.strength), found


def run_variant(cell: Variant, session: "Session") -> Found:
    """One expert at a strength that is not the suite's."""
    rows, found = expert.run(cell, session)
    return named(rows, cell.recipe.strength), found


def named(rows: Rows, strength: float) -> Rows:
    """The rows with the strength among their options."""
    return [r | {"options": canonical({**json.loads(r["options"]), "strength": strength})} for r in rows]
