"""One Ray Tune run over a plan: a Searcher hands out cells as their needs get done, warm actors execute them.

Workers write records to the store themselves; Tune's own state lives in a scratch folder and is thrown away. Errors
inside a cell are caught in the cell (`bench.kinds.session.Session.attempt`) and come back as a result, so that the
actor stays warm; only the death of a process reaches Tune, which tries the cell again elsewhere.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.driver import resources
from bench.driver.base import Drive, OpenSession
from bench.driver.common import Common
from bench.errors import BenchError, first_line
from bench.store.store import Store
from bench.work.runtime import How

if TYPE_CHECKING:
    from bench.driver.trials import Active

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_THRESHOLD_S": "60",
}
"""Read by ray when it is imported. In order: no tables, no files per trial, no chdir, no telemetry, a worker without
a GPU sees none, no relaunch of workers under `uv run`, Ctrl-C is ours, no snapshots of a state nobody restores."""

ATTEMPTS = 3
"""How often starting Ray is tried (a loaded machine can miss its fixed 30 s) and a killed cell is tried again."""


def _prepare(scratch: Path, how: How) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not how.address:
        os.environ.update(RAY_TMPDIR=str(scratch), RAY_AUTH_MODE="disabled", OMP_NUM_THREADS=str(how.threads))


def _start(how: How, scratch: Path) -> dict[str, float]:
    """Start or join Ray; what the cluster has."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if how.address:
        ours: dict[str, Any] = {"address": how.address, "runtime_env": _environment(how)}
    else:
        cpus = how.workers or (os.cpu_count() or 1)
        ours = {
            "address": "local",  # whatever cluster RAY_ADDRESS names
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 128 * 2**20,
            "_temp_dir": str(scratch),
        }
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(**ours, **quiet)
            break
        except Exception as error:  # Ray raises bare Exception when a loaded machine is slow to start
            ray.shutdown()
            first = first_line(error)
            if how.address:
                raise BenchError(
                    f"--address {how.address}: {first}; start a cluster with `ray start --head`, or set the "
                    "token of this one (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN)"
                ) from error
            if attempt == ATTEMPTS:
                raise BenchError(f"Ray did not start in {ATTEMPTS} attempts ({first}); run with --local") from error
    return dict(ray.cluster_resources())


def _environment(how: How) -> dict[str, Any]:
    return {"env_vars": {**QUIET, "OMP_NUM_THREADS": str(how.threads)}}


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does. Set after `ray.init`, which installs a handler of its own."""

    def stop(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    previous = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _scratch(root: str = "/tmp") -> Path:
    """A folder for Ray's logs and sockets (whose paths must be short); removes those of drivers that were killed."""
    for old in Path(root).glob("b[0-9]*-*"):
        owner = old.name[1:].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"b{os.getpid()}-", dir=root if Path(root).is_dir() else None))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def run_ray(drive: Drive, store: Store, session: OpenSession, how: How, sign: str) -> None:
    """Run every cell that can run, on this machine's cores or on the cluster at `how.address`.

    sign: a file of the store by which the nodes of a cluster know that theirs is the same.
    """
    scratch = _scratch()
    _prepare(scratch, how)
    drive.note("starting Ray")
    import ray

    from bench.driver import trials

    # Ray prints a paragraph about each dead worker to stdout; the display says it in a line, and stdout is for results.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            cluster = _start(how, scratch)
            resources.require((drive.state.cells[key] for key in drive.state.pending), how, cluster)
            common = Common(store.address, sign) if how.address else None
            with _interruptible():
                _tune(trials.Active(drive, store, how), cluster, session, common, scratch)
        finally:
            ray.shutdown()
            shutil.rmtree(scratch, ignore_errors=True)


def _tune(
    active: "Active", cluster: dict[str, float], session: OpenSession, common: Common | None, scratch: Path
) -> None:
    from ray import tune

    from bench.driver import trials

    trials.ACTIVE = active
    active.fit(cluster)
    state, how = active.drive.state, active.how
    active.drive.note(f"starting {active.drive.workers} workers")
    trainable = tune.with_parameters(
        trials.CellTrial,
        cells=dict(state.cells),
        session=session,
        timeout=how.cell_timeout,
        common=common,
    )

    def request(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([resources.shape(how, config["models"])])

    tuner = tune.Tuner(
        tune.with_resources(trainable, request),
        tune_config=tune.TuneConfig(
            search_alg=trials.Plan(),
            num_samples=len(state.pending),
            max_concurrent_trials=len(state.pending),  # `Active.take` knows the limit, which changes with the cluster
            reuse_actors=True,
            trial_dirname_creator=_trial_name,
            trial_name_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=f"bench-{os.getpid()}-{time.time_ns()}",
            storage_path=str(scratch / "tune"),
            verbose=0,
            callbacks=[trials.Watch()],
            # By default Tune has a worker save something to `storage_path` after each cell, which is on this machine:
            # on every other node that fails, and the worker with it.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS),
        ),
    )
    try:
        with contextlib.suppress(trials.RunOver):
            tuner.fit()
    finally:
        trials.ACTIVE = None
    if active.bug is not None:
        raise active.bug
    if active.refused:
        raise BenchError(active.refused)


def _trial_name(trial: Any) -> str:
    return str(trial.config["key"])
