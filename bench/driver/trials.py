"""What Ray Tune calls: the searcher that feeds it, the callback that watches it, the trial that runs a cell.

Tune pickles searcher and callback when the run starts, so neither holds anything: they find the run in `ACTIVE`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from bench.driver import resources
from bench.driver.base import Drive, OpenSession, Session
from bench.driver.common import Common
from bench.driver.local import limit
from bench.errors import BenchError, told
from bench.kinds.base import Cell
from bench.kinds.protocol import Outcome
from bench.store.store import Store
from bench.work.runtime import How


@dataclass
class Active:
    """The run of this process."""

    drive: Drive
    store: Store
    how: How
    room: dict[resources.Queue, int] = field(default_factory=dict)
    """How many cells of each queue may be handed out at once."""
    looked: float = 0.0
    """When the cluster was last asked what it has."""
    running: dict[str, tuple[Any, float]] = field(default_factory=dict)
    """Key -> (trial, when it began)."""
    expired: dict[str, str] = field(default_factory=dict)
    """Key -> what to say of a cell whose worker was killed because it did not react to its time limit."""
    refused: str = ""
    """Why no worker can run anything, if that is so."""
    bug: Exception | None = None
    """What went wrong in this module's own code."""

    @property
    def over(self) -> bool:
        return self.drive.state.over or bool(self.refused) or self.bug is not None

    def fit(self, cluster: Mapping[str, float]) -> None:
        """Make room for as many cells as fit into a cluster that has these resources.

        As many again wait with Tune, which otherwise drops a warm worker when two cells end in the same tick, and so
        that a cluster that grows on demand sees some; not with `--workers` on a cluster that others may use.
        """
        slots = resources.slots(self.how, cluster)
        times = 1 if self.how.address and self.how.workers else 2
        self.room = {queue: times * most for queue, most in slots.items()}
        self.drive.workers = next(iter(slots.values()))
        self.looked = time.monotonic()

    def take(self) -> Cell | None:
        """The next cell that there is room for."""
        for models, most in self.room.items():
            out = sum(models in (None, cell.runs_model) for cell in self.drive.state.running.values())
            if out < most and (cell := self.drive.state.take(models)) is not None:
                return cell
        return None


LOOK = 5.0
"""Seconds between two looks at what a cluster has: its nodes may come late, or go."""
GRACE = 60.0
"""Seconds that a worker has, beyond the time limit of its cell, to open its session and to stop by itself."""

ACTIVE: Active | None = None


class RunOver(BaseException):
    """All cells are settled. Leaves Tune's loop at once, which would wait seconds more for idle actors to stop."""


def active() -> Active:
    """The run of this process."""
    assert ACTIVE is not None, "no run is active in this process"
    return ACTIVE


class Plan(Searcher):
    """Hands out each cell once all it needs is done; waits (None) while running cells may still release others."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        run = active()
        cell = None if run.over else run.take()
        if cell is None:
            return Searcher.FINISHED if run.over or run.drive.state.exhausted else None
        self._keys[trial_id] = cell.key
        return {"key": cell.key, "models": cell.runs_model}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            return  # `Watch.on_trial_error` follows at once and knows why
        run = active()
        try:
            self._settle(run, self._keys[trial_id], result or {})
        except Exception as bug:  # Tune would take it for a failure of the trial and try that again
            run.bug = bug

    def _settle(self, run: Active, key: str, result: dict[str, Any]) -> None:
        run.running.pop(key, None)
        if result.get("status") == "refused":
            run.refused = result["error"]
        elif "status" in result:
            headline = json.loads(result["headline"])
            run.drive.settle(Outcome(key, result["status"], result["seconds"], result["error"], headline))
        else:
            lost(key, "the worker ended without a result")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from the store."""


class Watch(tune.Callback):
    """Tells the display which cells really run, and the schedule which workers died for good."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run, key = active(), trial.config["key"]
        run.running[key] = trial, time.monotonic()
        run.drive.started(run.drive.state.cells[key])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run = active()
        run.running.pop(trial.config["key"], None)
        run.drive.note(f"a worker was lost; trying again: {run.drive.state.cells[trial.config['key']].label}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        said = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        key = trial.config["key"]
        lost(key, active().expired.get(key) or f"no worker could run it: {_cause(said)}", said)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        run = active()
        if run.over:
            raise RunOver
        if run.how.address and time.monotonic() - run.looked > LOOK:
            run.fit(ray.cluster_resources())
        if run.how.cell_timeout:
            _expire(run, run.how.cell_timeout)


def _expire(run: Active, seconds: float) -> None:
    """Kill workers whose cell did not stop at its time limit by itself, e.g. stuck in native code; no second try."""
    for key, (trial, since) in run.running.items():
        if key not in run.expired and time.monotonic() - since > seconds + GRACE:
            run.expired[key] = f"cell ran longer than {seconds:g} s and did not stop; its worker was killed"
            trial.max_failures = 0
            ray.kill(trial.temporary_state.ray_actor)


def _cause(said: str) -> str:
    """Ray's own words on why an actor is gone, on one line."""
    if "OutOfMemory" in said or "memory pressure" in said:
        return "it ran out of memory; use fewer --workers"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any(line.startswith("The actor is dead") for line in lines):
        return f"its process died {said.count('The actor is dead')} times (killed, or crashed in native code)"
    return lines[-1] if lines else "no reason given"


def lost(key: str, error: str, traceback: str = "") -> None:
    """Settle a cell whose worker cannot speak any more. The store decides: a record that got there counts."""
    run = active()
    run.running.pop(key, None)
    if run.store.has(key):
        run.drive.settle(Outcome(key, "done", 0.0))
        return
    identity = run.drive.state.cells[key].identity
    try:
        run.store.write_failure(key, {"identity": identity, "error": error, "traceback": traceback})
    except BenchError as unwritable:
        run.refused = f"{error}; moreover {unwritable}"
    run.drive.settle(Outcome(key, "failed", 0.0, error))


class CellTrial(tune.Trainable):
    """Runs cells in a worker process. Ray keeps the process, and with it the session, from one cell to the next.

    It has no `save_checkpoint`: a cell that is cut short goes on from the store.
    """

    def setup(
        self,
        config: dict[str, Any],
        cells: Mapping[str, Cell] | None = None,
        session: OpenSession | None = None,
        timeout: float = 0.0,
        common: Common | None = None,
    ) -> None:
        assert cells is not None
        assert session is not None
        self._cells, self._open, self._timeout, self._common = cells, session, timeout, common
        self._session: Session | None = None
        self._key = config["key"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._key = new_config["key"]
        return True

    def step(self) -> dict[str, Any]:
        if self._session is None:
            try:
                if self._common is not None:
                    self._common.check()
                self._session = self._open()
            except Exception as error:  # the same in every worker: the driver reports it once and ends the run
                return {"done": True, "status": "refused", "error": told(error)}
        with limit(self._timeout):
            outcome = self._session.attempt(self._cells[self._key])
        return {
            "done": True, "status": outcome.status, "seconds": outcome.seconds, "error": outcome.error,
            "headline": json.dumps(dict(outcome.headline)),  # Tune flattens nested values
        }  # fmt: skip
