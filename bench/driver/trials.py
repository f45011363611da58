"""What Ray Tune calls: the searcher that feeds it, the callback that watches it, the trial that runs a cell.

Tune pickles searcher and callback when the run starts, so neither holds anything: they find the run in `ACTIVE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from bench.cells import Cell
from bench.driver import OpenSession, Session
from bench.progress import Progress
from bench.schedule import Schedule
from bench.store import Store


@dataclass
class Active:
    """The run of this process."""

    state: Schedule
    store: Store
    progress: Progress
    refused: str = ""
    """Why no worker can run anything, if that is so."""


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
        super().__init__(metric="seconds", mode="min")
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        run = active()
        cell = None if run.refused else run.state.take()
        if cell is None:
            return Searcher.FINISHED if run.refused or run.state.exhausted else None
        self._keys[trial_id] = cell.key
        return {"key": cell.key}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            return  # `Watch.on_trial_error` follows at once and knows why
        run, key = active(), self._keys.pop(trial_id)
        if result is None or "status" not in result:
            lost(key, "the worker ended without a result")
        elif result["status"] == "refused":
            run.refused = result["error"]
        else:
            run.progress.settle(
                run.state.cells[key], result["status"], result["seconds"], result["error"], result["headline"]
            )

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from the store."""


class Watch(tune.Callback):
    """Tells the display which cells really run, and the schedule which workers died for good."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run = active()
        run.progress.started(run.state.cells[trial.config["key"]])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run = active()
        run.progress.note(f"a worker died; trying again: {run.state.cells[trial.config['key']].label}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        said = str(trial.get_error() or "")
        cause = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no reason given")
        lost(trial.config["key"], f"the worker process died in every attempt ({cause})", said)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        run = active()
        if run.refused or run.state.over:
            raise RunOver


def lost(key: str, error: str, traceback: str = "") -> None:
    """Settle a cell whose worker cannot speak any more. The store decides: a record that got there counts."""
    run = active()
    cell = run.state.cells[key]
    if key in run.store.done():
        run.progress.settle(cell, "done", 0.0)
        return
    run.store.write_failure(key, {"identity": cell.identity, "error": error, "traceback": traceback})
    run.progress.settle(cell, "failed", 0.0, error)


class CellTrial(tune.Trainable):
    """Runs cells in a worker process. Ray keeps the process, and with it the session, from one cell to the next."""

    def setup(
        self,
        config: dict[str, Any],
        cells: Mapping[str, Cell] | None = None,
        session: OpenSession | None = None,
        timeout: float = 0.0,
    ) -> None:
        assert cells is not None
        assert session is not None
        self._cells, self._open, self._timeout = cells, session, timeout
        self._session: Session | None = None
        self._key = config["key"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._key = new_config["key"]
        return True

    def step(self) -> dict[str, Any]:
        from bench.driver.local import limit

        if self._session is None:
            try:
                self._session = self._open()
            except Exception as error:  # the same in every worker: the driver reports it once and ends the run
                said = (str(error).splitlines() or [""])[0]
                return {"done": True, "status": "refused", "error": said or type(error).__name__}
        with limit(self._timeout):
            outcome = self._session.attempt(self._cells[self._key])
        return {
            "done": True, "status": outcome.status, "seconds": outcome.seconds, "error": outcome.error,
            "headline": dict(outcome.headline),
        }  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a cell that is cut short starts again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""
