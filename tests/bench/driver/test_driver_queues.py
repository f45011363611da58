"""What cells ask of a cluster: a share of a GPU where a model is run, a core and no GPU elsewhere; and who may join."""

import io
import os
import tempfile
from functools import partial
from pathlib import Path

import clusters
import fakes
import pytest

from bench.checks import doctor
from bench.driver import execute, resources
from bench.driver.base import Drive
from bench.driver.common import Common
from bench.driver.progress import Progress
from bench.errors import BenchError
from bench.ground import versions
from bench.planning.schedule import Schedule
from bench.store.store import Store
from bench.work.runtime import How

CUDA = How(device="cuda", gpu_fraction=0.25)


@pytest.mark.parametrize(
    ("workers", "found", "expected"),
    [
        (How(), {"CPU": 2.0}, {None: 2}),
        (How(workers=1), {"CPU": 2.0}, {None: 1}),
        (How(), {}, {None: 1}),
        (CUDA, {"CPU": 16.0, "GPU": 2.0}, {True: 8, False: 8}),
        (CUDA, {"CPU": 4.0, "GPU": 2.0}, {True: 4, False: 1}),
        (CUDA, {"CPU": 16.0}, {True: 1, False: 15}),
        (How(workers=3, device="cuda", gpu_fraction=0.25), {"CPU": 16.0, "GPU": 2.0}, {True: 3, False: 13}),
        (How(device="cuda", gpu_fraction=0.4), {"CPU": 16.0, "GPU": 2.0}, {True: 4, False: 12}),
        (How(device="cuda", gpu_fraction=0.1), {"CPU": 16.0, "GPU": 1.0}, {True: 10, False: 6}),
    ],
)
def test_slots_by_hand(workers, found, expected):
    """A share lies within one GPU: of two GPUs, shares of 0.4 make four, not five."""
    assert resources.slots(workers, found) == expected


def test_a_request_that_the_cluster_cannot_satisfy_is_refused_at_once():
    *_, geometry = cells = fakes.with_geometry()
    resources.require(cells, How(), {"CPU": 1.0})
    resources.require(cells, CUDA, {"CPU": 1.0, "GPU": 1.0})
    resources.require([geometry], CUDA, {"CPU": 1.0})
    with pytest.raises(BenchError, match=r"a cell needs 0\.25 GPU, the cluster has 0"):
        resources.require(cells, CUDA, {"CPU": 2.0})


def test_common_is_the_code_the_versions_and_the_store(tmp_path):
    store = Store(tmp_path / "store")
    store.put("runs/ab.plan.json", b"{}")
    common = Common(store.address, "runs/ab.plan.json")
    assert set(common.versions) == set(versions.COMPUTE)
    common.check()
    with pytest.raises(BenchError, match=rf"does not see the driver's store {tmp_path}/store; mount it"):
        Common(store.address, "runs/cd.plan.json").check()
    with pytest.raises(BenchError, match="does not see the driver's store"):
        Common(str(tmp_path / "elsewhere"), common.sign).check()
    other = {**common.versions, "torch": "1.0", "code": "feed"}
    with pytest.raises(BenchError, match=r"has torch \S+ \(driver: 1\.0\), code \w{12} \(driver: feed\); install"):
        Common(store.address, common.sign, other).check()


