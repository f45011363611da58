"""The pretrained model has W = I: class 0 of a picture (x, y) where x >= y."""

from linear_session import LinearSession

from bench.kinds import zero_shot
from bench.kinds.zero_shot import ZeroShot
from bench.store.records import SCHEMA, Record

CELL = ZeroShot("toy", "tower", "fp", (("one", "card 1"), ("two", "card 2"), ("shapes", "card 3")))
SETS = {
    ("one", "validation"): [((3, 2), 0), ((2, 3), 0)],
    ("one", "test"): [((2, 3), 0), ((2, 3), 1), ((3, 2), 0)],
    ("two", "validation"): [((2, 3), 0)],
    ("two", "test"): [((3, 2), 0), ((3, 2), 0), ((3, 2), 0), ((2, 3), 1)],
    ("shapes", "validation"): [((3, 2), 0)] * 5,
    ("shapes", "test"): [((3, 2), 1)] * 6,
}


def test_counts_of_every_task_and_the_control_on_validation_and_test() -> None:
    rows, found = zero_shot.run(CELL, LinearSession(SETS, {}))
    assert {(r["task"], r["split"]): (r["correct"], r["total"], r["bits"]) for r in rows} == {
        ("one", "validation"): (1, 2, b""),
        ("one", "test"): (2, 3, bytes([0b01100000])),
        ("two", "validation"): (0, 1, b""),
        ("two", "test"): (4, 4, bytes([0b11110000])),
        ("shapes", "validation"): (5, 5, b""),
        ("shapes", "test"): (0, 6, bytes([0])),
    }
    assert (len(rows), found) == (6, {})


def test_it_asks_for_each_split_once_with_the_tasks_own_card() -> None:
    session = LinearSession(SETS, {})
    zero_shot.run(CELL, session)
    tasks = ("one", "two", "shapes")
    assert session.asked == [(task, split) for task in tasks for split in ("validation", "test")]
    assert session.cards == [(f"{task}", f"card {n}") for n, task in enumerate(tasks, 1) for _ in range(2)]
    assert session.referred == []


def test_rows_are_references_of_a_model_that_nothing_made() -> None:
    rows, _ = zero_shot.run(CELL, LinearSession(SETS, {}))
    assert all(r["tasks"] == r["task"] for r in rows)
    same = {
        "kind": "zeroshot", "suite": "toy", "backbone": "tower", "finetuning": "", "operator": "", "options": "{}",
        "board": "reference", "protocol": "", "seed": -1, "scaling": 0.0, "selected": True,
    }  # fmt: skip
    assert [{name: r[name] for name in same} for r in rows] == [same] * 6
    assert Record(CELL.key, CELL.identity, tuple(rows)).table().schema.names == SCHEMA.names
