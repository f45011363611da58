"""What training is called with, and what an expert leaves behind; training itself is put aside."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from linear_session import LinearSession, Squared

from bench.cards.recipes import Recipe
from bench.kinds import expert
from bench.kinds.expert import Finetune
from bench.kinds.rows import seed_of
from bench.store import task_vectors
from bench.work import finetune
from bench.work.training import Training
from methods.finetuning import FINETUNING
from methods.regularizers import REGULARIZERS

CELL = Finetune(
    suite="toy", backbone="tower", backbone_fingerprint="fp", task="one", card="card", method="att", regularizer="",
    seed=5, version=1, recipe=Recipe(steps=2, batch_size=1, lr=1.0),
)  # fmt: skip
DELTA = {"w": torch.tensor([[0.0, 0.0], [1.0, 0.0]])}
FACTORS = {"w": (torch.ones(2, 1), torch.ones(1, 2))}
SETS = {
    ("one", "train"): [((1, 2), 0), ((3, 4), 1)],
    ("one", "validation"): [((10, 2), 1), ((10, 0), 1)],
    ("one", "test"): [((10, 2), 1), ((10, 0), 0), ((10, 1), 0)],
}


class Train:
    """`finetune.train` that only keeps its arguments."""

    def __init__(self, factors: Any = None) -> None:
        self.factors, self.written = factors, {}

    def __call__(self, *given: Any, **named: Any) -> finetune.Expert:
        names = ("tower", "pretrained", "head", "pictures", "training")
        self.given = dict(zip(names, given, strict=True)) | named
        return finetune.Expert(DELTA, self.factors, {"loss": 0.5})


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Train:
    found = Train()
    monkeypatch.setattr(finetune, "train", found)
    return found


def run(training: Train, cell: Finetune = CELL, **how: Any) -> tuple[list[dict], dict, LinearSession]:
    session = LinearSession(SETS, {}, store=SimpleNamespace(write_vector=training.written.__setitem__), **how)
    rows, found = expert.run(cell, session)
    return rows, found, session


def test_it_trains_on_the_training_images_of_its_task(training: Train) -> None:
    _, _, session = run(training)
    assert training.given["pictures"].images.reshape(-1, 2).tolist() == [[1, 2], [3, 4]]
    assert training.given["pictures"].labels.tolist() == [0, 1]
    assert session.asked == [("one", "train"), ("one", "validation"), ("one", "test")]
    assert session.cards == [("one", "card")] * 3


def test_it_trains_as_the_cell_says(training: Train) -> None:
    run(training, replace(CELL, method="lora", regularizer="orthoreg"))
    given = training.given
    assert given["training"] == Training(CELL.recipe, FINETUNING["lora"], REGULARIZERS["orthoreg"])
    assert (given["pictures"].mean, given["pictures"].std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert given["pretrained"]["w"].tolist() == given["head"].tolist() == [[1, 0], [0, 1]]
    assert given["checkpoint"].startswith("checkpoint of ")


@pytest.mark.parametrize("finetuning", [("nonlinear", ""), ("att", "orthoreg"), ("tta", "")])
def test_the_seed_is_that_of_task_and_index_whatever_the_method(training: Train, finetuning: tuple) -> None:
    method, regularizer = finetuning
    for index in (5, 6):
        run(training, replace(CELL, method=method, regularizer=regularizer, seed=index))
        assert training.given["seed"] == seed_of("finetune", "one", index)


def test_no_regularizer_is_none(training: Train) -> None:
    run(training)
    assert training.given["training"] == Training(CELL.recipe, FINETUNING["att"], None)


def test_counts_on_validation_and_test(training: Train) -> None:
    rows, _, _ = run(training)
    assert [(r["split"], r["correct"], r["total"], r["bits"]) for r in rows] == [
        ("validation", 1, 2, b""),
        ("test", 2, 3, bytes([0b11000000])),
    ]
    same = {
        "kind": "expert", "suite": "toy", "backbone": "tower", "finetuning": "att", "operator": "", "options": "{}",
        "board": "reference", "protocol": "", "tasks": "one", "task": "one", "seed": 5, "scaling": 1.0,
        "selected": True,
    }  # fmt: skip
    assert [{name: r[name] for name in same} for r in rows] == [same] * 2


@pytest.mark.parametrize(("method", "counts"), [("att", [1, 2]), ("tta", [0, 2])])
def test_it_is_evaluated_as_the_kind_of_model_that_it_is(training: Train, method: str, counts: list[int]) -> None:
    """Of (W x)^2: (10, 2) gives (100, 144) and, linearised, (100, 44); (10, 1) (100, 121) and (100, 21)."""
    rows, _, _ = run(training, replace(CELL, method=method), tower=Squared())
    assert [r["correct"] for r in rows] == counts


def test_the_vector_is_stored_under_the_cells_key_and_its_hash_is_a_metric(training: Train) -> None:
    training.factors = FACTORS
    _, found, _ = run(training)
    (data,) = training.written.values()
    assert training.written.keys() == {CELL.key}
    assert found == {"loss": 0.5, "vector_sha256": task_vectors.sha256(data)}
    delta, factors = task_vectors.load(data, "")
    assert torch.equal(delta["w"], DELTA["w"])
    assert torch.equal(factors["w"][0], FACTORS["w"][0])