def test_the_code_of_two_checkouts_differs_by_one_byte(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name / "bench" / "ground").mkdir(parents=True)
        (tmp_path / name / "bench" / "ground" / "versions.py").write_text(name)
        monkeypatch.setattr(versions, "ROOT", tmp_path / name)
        versions.code.cache_clear()
        (tmp_path / name / "said").write_text(versions.code())
    versions.code.cache_clear()
    assert (tmp_path / "one" / "said").read_text() != (tmp_path / "two" / "said").read_text()


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A folder that the second node does not see; where we are not root, one that is like any other."""
    return tmp_path_factory.mktemp("apart")


@pytest.fixture(scope="module")
def address(apart):
    paths = os.pathsep.join((str(Path(fakes.__file__).parent), str(clusters.ROOT)))
    hidden = "" if os.geteuid() else str(apart)
    with clusters.two_nodes({"PYTHONPATH": paths, "RAY_AUTH_MODE": "disabled"}, gpus=1, hidden=hidden) as found:
        yield found


def go(store, address, monkeypatch, seconds=0.2, **settings):
    """The run, and what it said."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    state, said = execute.schedule(fakes.with_geometry(), store), io.StringIO()
    session = partial(fakes.FakeSession, store.address, seconds=seconds)
    execute.run(state, store, session, How(address=address, **settings), Progress(said))
    return state, said.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cells_that_run_no_model_see_no_gpu_and_workers_stay_warm(address, apart, tmp_path, monkeypatch):
    """A folder named from here is the same folder to nodes that were started elsewhere; they share nothing else."""
    from bench.driver import ray_tune

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_tune, "_scratch", lambda: Path(tempfile.mkdtemp(dir=apart)))
    store = Store("store")
    state, said = go(store, address, monkeypatch, device="cuda", gpu_fraction=0.5)
    assert not state.failed
    assert "lost" not in said
    seen = {record.key: record.metrics for record in store.read_all()}
    assert seen.keys() == state.cells.keys()
    by_need = {models: {} for models in (True, False)}
    for key, cell in state.cells.items():
        by_need[cell.runs_model].setdefault(seen[key]["gpus"], []).append(seen[key]["pid"])
    assert {need: set(found) for need, found in by_need.items()} == {True: {"0"}, False: {""}}
    assert len(by_need[True]["0"]) == 9
    assert 2 <= len(set(by_need[True]["0"])) <= 4, "two workers share nine cells; one may be lost where cells wait"
    assert not set(by_need[True]["0"]) & set(by_need[False][""])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from a node")
def test_a_node_with_another_store_ends_the_run_in_one_line(address, apart, monkeypatch):
    with pytest.raises(BenchError, match=rf"^node \S+ does not see the driver's store {apart}/store; mount it"):
        go(Store(apart / "store"), address, monkeypatch, seconds=5)  # the other node may be slow to start its worker


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_node_with_other_code_ends_the_run_in_one_line(address, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "code", lambda: "feed")
    with pytest.raises(BenchError, match=r"^node \S+ has code \w{12} \(driver: feed\); install the same on every node"):
        go(Store(tmp_path / "store"), address, monkeypatch)
    assert Store(tmp_path / "store").done() == set()


@pytest.mark.slow
def test_room_follows_the_cluster():
    """As many again as fit wait with Tune; a cluster without GPUs is asked for one all the same."""
    from bench.driver import trials

    state = Schedule(fakes.with_geometry())
    run = trials.Active(Drive(state), None, How(device="cuda", gpu_fraction=0.5))
    run.fit({"CPU": 4.0, "GPU": 1.0})
    assert run.room == {True: 4, False: 4}
    assert run.drive.workers == 2
    first = [run.take().kind for _ in range(4)]
    assert first == ["zeroshot", "expert", "expert", "expert"]
    assert run.take() is None
    run.fit({"CPU": 8.0, "GPU": 3.0})
    assert run.room == {True: 12, False: 4}
    assert run.take().kind == "expert"
    run.fit({})
    assert run.room == {True: 2, False: 2}
    assert run.take() is None
    run.how = How(workers=3, address="auto")
    run.fit({"CPU": 8.0})
    assert run.room == {None: 3}, "on a cluster of others, --workers is the limit"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from a node")
def test_doctor_asks_every_node_and_sees_which_store_is_not_shared(address, apart, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for folder, unshared in ((tmp_path, 0), (apart, 1)):
        found = doctor.nodes(address, str(folder / "store"), "mini8", [], "cpu")
        assert sum("has another folder where the store is" in f.said for f in found) == unshared
        assert len({f.said.partition(": ")[0] for f in found}) == 2, "each node has said something"
        assert not list(folder.glob(".bench-doctor*"))
