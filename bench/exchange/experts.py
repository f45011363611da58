"""Published experts into a store, models out of it: what `bench import` and `bench export` do over
`bench.exchange.checkpoints`.

An imported expert is a task vector in the store, and a cell (`bench.kinds.imported`) that evaluates it; the cell is
named after the file's hash. An export is built from the store alone: task vectors, the operator, the coefficient
that validation chose, and the results that the model card states.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from torch import Tensor

from bench.cards import suites
from bench.cards.suites import Suite
from bench.errors import BenchError, DataError, UnknownName
from bench.exchange import checkpoints
from bench.exchange.checkpoints import About
from bench.ground import metrics, names
from bench.ground.versions import BENCH, commit
from bench.kinds import addition, code, from_identity
from bench.kinds.addition import Addition
from bench.kinds.base import KEY, Expert
from bench.kinds.expert import Finetune
from bench.kinds.imported import Imported
from bench.kinds.negation import Negation
from bench.kinds.session import Session
from bench.registry.catalogue import Catalogue
from bench.store import task_vectors
from bench.store.records import Record
from bench.store.store import Store
from bench.work import backbone
from bench.work.backbone import Backbone
from methods.finetuning.record import attention_matrices

FORMATS = ("open_clip", "hf", "vector")
MODELS = (Finetune.kind, Addition.kind, Negation.kind)
"""Kinds of rows that one model is behind."""
ALIASES = {"stanford-cars": "cars", "stanfordcars": "cars"}


def task_of(path: Path, suite: Suite) -> str:
    """The task that a file's path names as releases do: `DTDVal/finetuned.pt`, `clip-vit-base-patch32_dtd`."""
    words = [w for part in path.parts[-3:] for w in (part.partition(".")[0], part.rpartition("_")[2])]
    plain = [ALIASES.get(w.lower(), w.lower()).removesuffix("val") for w in words]
    tasks = sorted({task for task in suite.tasks if task.removesuffix("_tta") in plain})
    if len(tasks) != 1:
        raise BenchError(
            f"{path}: its path names {' and '.join(tasks) or 'no task of suite ' + suite.name}; give --task"
        )
    return tasks[0]


def tasks_of(files: Sequence[Path], tasks: Sequence[str], suite: Suite) -> list[str]:
    """The task of each file: `tasks` in their order, or without any, what the files' paths say.

    A file that is not there comes first: the user thinks of another one, whose path may name its task.
    """
    for path in files:
        if not os.path.exists(path):  # Path.exists raises what a forbidden folder raises
            raise DataError(f"cannot find {path}; give the path of a checkpoint, an adapter or a hub model's folder")
    for task in tasks:
        if task not in suite.tasks:
            raise UnknownName(f"task of suite {suite.name}", task, suite.tasks)
    if not tasks:
        return [task_of(path, suite) for path in files]
    if len(tasks) == len(files):
        return list(tasks)
    if len(tasks) == 1:
        raise BenchError(f"{len(files)} files for one task {tasks[0]}; each expert has its own: give --task for each")
    raise BenchError(f"{len(tasks)} tasks given, files: {len(files)}; give --task once for each file, in their order")


