"""The replay of stored curves counts what it says it counts."""

import json

import pytest

from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.store import results
from bench.store.records import Record
from bench.store.store import Store
from bench.work.coefficients import COARSE
from benchmarks.coefficients import measure, replay

GRID = tuple(i / 10 for i in range(11))
COMMON = {"suite": "toy", "backbone": "toy", "backbone_fingerprint": "fp"}
EXPERT = Finetune(
    **COMMON, task="one", card="card", method="att", regularizer="", seed=0, version=1,
    recipe=Recipe(steps=1, batch_size=1, lr=1.0),
)  # fmt: skip


def merge(**more) -> Addition:
    return Addition(
        **COMMON, tasks=(("one", "card"),), experts=(EXPERT.key,), finetuning="att", version=1, options="{}",
        coefficients=GRID, board="validation-tuned", seed=0, **more,
    )  # fmt: skip


def record(cell, counts) -> Record:
    common = dict.fromkeys(("finetuning", "operator", "board", "protocol", "tasks"), "") | {
        "kind": cell.kind, "suite": "toy", "backbone": "toy", "options": "{}", "task": "one", "split": "validation",
        "seed": 0, "selected": False, "total": 100, "bits": b"",
    }  # fmt: skip
    rows = tuple(common | {"scaling": c, "correct": n} for c, n in counts.items())
    return Record(cell.key, json.loads(json.dumps(cell.identity)), rows)


def test_a_second_peak_between_the_fourths_is_lost_by_hand() -> None:
    """0.6 at 0.4, 0.64 at 0.7, 0.1 elsewhere; where 0.6 has 0.63 it leads to 0.7."""
    reference = {"one": 0.8}
    narrow = {c: {"one": 0.1} for c in GRID} | {0.4: {"one": 0.6}, 0.7: {"one": 0.64}}
    assert replay(narrow, reference) == pytest.approx((0.7, 0.4, 5.0, 7 / 10))  # 0.4, 0.8, 1.0; 0.2, 0.6; 0.3, 0.5
    assert replay(narrow | {0.6: {"one": 0.63}}, reference)[:2] == (0.7, 0.7)


def test_whole_sweeps_of_a_store_are_replayed_and_others_are_not(tmp_path) -> None:
    store = Store(tmp_path)
    peak = {c: 80 - round(100 * abs(c - 0.3)) for c in GRID}
    narrow = dict.fromkeys(GRID, 10) | {0.4: 60, 0.7: 64}
    for cell, counts in {
        EXPERT: {1.0: 80},
        merge(operator="ties"): peak,
        merge(operator="magmax"): narrow,
        merge(operator="sce", sweep=COARSE): narrow,
    }.items():
        store.write(record(cell, counts))
    found = measure(*results.load(store))
    assert (found["sweeps"], found["same"], found["worst"].keys()) == (2, 0.5, {"att/magmax seed 0"})
    assert (found["lost_mean"], found["lost_most"]) == pytest.approx((2.5, 5.0))
    with pytest.raises(BenchError, match="--sweep whole"):
        measure(*(table.slice(0, 0) for table in store.tables()))
