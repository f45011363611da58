"""The smoke grid with fast paths on and off: the same answers up to rounding, the same chosen coefficients.

On the first images of every split: the plain ways are slow.
"""

from pathlib import Path
from typing import Any

import pytest

from bench.cards import suites
from bench.cards.datasets import DatasetCard, Split
from bench.kinds.session import Session
from bench.pixels import images
from bench.pixels.images import Images
from bench.planning import grid
from bench.registry import catalogue
from bench.store.records import Record
from bench.store.store import Store
from bench.work.runtime import How
from methods.vectors import norm

MORE = ("tta", "lora+orthoreg")
"""Fine-tuning methods beyond those of the smoke grid, for one operator without a sweep."""

IMAGES = 60
"""Of each split that is evaluated."""

ROUNDING = 1
"""Images of a split whose two largest logits may be so close that float32 rounding decides between them."""


def run(folder: Path, *, fast: bool) -> tuple[dict[str, Record], Store]:
    session = Session(How(fast=fast), Store(folder))
    suite, chosen = suites.load("mini8"), grid.grid("smoke")
    known = catalogue.load()
    cells = grid.plan(suite, chosen, known)
    cells += grid.plan(suite, chosen, known, finetuning=MORE, operators=("average",))[1:]
    for cell in cells:
        outcome = session.attempt(cell)
        assert outcome.status == "done", outcome.error
    assert session.evaluator(cells[0]).backbone.tower.fast is fast
    return {r.key: r for r in session.store.read_all([cell.key for cell in cells])}, session.store


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fast_paths_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(card: DatasetCard, split: Split, size: int) -> Images:
        found = load(card, split, size)
        return found if split == "train" else Images(found.pixels[:IMAGES], found.labels[:IMAGES])

    load = images.load
    monkeypatch.setattr("bench.kinds.session.images.load", some)
    fast, store = run(tmp_path / "fast", fast=True)
    slow, other = run(tmp_path / "slow", fast=False)
    assert fast.keys() == slow.keys()
    same = rows = 0
    for key, record in fast.items():
        for mine, theirs in zip(record.rows, slow[key].rows, strict=True):
            assert described(mine) == described(theirs)  # the coefficient and whether it was chosen included
            assert abs(mine["correct"] - theirs["correct"]) <= ROUNDING
            same, rows = same + (mine["correct"] == theirs["correct"]), rows + 1
        for name, number in record.metrics.items():
            if isinstance(number, float):
                assert slow[key].metrics[name] == pytest.approx(number, rel=1e-3), name
        if "vector_sha256" in record.metrics:
            (update, _), (other_update, _) = vectors(store, key), vectors(other, key)
            gap = norm({name: other_update[name] - x for name, x in update.items()})
            # Of the whole update: a key's bias has no gradient, so AdamW makes its update of rounding alone.
            assert gap <= 2e-3 * norm(update), record.identity
    assert same > 0.9 * rows


def vectors(store: Store, key: str) -> Any:
    from bench.store import task_vectors

    return task_vectors.load(store.read_vector(key), key)


def described(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its counts and bits."""
    return {name: value for name, value in row.items() if name not in ("correct", "bits")}
