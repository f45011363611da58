"""What an import stores and what an export holds, number by number, on weights of two by two."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.cards import datasets, suites
from bench.cards.recipes import Recipe
from bench.errors import BenchError, UnknownName
from bench.exchange import experts
from bench.kinds import from_identity
from bench.kinds.addition import Addition
from bench.kinds.base import field_values
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.imported import Imported
from bench.kinds.negation import Negation
from bench.kinds.posthoc import Posthoc
from bench.kinds.zero_shot import ZeroShot
from bench.registry import catalogue
from bench.store import task_vectors
from bench.store.records import Record
from bench.store.store import Store
from methods.operator import Operator
from tests.bench.kinds.linear_session import LinearSession

SUITE, KNOWN = suites.load("mini8"), catalogue.load()
CARD = suites.backbone("mini")
NAME = "transformer.resblocks.0.attn.in_proj_weight"
BASE = SimpleNamespace(card=CARD, pretrained={NAME: torch.ones(2, 2), "bias": torch.zeros(2)})
DELTA = {NAME: torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "bias": torch.zeros(2)}
WHERE = {"suite": "mini8", "backbone": "mini", "backbone_fingerprint": CARD.fingerprint}
TASKS = tuple((task, datasets.load(task).fingerprint) for task in ("digits", "numbers"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch, store: Store) -> Any:
    """`bring(...)`: an import of a file that holds `DELTA`."""

    def imported(*, delta: Any = DELTA, format: str = "state dict", pairs: Any = None, **how: Any) -> Imported:
        expert = SimpleNamespace(
            format=format, pairs=pairs, family="lab", sha256="f" * 64, source="there", notes=("odd",)
        )
        monkeypatch.setattr(experts.checkpoints, "task_vector", lambda found, base: dict(delta))
        return experts.bring(Path("file.pt"), expert, store, SUITE, BASE, KNOWN, task="numbers", **how)

    return imported


def test_an_import_is_a_cell_of_the_file_the_task_and_the_backbone(bring: Any) -> None:
    cell = bring(finetuning="nonlinear+orthoreg", seed=3)
    assert cell == Imported(
        **WHERE, task="numbers", card=datasets.load("numbers").fingerprint, method="nonlinear", regularizer="orthoreg",
        seed=3, family="lab", sha256="f" * 64,
    )  # fmt: skip


def test_the_hash_of_an_import_is_that_of_the_vector_in_the_store(bring: Any, store: Store) -> None:
    cell = bring()
    data, kept = store.read_vector(cell.key), store.read_import(cell.key)
    assert kept["vector_sha256"] == task_vectors.sha256(data)
    assert {name: kept[name] for name in ("source", "format", "notes")} == {
        "source": "there", "format": "state dict", "notes": ["odd"],
    }  # fmt: skip
    assert from_identity(kept["identity"], cell.key) == cell
    delta, factors = task_vectors.load(data, "here")
    assert delta.keys() == DELTA.keys()
    assert all(torch.equal(delta[name], DELTA[name]) for name in DELTA)
    assert factors == {}


@pytest.mark.parametrize(
    ("found", "finetuning"),
    [
        ({}, "nonlinear"),
        ({"format": "linearised"}, "tta"),
        ({"pairs": {NAME: (torch.ones(2, 1), torch.ones(1, 2))}}, "lora"),
    ],
)
def test_the_usual_fine_tuning_is_what_the_file_shows(bring: Any, found: dict[str, Any], finetuning: str) -> None:
    assert bring(**found).method == finetuning


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"format": "linearised", "finetuning": "att"}, "is a linearised checkpoint and att no tangent method"),
        ({"finetuning": "lora"}, "is no LoRA adapter, which lora does not fit"),
        ({"pairs": {NAME: ()}, "finetuning": "att"}, "is a LoRA adapter, which att does not fit"),
        ({"delta": {NAME: torch.zeros(2, 2)}}, "holds the pretrained weights themselves"),
        ({"delta": DELTA | {"bias": torch.ones(2)}, "finetuning": "att"}, "was not fine-tuned by att: 1 other tensors"),
    ],
)
def test_a_file_that_is_not_what_it_is_said_to_be_is_refused(bring: Any, store: Store, how: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        bring(**how)
    assert store.imports() == {}


def test_of_att_only_the_attention_matrices_are_kept(bring: Any, store: Store) -> None:
    delta, _ = task_vectors.load(store.read_vector(bring(finetuning="att").key), "")
    assert delta.keys() == {NAME}


EXPERT = Finetune(
    **WHERE, task="digits", card=TASKS[0][1], method="att", regularizer="", seed=0, version=1,
    recipe=Recipe(steps=1, batch_size=1, lr=1.0),
)  # fmt: skip
OTHER = replace(EXPERT, task="numbers", card=TASKS[1][1])
MERGE = Addition(
    **WHERE, tasks=TASKS, experts=(EXPERT.key, OTHER.key), finetuning="att", operator="task_arithmetic", version=1,
    options="{}", coefficients=(0.0, 0.5), board="validation-tuned", seed=0,
)  # fmt: skip
MINUS = Negation(
    **WHERE, task="digits", card=TASKS[0][1], control="shapes", control_card="", experts=(EXPERT.key,),
    finetuning="att", coefficients=(0.0, 0.5), keep=0.95, seed=0,
)  # fmt: skip


def row(cell: Any, task: str, split: str, correct: int, scaling: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": cell.kind, "suite": "mini8", "backbone": "mini", "finetuning": cell.finetuning,
        "operator": getattr(cell, "operator", ""), "options": "{}", "board": "", "protocol": "", "tasks": task,
        "task": task, "split": split, "seed": 0, "scaling": scaling, "selected": True, "correct": correct, "total": 8,
        "bits": b"",
    } | more  # fmt: skip


def record(cell: Any, *rows: dict[str, Any], **about: Any) -> Record:
    return Record(cell.key, cell.identity, rows, {}, about)


SWEPT = (row(MERGE, "digits", "validation", 7, 0.0), row(MERGE, "digits", "validation", 8, 0.5))
TESTED = (row(MERGE, "digits", "test", 4, 0.5), row(MERGE, "numbers", "test", 2, 0.5))


def session(**how: Any) -> LinearSession:
    return LinearSession({}, {EXPERT.key: [[1.0, 2.0], [0.0, 0.0]], OTHER.key: [[0.0, 0.0], [4.0, 8.0]]}, **how)


def test_a_merge_is_done_again_and_taken_at_the_coefficient_that_was_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    warm, held = session(), []
    monkeypatch.setattr(experts.code, "hold", lambda registry, *cell: held.append((registry, *cell)))
    found = experts.model(record(MERGE, *SWEPT, *TESTED, source="abc"), warm)
    assert (found.name, found.scaling, found.tangent) == ("att/task_arithmetic", 0.5, False)
    assert found.vector["w"].tolist() == [[1, 2], [4, 8]]
    assert held == [(warm.registry, MERGE, {"source": "abc"})]
    assert (warm.asked, found.cell) == ([], MERGE)


def test_an_expert_is_its_own_vector_and_a_negation_the_opposite() -> None:
    found = experts.model(record(EXPERT, row(EXPERT, "digits", "test", 4, 1.0)), session())
    assert (found.name, found.scaling, found.vector["w"].tolist()) == ("att/expert", 1.0, [[1, 2], [0, 0]])
    minus = experts.model(record(MINUS, row(MINUS, "digits", "test", 1, 0.25)), session())
    assert (minus.name, minus.scaling, minus.vector["w"].tolist()) == ("att minus digits", -0.25, [[1, 2], [0, 0]])


def test_post_hoc_is_a_tangent_model_at_the_coefficient_of_the_merge(store: Store) -> None:
    """Its record begins with its linearised experts, which are at 1."""
    cell = Posthoc(**field_values(MERGE))
    alone = [row(cell, task, "test", 8, 1.0, operator="", tasks=task) for task in ("digits", "numbers")]
    merged = [row(cell, task, "test", n, 0.5) for task, n in (("digits", 4), ("numbers", 2))]
    found = experts.model(record(cell, *alone, *merged), session())
    assert (found.scaling, found.tangent) == (0.5, True)
    assert experts.describe(found, BASE, store).results == [("digits", 0.5, 8), ("numbers", 0.25, 8)]


def test_tangent_models_are_known() -> None:
    cell = replace(EXPERT, method="tta")
    warm = LinearSession({}, {cell.key: [[1.0, 0.0], [0.0, 0.0]]})
    assert experts.model(record(cell, row(cell, "digits", "test", 4, 1.0)), warm).tangent


def test_of_an_operator_that_knows_the_task_one_model_is_chosen() -> None:
    own = Operator("own", lambda vectors: vectors, per_task=True)
    cell = replace(MERGE, operator="own")
    kept = record(cell, row(cell, "digits", "test", 4, 1.0))
    warm = session(operators=[own])
    assert experts.model(kept, warm, "numbers").vector["w"].tolist() == [[0, 0], [4, 8]]
    with pytest.raises(BenchError, match="own has one model for each task; name one with --task: digits, numbers"):
        experts.model(kept, warm)


def test_what_is_no_model_is_not_exported() -> None:
    cell = Geometry(**WHERE, tasks=TASKS, experts=(EXPERT.key,), finetuning="att", seed=0)
    with pytest.raises(BenchError, match="is a geometry, not a model"):
        experts.model(record(cell), session())
    with pytest.raises(BenchError, match="needs factors"):
        experts.model(Record(MERGE.key, MERGE.identity, (), {"not_applicable": "needs factors"}), session())


def model(scaling: float = -0.5, **changed: Any) -> experts.Model:
    kept = record(MERGE, *SWEPT, *TESTED)
    return replace(experts.Model("att/task_arithmetic", MERGE, kept, {NAME: DELTA[NAME]}, scaling, False), **changed)


def test_an_exported_vector_is_scaled(tmp_path: Path, store: Store) -> None:
    out = tmp_path / "vector.safetensors"
    digest = experts.export(model(), BASE, out, "vector", store)
    data = out.read_bytes()
    assert digest == task_vectors.sha256(data)
    assert task_vectors.load(data, "")[0][NAME].tolist() == [[-0.5, -1.0], [-1.5, -2.0]]


def test_an_exported_tower_is_the_pretrained_one_and_the_scaled_vector(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def written(params: Any, out: Path, **more: Any) -> str:
        given.update(more, params=params, out=out)
        return "the hash"

    monkeypatch.setattr(experts.checkpoints, "export_open_clip", written)
    monkeypatch.setattr(experts.backbone, "rest", lambda card: {"text": card.name})
    assert experts.export(model(), BASE, tmp_path / "out", "open_clip", store) == "the hash"
    assert given["params"][NAME].tolist() == [[0.5, 0.0], [-0.5, -1.0]]
    assert given["params"]["bias"].tolist() == [0, 0]
    assert BASE.pretrained[NAME].tolist() == [[1, 1], [1, 1]]
    assert (given["rest"], given["out"]) == ({"text": "mini"}, tmp_path / "out")
    assert given["about"].results == [("digits", 0.5, 8), ("numbers", 0.25, 8)]


def test_a_tangent_model_a_wrong_format_and_a_taken_place_are_refused(tmp_path: Path, store: Store) -> None:
    for form in ("open_clip", "hf"):
        with pytest.raises(BenchError, match="was measured as a tangent model, which no file of an ordinary model"):
            experts.export(model(tangent=True), BASE, tmp_path / "out", form, store)
    assert experts.export(model(tangent=True), BASE, tmp_path / "out", "vector", store)
    with pytest.raises(BenchError, match="exists; name another place"):
        experts.export(model(), BASE, tmp_path / "out", "vector", store)
    with pytest.raises(UnknownName, match="'onnx'"):
        experts.export(model(), BASE, tmp_path / "else", "onnx", store)


def test_a_card_of_a_model_says_how_it_was_made_and_what_it_gets_right(store: Store) -> None:
    about = experts.describe(model(0.5), BASE, store)
    assert about.tasks == ["digits", "numbers"]
    assert about.results == [("digits", 0.5, 8), ("numbers", 0.25, 8)]
    assert "pretrained weights + (0.5) x task vector att/task_arithmetic, suite mini8, seed 0" in about.recipe
    assert "options {}, board validation-tuned" in about.recipe
    assert about.pretrained == f'bundled "{CARD.fingerprint}"'
    assert [note for note in about.notes if MERGE.key in note]
    for task in about.tasks:
        assert f"{task}: {datasets.load(task).licence}" in about.licence


def test_a_card_of_published_experts_names_their_files(bring: Any, store: Store) -> None:
    cell = bring()
    about = experts.describe(model(cell=cell), BASE, store)
    assert any(f"numbers: imported from there (sha256 {'f' * 64}); odd" in note for note in about.notes)
    assert about.tasks == ["numbers"]


def test_a_record_is_found_by_its_key_or_by_its_row(store: Store) -> None:
    store.write(record(MERGE, *SWEPT, *TESTED))
    store.write(record(EXPERT, row(EXPERT, "digits", "test", 4, 1.0)))
    store.write(record(OTHER, row(OTHER, "numbers", "test", 4, 1.0)))
    zero = ZeroShot("mini8", "mini", CARD.fingerprint, TASKS)
    store.write(
        Record(zero.key, zero.identity, (row(EXPERT, "digits", "test", 1, 0.0, kind="zeroshot", finetuning=""),))
    )
    assert experts.find(store, MERGE.key[:6]).key == MERGE.key
    assert experts.find(store, "att/task_arithmetic").key == MERGE.key
    assert experts.find(store, "att/expert", task="numbers").key == OTHER.key
    with pytest.raises(BenchError, match="means 2 cells"):
        experts.find(store, "att/expert")
    with pytest.raises(UnknownName, match="did you mean 'att/task_arithmetic'"):
        experts.find(store, "att/task_arithmetik")
    with pytest.raises(BenchError, match="means nothing in"):
        experts.find(store, "ffffff")


def test_a_path_names_its_task_as_releases_do() -> None:
    suite = suites.load("vision8")
    for path, task in {
        "ViT-B-32/DTDVal/finetuned.pt": "dtd",
        "ViT-B-32/MNIST/x.pt": "mnist",
        "clip-vit-base-patch32_eurosat": "eurosat",
        "clip-vit-base-patch32_stanford-cars": "cars",
        "a/svhn.pt": "svhn",
    }.items():
        assert experts.task_of(Path(path), suite) == task
    with pytest.raises(BenchError, match="its path names dtd and mnist; give --task"):
        experts.task_of(Path("mnist/dtd.pt"), suite)
