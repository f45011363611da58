"""What a session hands to the kinds, keeps warm between them and writes about them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.cards import datasets, suites
from bench.cards.recipes import Recipe
from bench.errors import BenchError, StoreError, Unwritable
from bench.kinds import FILES, KINDS
from bench.kinds import session as run
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.session import Session, headline
from bench.kinds.zero_shot import ZeroShot
from bench.pixels import images
from bench.store import task_vectors
from bench.store.records import Record
from bench.store.store import Store
from bench.work.runtime import How

DIGITS = datasets.load("digits")
CELL = ZeroShot("mini8", "mini", suites.backbone("mini").fingerprint, (("digits", DIGITS.fingerprint),))
EXPERT = Finetune(
    suite="mini8", backbone="mini", backbone_fingerprint=CELL.backbone_fingerprint, task="digits",
    card=DIGITS.fingerprint, method="att", regularizer="", seed=0, version=1,
    recipe=Recipe(steps=2, batch_size=2, lr=0.1),
)  # fmt: skip


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session that has a backbone. Its store is only read."""
    session = Session(How(), Store(tmp_path_factory.mktemp("warm") / "store"))
    session.evaluator(CELL)
    return session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(How(), Store(tmp_path / "store"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`runs(function)`: what the cell does instead of what its kind does."""
    return lambda function: monkeypatch.setitem(KINDS, "zeroshot", replace(KINDS["zeroshot"], run=function))


def picked(session: Session, fingerprint: str, split: datasets.Split) -> tuple[images.Images, torch.Tensor]:
    """Images and head of one split of the digits."""
    (found,) = session.image_sets(CELL, [("digits", fingerprint)], split)
    return found


def test_every_kind_is_run_by_its_own_function() -> None:
    """The built-in ones by name; any other by the `run` of the file that declares it."""
    homes = {name: (kind.run.__module__.rpartition(".")[2], kind.run.__name__) for name, kind in KINDS.items()}
    built_in = {
        "zeroshot": ("zero_shot", "run"), "expert": ("expert", "run"), "imported": ("imported", "run"),
        "addition": ("addition", "run"), "negation": ("negation", "run"), "geometry": ("geometry", "run"),
        "disentangle": ("disentanglement", "run"), "posthoc": ("posthoc", "run"), "strength": ("strength", "run"),
        "variant": ("strength", "run_expert"), "subsets": ("addition", "run"),
    }  # fmt: skip
    own = {
        kind.name: (file.__name__.rpartition(".")[2], "run")
        for file in FILES for kind in file.KINDS if kind.name not in built_in
    }  # fmt: skip
    assert homes == built_in | own


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_is_the_one_that_its_card_describes(warm: Session, split: datasets.Split) -> None:
    for _ in range(2):
        found, head = picked(warm, DIGITS.fingerprint, split)
        assert images.digest(found) == DIGITS.splits[split].sha256
        assert torch.equal(head, warm.evaluator(CELL).backbone.heads["digits"])


def test_images_of_several_tasks_come_in_their_order_with_their_heads(warm: Session) -> None:
    named = [(task, datasets.load(task).fingerprint) for task in ("signs", "digits")]
    found = warm.image_sets(CELL, named, "validation")
    assert [images.digest(some) for some, _ in found] == [
        datasets.load(t).splits["validation"].sha256 for t, _ in named
    ]
    assert [len(head) for _, head in found] == [20, 10]


def test_the_evaluator_has_the_heads_of_all_tasks_and_of_the_control(warm: Session) -> None:
    suite = suites.load("mini8")
    assert warm.evaluator(CELL).backbone.heads.keys() == {*suite.tasks, suite.control}
    assert warm.evaluator(CELL) is warm.evaluator(EXPERT)


def test_a_card_or_a_backbone_that_has_changed_since_the_plan_is_refused(warm: Session) -> None:
    with pytest.raises(BenchError, match=r"the card digits\.toml has changed since this cell was planned; plan again"):
        picked(warm, "another", "validation")
    with pytest.raises(BenchError, match="backbone mini has changed since this cell was planned; plan again"):
        warm.evaluator(replace(CELL, backbone_fingerprint="another"))


@pytest.mark.parametrize(
    ("finetuning", "tangent"),
    [("nonlinear", False), ("att+orthoreg", False), ("tta", True), ("tta+orthoreg", True), ("tta+orthoreg:lab", True)],
)
def test_only_tangent_methods_are_evaluated_as_tangent_models(warm: Session, finetuning: str, tangent: bool) -> None:
    assert warm.tangent(finetuning) is tangent


def row(task: str, split: str, correct: int, total: int, **more: object) -> dict:
    usual = {
        "kind": "expert", "suite": "mini8", "backbone": "mini", "finetuning": "att", "operator": "", "options": "{}",
        "board": "reference", "protocol": "", "tasks": task, "task": task, "split": split, "seed": 0, "scaling": 1.0,
        "selected": True, "correct": correct, "total": total, "bits": b"",
    }  # fmt: skip
    return usual | more


def test_accuracies_of_experts_are_those_of_the_split_that_is_asked_for(session: Session) -> None:
    for key, task, right in (("a", "digits", (3, 1)), ("b", "signs", (2, 4)), ("c", "land", (0, 0))):
        rows = tuple(row(task, split, n, 4) for split, n in zip(("validation", "test"), right, strict=True))
        session.store.write(Record(key, {"kind": "expert"}, rows))
    assert session.expert_accuracy(["b", "a"], "validation") == {"digits": 0.75, "signs": 0.5}
    assert session.expert_accuracy(["b", "a"], "test") == {"digits": 0.25, "signs": 1.0}


def test_a_vector_is_the_one_that_its_record_names(session: Session) -> None:
    delta = {"w": torch.ones(2)}
    data = task_vectors.dump(delta, None, {})
    session.store.write_vector("a", data)
    session.store.write(Record("a", {"kind": "expert"}, metrics={"vector_sha256": task_vectors.sha256(data)}))
    assert torch.equal(session.vectors("a")[0]["w"], delta["w"])
    session.forget()
    session.store.write_vector("a", task_vectors.dump({"w": torch.zeros(2)}, None, {}))
    with pytest.raises(BenchError, match=r"vectors/a\.safetensors is damaged"):
        session.vectors("a")


def test_a_record_is_what_the_kind_found_and_where(session: Session, runs: Callable[..., None]) -> None:
    rows = [row("digits", "test", 1, 2)]
    runs(lambda cell, given: (rows, {"norm": 2.0}))
    record = session.execute(CELL)
    assert (record.key, record.identity, record.rows, record.metrics) == (
        CELL.key,
        CELL.identity,
        (rows[0],),
        {"norm": 2.0},
    )
    assert record.provenance["device"] == "cpu"
    assert {"seconds", "cpu_seconds", "host", "torch", "bench", "commit"} <= record.provenance.keys()
    assert "weights" not in record.provenance  # no backbone was loaded


def test_an_attempt_says_and_stores_what_was_found(session: Session, runs: Callable[..., None]) -> None:
    rows = [row("digits", "test", 1, 2, kind="zeroshot", finetuning="")]
    runs(lambda cell, given: (rows, {}))
    outcome = session.attempt(CELL)
    assert (outcome.key, outcome.status, outcome.error) == (CELL.key, "done", "")
    assert outcome.headline == {"name": "zeroshot", "accuracy": 0.5}
    assert session.store.read(CELL.key).rows == (rows[0],)


def test_a_failure_is_kept_until_the_cell_succeeds(session: Session, runs: Callable[..., None]) -> None:
    def wrong(cell: object, given: object) -> None:
        raise BenchError("planted")

    runs(wrong)
    assert session.attempt(CELL).status == "failed"
    kept = session.store.read_failure(CELL.key)
    assert (kept["error"], kept["identity"]) == ("planted", CELL.identity)
    assert session.store.done() == set()
    runs(lambda cell, given: ([], {}))
    assert session.attempt(CELL).status == "done"
    assert (session.store.done(), session.store.failed()) == ({CELL.key}, set())


def test_a_store_that_cannot_be_written_is_no_failure_of_the_cell(
    session: Session, monkeypatch: pytest.MonkeyPatch, runs: Callable[..., None]
) -> None:
    def full(record: Record) -> None:
        raise Unwritable("no space left")

    runs(lambda cell, given: ([], {}))
    monkeypatch.setattr(session.store, "write", full)
    outcome = session.attempt(CELL)
    assert (outcome.status, outcome.error) == ("refused", "no space left")
    assert session.store.failed() == set()


def test_a_headline_is_the_mean_test_accuracy_over_the_merged_tasks() -> None:
    merged = {"kind": "addition", "operator": "ties", "tasks": "digits+signs"}
    rows = (
        row("digits", "validation", 4, 4, **merged),
        row("digits", "test", 1, 4, **merged),
        row("signs", "test", 2, 4, **merged),
    )
    assert headline(Record("k", {}, rows)) == {"name": "att/ties", "accuracy": 0.375}
    negated = {"kind": "negation", "operator": "negation", "tasks": "digits"}
    rows = (row("digits", "test", 1, 4, **negated), row("shapes", "test", 4, 4, **negated))
    assert headline(Record("k", {}, rows)) == {"name": "att/negation", "accuracy": 0.25}
    assert headline(Record("k", {}, (row("digits", "validation", 1, 4),))) == {}


def test_a_state_belongs_to_its_cell_and_to_the_code_that_wrote_it(session: Session) -> None:
    first = session.checkpoint(EXPERT)
    other = session.checkpoint(replace(EXPERT, seed=1))
    assert first is not None
    assert other is not None
    assert first.path.name == f"{EXPERT.key}.safetensors"
    assert first.path.parent == other.path.parent
    assert first.path != other.path
    assert all(f"{name} {run.here()[name]}" in first.made_by for name in ("bench", "torch", "machine"))
    assert Session(replace(session.runtime, save_minutes=0.0), session.store).checkpoint(EXPERT) is None


def test_images_that_others_decoded_in_another_order_are_refused(
    warm: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics pair images by their row, so a store remembers the rows of downloaded splits."""
    monkeypatch.setattr(warm, "store", Store(tmp_path / "store"))
    monkeypatch.setattr(warm, "_images", {})
    real = images.load(DIGITS, "validation", 32)
    monkeypatch.setattr(run.cards, "load", lambda task: SimpleNamespace(fingerprint="fp", drawn=False))
    monkeypatch.setattr(run.images, "load", lambda *_: real)
    for digest in ("a" * 64, "a" * 64):
        monkeypatch.setattr(run.images, "row_hash", lambda *_, digest=digest: digest)
        warm._images.clear()
        picked(warm, "fp", "validation")
    monkeypatch.setattr(run.images, "row_hash", lambda *_: "b" * 64)
    warm._images.clear()
    with pytest.raises(StoreError, match=r"digits-validation on this machine .* is not what the results"):
        picked(warm, "fp", "validation")


def test_only_cells_that_run_a_model_go_to_the_device(tmp_path: Path) -> None:
    session = Session(How(device="cuda"), Store(tmp_path / "store"))
    geometry = Geometry(
        suite="s", backbone="mini", backbone_fingerprint="", tasks=(), experts=(), finetuning="att", seed=0
    )
    assert [session.device(cell) for cell in (CELL, EXPERT, geometry)] == ["cuda", "cuda", "cpu"]
