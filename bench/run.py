"""One cell, start to finish, in this process and without Ray. `Session` is what a worker keeps warm between cells."""

import hashlib
import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import backbone, cards, finetune, images, metrics, registry, weights
from bench.cards import DatasetCard, Split
from bench.cells import Addition, Cell, Finetune, ZeroShot
from bench.errors import BenchError
from bench.evaluate import Evaluator
from bench.images import Images
from bench.merge import NotApplicable, Vectors, merge
from bench.records import Record, pack_bits
from bench.store import Store


@dataclass(frozen=True)
class Runtime:
    """How and where cells run. Nothing here changes a result, so nothing here is part of a key."""

    store: str
    device: str = "cpu"
    threads: int = 1
    include: tuple[str, ...] = ()
    batch_size: int = 256
    fast: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt at a cell."""

    key: str
    status: str
    seconds: float
    error: str = ""
    headline: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """Runs cells one after the other and keeps backbone, heads, images and task vectors between them."""

    def __init__(self, runtime: Runtime) -> None:
        torch.set_num_threads(runtime.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.runtime = runtime
        self.store = Store(runtime.store)
        self.registry = registry.load(runtime.include)
        self.vectors = Vectors(self.store)
        self._backbones: dict[str, Evaluator] = {}
        self._images: dict[tuple[str, str, int], Images] = {}

    def attempt(self, cell: Cell) -> Outcome:
        """Run a cell and write its record, or its failure with the traceback, to the store. Never raises an error."""
        start = time.perf_counter()
        try:
            record = self.execute(cell)
            self.store.write(record)
        except Exception as error:
            said = str(error).splitlines()[0] if isinstance(error, BenchError) and str(error) else _describe(error)
            failure = {"identity": cell.identity, "error": said, "traceback": traceback.format_exc(), **_here()}
            try:
                self.store.write_failure(cell.key, failure)
            except BenchError as unwritable:
                said = f"{said}; moreover {unwritable}"
            return Outcome(cell.key, "failed", time.perf_counter() - start, said)
        return Outcome(cell.key, "done", time.perf_counter() - start, "", headline(record))

    def execute(self, cell: Cell) -> Record:
        """The record of a cell; raises what goes wrong."""
        start = time.perf_counter(), time.process_time()
        if isinstance(cell, Finetune):
            rows, found = self._finetune(cell)
        elif isinstance(cell, Addition):
            rows, found = self._addition(cell)
        elif isinstance(cell, ZeroShot):
            rows, found = self._zero_shot(cell)
        else:
            raise BenchError(f"no way to run a cell of kind {cell.kind!r} here; use the bench that planned it")
        seconds = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
        return Record(cell.key, cell.identity, tuple(rows), found, {**seconds, **_here(), "device": self.runtime.device})

    # --- the kinds of cells ----------------------------------------------------------------------------------------

    def _zero_shot(self, cell: ZeroShot) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        evaluator = self._evaluator(cell)
        rows = []
        for task, fingerprint in cell.tasks:
            card = _card(task, fingerprint)
            for split in ("validation", "test"):
                right = evaluator.correct(evaluator.backbone.pretrained, *self._set(evaluator, card, split))
                rows.append(_row(cell, right, task=task, tasks=task, split=split, board="reference"))
        return rows, {}

    def _finetune(self, cell: Finetune) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        evaluator = self._evaluator(cell)
        base, card = evaluator.backbone, _card(cell.task, cell.card)
        train, head = self._set(evaluator, card, "train")
        method = self.registry.finetuning[cell.method]
        expert = finetune.train(
            base.tower, base.pretrained, head, train.pixels, train.labels, cell.recipe, method=method,
            regulariser=cell.regularizer or None, seed=seed_of("finetune", cell.task, cell.seed),
            mean=base.card.mean, std=base.card.std, device=self.runtime.device,
        )  # fmt: skip
        rows = []
        for split in ("validation", "test"):
            (right,), = evaluator.sweep(expert.delta, (1.0,), [self._set(evaluator, card, split)], tangent=method.tangent)
            rows.append(_row(cell, right, task=cell.task, tasks=cell.task, split=split, board="reference", scaling=1.0,
                             finetuning=cell.finetuning, seed=cell.seed))  # fmt: skip
        data = weights.dump(expert.delta, expert.factors, {"key": cell.key, "backbone": cell.backbone, "task": cell.task,
                                                           "finetuning": cell.finetuning})  # fmt: skip
        self.store.write_vector(cell.key, data)
        return rows, {**expert.metrics, "vector_sha256": weights.sha256(data)}

    def _addition(self, cell: Addition) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        evaluator = self._evaluator(cell)
        tangent = self.registry.finetuning[cell.finetuning.partition("+")[0]].tangent
        operator, options = self.registry.operator(cell.operator), json.loads(cell.options)
        common: dict[str, Any] = {
            "finetuning": cell.finetuning, "operator": cell.operator, "options": cell.options, "board": cell.board,
            "tasks": "+".join(task for task, _ in cell.tasks), "seed": cell.seed,
            "protocol": "validation:normalised" if len(cell.coefficients) > 1 else "fixed",
        }  # fmt: skip
        try:
            merged = merge(operator, options, self.vectors, cell.experts, seed=seed_of("merge", cell.operator, cell.seed))
        except NotApplicable as error:
            return [], {"not_applicable": str(error)}
        named = [(task, _card(task, fingerprint)) for task, fingerprint in cell.tasks]
        rows = []
        chosen = cell.coefficients[0]
        if len(cell.coefficients) > 1:
            sets = [self._set(evaluator, card, "validation") for _, card in named]
            points = {}
            found = evaluator.sweep(merged, cell.coefficients, sets, tangent=tangent)
            for scaling, by_task in zip(cell.coefficients, found, strict=True):
                points[scaling] = {t: r.float().mean().item() for (t, _), r in zip(named, by_task, strict=True)}
            chosen = metrics.best_scaling(points, self._expert_accuracy(cell))
            for scaling, by_task in zip(cell.coefficients, found, strict=True):
                rows += [_row(cell, right, task=task, split="validation", scaling=scaling, selected=scaling == chosen, **common)
                         for (task, _), right in zip(named, by_task, strict=True)]  # fmt: skip
        sets = [self._set(evaluator, card, "test") for _, card in named]
        (tested,) = evaluator.sweep(merged, (chosen,), sets, tangent=tangent)
        rows += [_row(cell, right, task=task, split="test", scaling=chosen, **common)
                 for (task, _), right in zip(named, tested, strict=True)]  # fmt: skip
        norm = float(sum(t.double().square().sum() for t in merged.values()) ** 0.5)
        return rows, {"merged_norm": norm}

    def _expert_accuracy(self, cell: Addition) -> dict[str, float]:
        """Validation accuracy of each task's own expert."""
        found = {}
        for record in self.store.read_all(cell.experts):
            row = next(r for r in record.rows if r["split"] == "validation")
            found[row["task"]] = metrics.accuracy(row["correct"], row["total"])
        return found

    # --- what stays warm -------------------------------------------------------------------------------------------

    def _evaluator(self, cell: Cell) -> Evaluator:
        if cell.backbone not in self._backbones:
            base = backbone.load(cell.backbone, device=self.runtime.device, fast=self.runtime.fast)
            self._backbones[cell.backbone] = Evaluator(base, self.runtime.batch_size)
        found = self._backbones[cell.backbone]
        if found.backbone.card.fingerprint != cell.backbone_fingerprint:
            raise BenchError(f"backbone {cell.backbone} has changed since this cell was planned; plan again")
        return found

    def _set(self, evaluator: Evaluator, card: DatasetCard, split: Split) -> tuple[Images, Tensor]:
        size = evaluator.backbone.card.image_size
        where = card.name, split, size
        if where not in self._images:
            self._images[where] = images.load(card, split, size)
        return self._images[where], evaluator.backbone.head(card)


