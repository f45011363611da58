"""Rows and seeds: what every kind writes."""

import hashlib

import torch

from bench.kinds.rows import row, seed_of
from bench.kinds.zero_shot import ZeroShot
from bench.store.records import SCHEMA, Record

CELL = ZeroShot("toy", "tower", "fp", (("one", "card"),))
RIGHT = torch.tensor([True, False, True, True, False, False, False, False, True])


def test_a_seed_is_the_hash_of_purpose_task_and_index() -> None:
    """The first 63 bits of the sha256 of "finetune|digits|3"."""
    digest = hashlib.sha256(b"finetune|digits|3").hexdigest()
    assert seed_of("finetune", "digits", 3) == int(digest[:16], 16) // 2
    assert 0 <= seed_of("finetune", "digits", 3) < 2**63


def test_seeds_differ_by_purpose_by_task_and_by_index() -> None:
    asked = [(purpose, task, index) for purpose in ("finetune", "merge") for task in ("a", "b") for index in range(5)]
    assert len({seed_of(*one) for one in asked}) == len(asked) == 20


def test_a_test_row_has_counts_and_bits() -> None:
    """101100001 -> 10110000 1....... = 176, 128."""
    found = row(CELL, RIGHT, task="one", tasks="one+two", split="test", board="reference")
    assert (found["correct"], found["total"], found["bits"]) == (4, 9, bytes([176, 128]))
    where = {name: found[name] for name in ("kind", "suite", "backbone", "task", "tasks", "split", "board")}
    assert where == {
        "kind": "zeroshot", "suite": "toy", "backbone": "tower", "task": "one", "tasks": "one+two", "split": "test",
        "board": "reference",
    }  # fmt: skip


def test_a_validation_row_has_no_bits() -> None:
    found = row(CELL, RIGHT, task="one", tasks="one", split="validation", board="reference")
    assert (found["correct"], found["total"], found["bits"]) == (4, 9, b"")


def test_what_is_not_said_is_that_of_a_model_without_training() -> None:
    found = row(CELL, RIGHT, task="one", tasks="one", split="test", board="reference")
    usual = {name: found[name] for name in ("finetuning", "operator", "options", "protocol", "seed", "scaling")}
    assert usual == {"finetuning": "", "operator": "", "options": "{}", "protocol": "", "seed": -1, "scaling": 0.0}
    assert found["selected"] is True
    assert {"key", *found} == set(SCHEMA.names)


def test_what_is_said_counts() -> None:
    said = {"finetuning": "att", "operator": "ties", "options": '{"a":1}', "protocol": "fixed", "seed": 7}
    said |= {"scaling": 0.5, "selected": False, "kind": "variant"}
    found = row(CELL, RIGHT, task="one", tasks="one", split="test", board="data-free", **said)
    assert {name: found[name] for name in said} == said
    assert Record(CELL.key, CELL.identity, (found,)).table().num_rows == 1