def bring(
    path: Path,
    expert: checkpoints.Imported,
    store: Store,
    suite: Suite,
    base: Backbone,
    catalogue: Catalogue,
    *,
    task: str,
    finetuning: str = "",
    seed: int = 0,
) -> Imported:
    """Put the task vector of a published expert, read from `path`, into the store; the cell that evaluates it.

    `finetuning` is `tta` by default for linearised checkpoints, `lora` for adapters and `nonlinear` for all others.
    Raises BenchError or DataError for one that is not an expert of this backbone, or was not fine-tuned in this way.
    """
    linearised = expert.format == "linearised"
    finetuning = finetuning or ("tta" if linearised else "lora" if expert.pairs else "nonlinear")
    method, regularizer = catalogue.split_finetuning(finetuning)
    if linearised and not catalogue.finetuning[method]["tangent"]:
        raise BenchError(f"{path} is a linearised checkpoint and {finetuning} no tangent method; give --finetuning tta")
    if bool(expert.pairs) != (method == "lora"):
        kind = "a LoRA adapter" if expert.pairs else "no LoRA adapter"
        raise BenchError(f"{path} is {kind}, which {finetuning} does not fit; give --finetuning, or leave it out")
    delta = checkpoints.task_vector(expert, base.pretrained)
    if not any(bool(t.any()) for t in delta.values()):
        raise DataError(f"{path} holds the pretrained weights themselves, not an expert; give the fine-tuned file")
    if method == "att":
        delta = _attention_only(delta, path)
    cell = Imported(
        suite=suite.name,
        backbone=base.card.name,
        backbone_fingerprint=base.card.fingerprint,
        task=task,
        card=suite.card(task).fingerprint,
        method=method,
        regularizer=regularizer,
        seed=seed,
        family=expert.family,
        sha256=expert.sha256,
    )
    about = {"key": cell.key, "backbone": cell.backbone, "task": task, "finetuning": cell.finetuning}
    data = task_vectors.dump(delta, expert.pairs, about)
    store.write_vector(cell.key, data)
    origin = {"source": expert.source, "format": expert.format, "notes": list(expert.notes)}
    store.write_import(cell.key, {**origin, "identity": cell.identity, "vector_sha256": task_vectors.sha256(data)})
    return cell


