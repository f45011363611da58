"""A published expert (W = I + tau): class 1 of a picture (x, y) where y + x > x, tau = [[0, 0], [1, 0]]."""

from dataclasses import replace

import pytest
import torch
from linear_session import LinearSession, Squared

from bench.errors import DataError
from bench.kinds import imported
from bench.kinds.imported import Imported
from bench.store import task_vectors
from bench.store.store import Store

CELL = Imported(
    suite="toy", backbone="tower", backbone_fingerprint="fp", task="one", card="card", method="att",
    regularizer="orthoreg", seed=2, family="lab", sha256="0" * 64,
)  # fmt: skip
TAU = {"w": torch.tensor([[0.0, 0.0], [1.0, 0.0]])}
SETS = {
    ("one", "validation"): [((10, 2), 1), ((10, 0), 1)],
    ("one", "test"): [((10, 2), 1), ((10, 1), 1), ((10, 2), 0)],
}


@pytest.fixture
def store(tmp_path):
    found, data = Store(tmp_path / "store"), task_vectors.dump(TAU, None, {})
    found.write_vector(CELL.key, data)
    about = {"source": "there", "format": "vector", "notes": ["odd"], "vector_sha256": task_vectors.sha256(data)}
    found.write_import(CELL.key, {**about, "identity": CELL.identity, "more": "not for the record"})
    return found


def test_counts_on_validation_and_test(store) -> None:
    session = LinearSession(SETS, {}, store=store)
    rows, _ = imported.run(CELL, session)
    assert [(r["split"], r["correct"], r["total"], r["bits"]) for r in rows] == [
        ("validation", 1, 2, b""),
        ("test", 2, 3, bytes([0b11000000])),
    ]
    assert session.asked == [("one", "validation"), ("one", "test")]
    assert session.cards == [("one", "card")] * 2


def test_rows_are_those_of_an_expert_that_names_its_family(store) -> None:
    rows, _ = imported.run(CELL, LinearSession(SETS, {}, store=store))
    same = {
        "kind": "expert", "suite": "toy", "backbone": "tower", "finetuning": "att+orthoreg:lab", "operator": "",
        "options": "{}", "board": "reference", "protocol": "", "task": "one", "tasks": "one", "seed": 2,
        "scaling": 1.0, "selected": True,
    }  # fmt: skip
    assert [{name: r[name] for name in same} for r in rows] == [same] * 2


def test_what_is_known_about_the_file_is_kept(store) -> None:
    _, found = imported.run(CELL, LinearSession(SETS, {}, store=store))
    digest = task_vectors.sha256(store.read_vector(CELL.key))
    assert found == {"source": "there", "format": "vector", "notes": ["odd"], "vector_sha256": digest}


def test_another_vector_than_was_imported_is_refused(store) -> None:
    store.write_vector(CELL.key, task_vectors.dump({"w": 2 * TAU["w"]}, None, {}))
    with pytest.raises(DataError, match=rf"{CELL.key}\.safetensors is damaged; run `bench import` on its file again"):
        imported.run(CELL, LinearSession(SETS, {}, store=store))


@pytest.mark.parametrize(("method", "counts"), [("att", [1, 2]), ("tta", [0, 1])])
def test_a_tangent_method_is_evaluated_as_a_tangent_model(tmp_path, method: str, counts: list[int]) -> None:
    """Of (W x)^2: (10, 2) gives (100, 144) and, linearised, (100, 44)."""
    cell, store, data = replace(CELL, method=method), Store(tmp_path / "store"), task_vectors.dump(TAU, None, {})
    store.write_vector(cell.key, data)
    about = {
        "source": "",
        "format": "",
        "notes": [],
        "vector_sha256": task_vectors.sha256(data),
        "identity": cell.identity,
    }
    store.write_import(cell.key, about)
    rows, _ = imported.run(cell, LinearSession(SETS, {}, tower=Squared(), store=store))
    assert [r["correct"] for r in rows] == counts