def _card(name: str, fingerprint: str) -> DatasetCard:
    card = cards.load(name)
    if card.fingerprint != fingerprint:
        raise BenchError(f"the card {name}.toml has changed since this cell was planned; plan again")
    return card


def seed_of(purpose: str, what: str, index: int) -> int:
    """63-bit seed from purpose, task and index; the same for every method, so that comparisons are paired."""
    return int.from_bytes(hashlib.sha256(f"{purpose}|{what}|{index}".encode()).digest()[:8], "big") >> 1


def _row(cell: Cell, right: Tensor, *, task: str, tasks: str, split: str, board: str, **more: Any) -> dict[str, Any]:
    fixed = {"kind": cell.kind, "suite": cell.suite, "backbone": cell.backbone, "task": task, "tasks": tasks, "split": split}
    open_ = {"finetuning": "", "operator": "", "options": "{}", "protocol": "", "seed": -1, "scaling": 0.0, "selected": True}
    counts = {"correct": int(right.sum()), "total": len(right), "bits": pack_bits(right.numpy()) if split == "test" else b""}
    return {**fixed, "board": board, **open_, **more, **counts}


def headline(record: Record) -> dict[str, Any]:
    """For the live display: the row's name and its mean test accuracy."""
    tested = [r for r in record.rows if r["split"] == "test"]
    if not tested:
        return {}
    first = tested[0]
    name = "/".join(filter(None, (first["finetuning"], first["operator"] or first["kind"])))
    mean = metrics.mean_accuracy({r["task"]: metrics.accuracy(r["correct"], r["total"]) for r in tested})
    return {"name": name, "kind": first["kind"], "accuracy": mean}


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _here() -> dict[str, Any]:
    """Where and with what this process runs."""
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    return {
        "host": platform.node(), "pid": os.getpid(), "python": platform.python_version(), "torch": torch.__version__,
        "bench": _version(), "machine": platform.machine(), "peak_rss_mb": round(rss, 1), "finished_at": int(time.time()),
    }  # fmt: skip


def _version() -> str:
    try:
        return version("bench")
    except Exception:
        return "checkout"
