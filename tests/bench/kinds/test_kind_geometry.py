import json

import pytest
import torch
from linear_session import LinearSession

from bench.cards import suites
from bench.errors import BenchError
from bench.kinds import geometry
from bench.kinds.base import shared
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.session import Session
from bench.planning import grid
from bench.registry import catalogue
from bench.store import task_vectors
from bench.store.records import Record
from bench.store.store import Store
from bench.work.runtime import How

CELL = Geometry(
    suite="toy", backbone="toy", backbone_fingerprint="fp", tasks=(("one", "card"), ("two", "card")),
    experts=("a", "b"), finetuning="att", seed=0,
)  # fmt: skip


def test_metrics_and_no_rows() -> None:
    """Updates (3, 0; 0, 0) and (3, 0; 0, 4): cosine 9 / 15."""
    rows, found = geometry.run(CELL, LinearSession({}, {"a": [[3.0, 0.0], [0.0, 0.0]], "b": [[3.0, 0.0], [0.0, 4.0]]}))
    assert rows == []
    assert found["tasks"] == ["one", "two"]
    assert found["cosine"] == [[1.0, 0.6], [0.6, 1.0]]
    assert found["norms"] == [3.0, 5.0]
    assert found["layers"]["stable_rank"] == [pytest.approx((1 + 25 / 16) / 2, rel=1e-4)]
    assert found["layers"]["pretrained_tilt"] == [0.0]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_broken_vector_is_one_line() -> None:
    session = LinearSession({}, {"a": {"w": torch.full((2, 2), torch.nan)}, "b": [[3.0, 0.0], [0.0, 4.0]]})
    with pytest.raises(BenchError, match="'w' of expert 0 holds NaN"):
        geometry.run(CELL, session)


def test_it_runs_without_a_gpu_in_a_run_on_gpus(tmp_path) -> None:
    """Where torch sees no GPU, or is one without CUDA, as here: nothing asks for one."""
    smoke = grid.plan(suites.load("mini8"), grid.grid("smoke"), catalogue.load(), finetuning=["nonlinear"])
    experts = [cell for cell in smoke if isinstance(cell, Finetune)]
    store = Store(tmp_path / "store")
    session = Session(How(device="cuda", gpu_fraction=0.5), store)
    cell = Geometry(**shared(experts))
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    shape = session.evaluator(cell).backbone.pretrained[name].shape
    for seed, expert in enumerate(experts):
        update = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        data = task_vectors.dump({name: update}, None, {"key": expert.key})
        store.write_vector(expert.key, data)
        store.write(Record(expert.key, expert.identity, metrics={"vector_sha256": task_vectors.sha256(data)}))
    outcome = session.attempt(cell)
    assert (outcome.status, outcome.error) == ("done", "")
    record = store.read(cell.key)
    assert record.metrics["layers"]["names"] == [name]
    assert record.provenance["device"] == "cpu"
    assert len(record.provenance["weights"]) == 64
    assert not torch.cuda.is_initialized()
    assert [session.device(expert) for expert in experts] == ["cuda", "cuda"]
