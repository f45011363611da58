"""Sensitivity to lambda: experts at other strengths of their regulariser, and task addition of them.

Rows carry the strength in `options` and have kinds of their own, so that no board mistakes a point of a search for a
method. `bench.tables.strength` chooses among them and counts what the search cost.
"""

import json

from bench.ground.toml_json import canonical
from bench.kinds import addition, expert
from bench.kinds.cells import Strength, Variant
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, Rows


def run(cell: Strength, session: Warm) -> Found:
    """Task addition at one strength."""
    rows, found = addition.run(cell, session)
    return named(rows, cell.strength), found


def run_variant(cell: Variant, session: Warm) -> Found:
    """One expert at a strength that is not the suite's."""
    rows, found = expert.run(cell, session)
    return named(rows, cell.recipe.strength), found


def named(rows: Rows, strength: float) -> Rows:
    """The rows with the strength among their options."""
    return [r | {"options": canonical({**json.loads(r["options"]), "strength": strength})} for r in rows]