def _attention_only(delta: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What ATT-FT trains; DataError where anything else has moved."""
    attention = attention_matrices(delta, "att")
    moved = [name for name, t in delta.items() if name not in attention and bool(t.any())]
    if moved:
        raise DataError(
            f"{path} was not fine-tuned by att: {len(moved)} other tensors have moved, first {moved[0]}; give another "
            "--finetuning"
        )
    return {name: delta[name] for name in attention}


@dataclass(frozen=True)
class Model:
    """One measured model of a store: what is added to the pretrained weights, and what is known about it."""

    name: str
    cell: Expert | Addition | Negation
    record: Record
    vector: Mapping[str, Tensor]
    scaling: float
    tangent: bool


def find(store: Store, name: str, **narrow: Any) -> Record:
    """The record that a key (or its first four digits or more) or a row name `FINETUNING/OPERATOR` means.

    `narrow` are values of row columns (`suite`, `backbone`, `seed`, `task`) that choose among rows of one name.
    """
    if KEY.fullmatch(name):
        keys = sorted(key for key in store.done() if key.startswith(name))
    else:
        finetuning, _, operator = name.partition("/")
        wanted = {"finetuning": finetuning, "operator": "" if operator == "expert" else operator, "split": "test"}
        wanted |= {column: value for column, value in narrow.items() if value is not None}
        rows, _ = store.tables()
        mask = functools.reduce(pc.and_, (pc.equal(rows[column], value) for column, value in wanted.items()))
        measured = rows.filter(mask).select(["key", "kind"]).to_pylist()
        keys = sorted({r["key"] for r in measured if r["kind"] in MODELS and finetuning})
        if not keys:
            measured = rows.group_by(["finetuning", "operator"]).aggregate([]).to_pylist()
            names = {f"{r['finetuning']}/{r['operator'] or 'expert'}" for r in measured if r["finetuning"]}
            raise UnknownName("measured row", name, names)
    if len(keys) != 1:
        shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
        if not keys:
            raise BenchError(f"{name} means nothing in {store.url}; give a row, or the key of one cell")
        raise BenchError(
            f"{name} means {len(keys)} cells ({shown}); narrow it with --suite, --backbone, --seed or --task"
        )
    return store.read(keys[0])


def model(record: Record, session: Session, task: str = "") -> Model:
    """The model behind a record. `task` chooses among the vectors of an operator that has one for each task.

    A merge is done again, so its operator must be the one that was measured: BenchError where it is not.
    """
    cell = from_identity(dict(record.identity))
    if not isinstance(cell, Expert | Addition | Negation):
        raise BenchError(f"cell {cell.key} is a {cell.kind}, not a model; export an expert, an addition or a negation")
    tangent = cell.linearised or session.tangent(cell.finetuning)
    scaling = next((r["scaling"] for r in _tested(record)), 1.0)
    if isinstance(cell, Expert):
        return Model(f"{cell.finetuning}/expert", cell, record, session.vectors(cell.key)[0], scaling, tangent)
    if isinstance(cell, Negation):
        (key,) = cell.experts
        name = f"{cell.finetuning} minus {cell.task}"
        return Model(name, cell, record, session.vectors(key)[0], -scaling, tangent)
    if not record.rows:
        raise BenchError(f"cell {cell.key}: {record.metrics.get('not_applicable', 'it has no results')}")
    code.hold(session.registry, cell, record.provenance)
    merged = addition.merged(cell, session, tangent=tangent)
    if isinstance(merged, Sequence):
        tasks = [name for name, _ in cell.tasks]
        if task not in tasks:
            raise BenchError(f"{cell.operator} has one model for each task; name one with --task: {', '.join(tasks)}")
        merged = merged[tasks.index(task)]
    return Model(f"{cell.finetuning}/{cell.operator}", cell, record, merged, scaling, tangent)


def _tested(record: Record) -> list[Mapping[str, Any]]:
    """The test rows of the model itself: a record of post-hoc linearisation begins with those of its experts."""
    merged = "operator" in record.identity
    return [r for r in record.rows if r["split"] == "test" and (r["operator"] or not merged)]


def export(chosen: Model, base: Backbone, out: Path, form: str, store: Store) -> str:
    """Write a model as one of `FORMATS`; the sha256 of its weights. An existing `out` is refused."""
    if form not in FORMATS:
        raise UnknownName("export format", form, FORMATS)
    if out.exists():
        raise BenchError(f"{out} exists; name another place with --out")
    added = {name: chosen.scaling * t for name, t in chosen.vector.items()}
    if form == "vector":
        data = task_vectors.dump(added, None, {"key": chosen.cell.key, "row": chosen.name, "backbone": base.card.name})
        checkpoints.write_whole(out, data)
        return task_vectors.sha256(data)
    if chosen.tangent:
        raise BenchError(
            f"{chosen.name} was measured as a tangent model, which no file of an ordinary model can hold; "
            "export it with --format vector"
        )
    params = {n: p.cpu() + added[n] if n in added else p.cpu() for n, p in base.pretrained.items()}
    about = describe(chosen, base, store)
    if form == "open_clip":
        return checkpoints.export_open_clip(params, out, about=about, rest=backbone.rest(base.card))
    layout = base.tower.layout
    if layout is None or layout.activation not in ("gelu", "quick_gelu"):
        raise BenchError(f"{base.card.name} is no tower that Hugging Face's CLIP knows; use --format open_clip")
    quick = layout.activation == "quick_gelu"
    card = base.card
    return checkpoints.export_hf(
        params, out, heads=layout.heads, quick_gelu=quick, mean=card.mean, std=card.std, about=about
    )


def describe(chosen: Model, base: Backbone, store: Store) -> About:
    """The model card's facts: how the model was made, its test accuracies, licences and known defects."""
    cell, card = chosen.cell, base.card
    tasks = [cell.task] if isinstance(cell, Expert | Negation) else [task for task, _ in cell.tasks]
    recipe = (
        f"pretrained weights + ({chosen.scaling:g}) x task vector {chosen.name}, suite {cell.suite}, seed {cell.seed}"
    )
    if isinstance(cell, Addition):
        recipe += f", options {cell.options}, board {cell.board}"
    notes = [f"Made from cell {cell.key} by bench {BENCH} {commit()}".rstrip()]
    for key in (cell.needs or (cell.key,)) if names.finetuning(cell.finetuning).family else ():
        origin = store.read_import(key)
        identity = origin["identity"]
        file = f"{identity['task']}: imported from {origin['source']} (sha256 {identity['sha256']})"
        notes.append("; ".join([file, *origin["notes"]]))
    licences = [f"{task}: {suites.load(cell.suite).card(task).licence}" for task in tasks]
    return About(
        title=f"{chosen.name} on {card.name}",
        architecture=card.architecture,
        pretrained=f"{card.weights} {json.dumps(card.fingerprint)}",
        recipe=recipe,
        tasks=tasks,
        results=[(r["task"], metrics.accuracy(r["correct"], r["total"]), r["total"]) for r in _tested(chosen.record)],
        licence=f"that of the pretrained model; data: {'; '.join(licences)}",
        notes=notes,
    )
