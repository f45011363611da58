"""One cell, start to finish, in this process and without Ray. `Session` is what a worker keeps warm between cells."""

import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.cards import datasets as cards
from bench.cards import suites
from bench.cards.datasets import Split
from bench.errors import BenchError, Unwritable, told
from bench.ground import memory, metrics, names, versions
from bench.kinds import KINDS, code
from bench.kinds.base import Cell, Task
from bench.kinds.protocol import Outcome
from bench.pixels import images
from bench.pixels.images import Images
from bench.registry import live
from bench.store.records import Record
from bench.store.store import Store
from bench.work import backbone, resume
from bench.work.evaluate import Evaluator
from bench.work.merge import Vectors
from bench.work.resume import FileCheckpoint
from bench.work.runtime import Runtime, settle

OFFERED = 5
"""Steps between two moments at which the state of a fine-tune may be written; offering it takes a third of a percent of
a step of the smallest tower."""


class Session:
    """Runs cells one after the other and keeps backbone, heads, images and task vectors between them.

    `store` is where cells read and write; by default the one that `runtime` names.
    """

    def __init__(self, runtime: Runtime, store: Store | None = None) -> None:
        memory.cap(runtime.memory_limit)
        settle(runtime)
        self.runtime = runtime
        self.prune = runtime.prune
        self.store = store or Store(runtime.store)
        self.registry = live.load(runtime.include)
        self._state: FileCheckpoint | None = None
        self.forget()

    def attempt(self, cell: Cell) -> Outcome:
        """Run a cell and write its record, or its failure with the traceback, to the store. Never raises an error."""
        start = time.perf_counter()
        try:
            record = self.execute(cell)
            self.store.write(record)
            if self._state is not None:
                self._state.discard()
            return Outcome(cell.key, "done", time.perf_counter() - start, "", headline(record))
        except Unwritable as error:
            return Outcome(cell.key, "refused", time.perf_counter() - start, str(error))
        except Exception as error:
            full = memory.exhausted(error)
            limit, device = self.runtime.memory_limit, self.runtime.device
            line = memory.explain(error, limit, device) if full else told(error)
            trace = traceback.format_exc()
        # Here the error is gone, and with it the memory that its frames held.
        if full:
            self.forget()
        try:
            self.store.write_failure(cell.key, {"identity": cell.identity, "error": line, "traceback": trace, **here()})
        except Unwritable as error:
            return Outcome(cell.key, "refused", time.perf_counter() - start, f"{line}; moreover {error}")
        return Outcome(cell.key, "failed", time.perf_counter() - start, line)

    def execute(self, cell: Cell) -> Record:
        """The record of a cell; raises what goes wrong."""
        if cell.kind not in KINDS:
            raise BenchError(f"no way to run a cell of kind {cell.kind!r} here; use the bench that planned it")
        self._state, device = None, self.device(cell)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        wall, cpu = time.perf_counter(), time.process_time()
        rows, facts = KINDS[cell.kind].run(cell, self)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        about = {**here(), "device": device}
        if device == "cuda":
            about["gpu"] = torch.cuda.get_device_name()
            about["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        if (evaluator := self._evaluators.get((cell.backbone, device))) is not None:
            about["weights"] = evaluator.backbone.sha256
        if source := code.source(self.registry, cell):
            about["source"] = source
        if self._state is not None and self._state.resumed_at:
            wall, cpu = wall + self._state.before[0], cpu + self._state.before[1]
            about["resumed_at_step"] = self._state.resumed_at
        cost = {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}
        return Record(cell.key, cell.identity, tuple(rows), facts, {**cost, **about})

    # --- what stays warm, for the kinds of cells -------------------------------------------------------------------

    def forget(self) -> None:
        """Let go of all that is kept warm; the next cell loads what it needs."""
        self.vectors = Vectors(self.store)
        self._evaluators: dict[tuple[str, str], Evaluator] = {}
        self._images: dict[tuple[str, str, int], Images] = {}
        if self.runtime.device == "cuda":
            torch.cuda.empty_cache()

    def device(self, cell: Cell) -> str:
        """Where a cell computes. Nothing touches CUDA before a cell that runs a model: others may have no GPU."""
        return self.runtime.device if cell.runs_model else "cpu"

    def evaluator(self, cell: Cell) -> Evaluator:
        """The backbone of a cell, ready to evaluate weights."""
        device = self.device(cell)
        place = cell.backbone, device
        if place not in self._evaluators:
            suite = suites.load(cell.suite)
            datasets = [suite.card(task) for task in (*suite.tasks, suite.control)]
            how = self.runtime
            if device == "cuda":
                self.store.agree("float32-products", "tf32" if how.tf32 else "exact", "another --runtime tf32")
                if how.gpu_fraction:
                    torch.cuda.set_per_process_memory_fraction(how.gpu_fraction)  # too much fails here, not a neighbour
            base = backbone.load(
                cell.backbone,
                datasets,
                device=device,
                fast=how.fast,
                checkpointing=how.checkpointing,
                compiled=how.compile,
            )
            if not base.card.sha256:
                self.store.agree(f"weights-{base.card.name.replace('/', '--')}", base.sha256)
            self._evaluators[place] = Evaluator(base, how.batch_size, how.resident)
        evaluator = self._evaluators[place]
        if evaluator.backbone.card.fingerprint != cell.backbone_fingerprint:
            raise BenchError(f"backbone {cell.backbone} has changed since this cell was planned; plan again")
        return evaluator

    def image_sets(self, cell: Cell, tasks: Iterable[Task], split: Split) -> list[tuple[Images, Tensor]]:
        """Images and zero-shot head of one split of each task."""
        return [self._image_set(cell, task, fingerprint, split) for task, fingerprint in tasks]

    def _image_set(self, cell: Cell, task: str, fingerprint: str, split: Split) -> tuple[Images, Tensor]:
        card, base = cards.load(task), self.evaluator(cell).backbone
        if card.fingerprint != fingerprint:
            raise BenchError(f"the card {task}.toml has changed since this cell was planned; plan again")
        where = task, split, base.card.image_size
        if where not in self._images:
            self._images[where] = images.load(card, split, base.card.image_size)
            if not card.drawn:  # two sources order rows differently, and statistics pair images by their row
                self.store.agree(f"{task}-{split}", images.row_hash(card, split, base.card.image_size))
        return self._images[where], base.heads[task]

    def checkpoint(self, cell: Cell) -> FileCheckpoint | None:
        """Where the fine-tune of `cell` keeps its state until its record is stored; None when none is wanted."""
        if self.runtime.save_minutes:
            path = resume.folder(self.store.url) / f"{cell.key}.safetensors"
            made_by = " ".join(f"{name} {here()[name]}" for name in ("bench", "commit", "torch", "machine"))
            if source := code.source(self.registry, cell):
                made_by += f" source {source}"
            self._state = FileCheckpoint(path, every=OFFERED, seconds=60 * self.runtime.save_minutes, made_by=made_by)
        return self._state

    def tangent(self, finetuning: str) -> bool:
        """Whether models of this fine-tuning method are evaluated as tangent models."""
        return self.registry.finetuning[names.finetuning(finetuning).method].tangent

    def expert_accuracy(self, experts: Sequence[str], split: Split) -> dict[str, float]:
        """Accuracy of each task's own expert, from the store."""
        rows = [next(r for r in record.rows if r["split"] == split) for record in self.store.read_all(experts)]
        return {row["task"]: metrics.accuracy(row["correct"], row["total"]) for row in rows}


def headline(record: Record) -> dict[str, Any]:
    """For the live display: the row's name and its mean test accuracy."""
    tested = [r for r in record.rows if r["split"] == "test" and r["task"] in names.split_tasks(r["tasks"])]
    if not tested:
        return {}
    first = tested[0]
    name = "/".join(filter(None, (first["finetuning"], first["operator"] or first["kind"])))
    mean = metrics.mean_accuracy({r["task"]: metrics.accuracy(r["correct"], r["total"]) for r in tested})
    return {"name": name, "accuracy": mean}


def here() -> dict[str, Any]:
    """Where and with what this process runs."""
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bench": versions.of("bench"),
        "commit": versions.commit(),
        "machine": platform.machine(),
        "peak_rss_mb": round(rss, 1),
        "finished_at": int(time.time()),
    }
