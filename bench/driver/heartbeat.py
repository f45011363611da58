"""Which runs are alive: a driver leaves a sign of life in the store, so that anybody who reads the store can tell.

    STORE/runs/ID.plan.json   once: host, process, command, keys of the cells that were to run
    STORE/runs/ID.beat.json   every `EVERY` seconds: what runs now, when it will be over

A run that ends takes both files along; one that was interrupted says so in its last beat; one that was killed leaves
them. On the machine of the driver the process itself is asked, elsewhere the age of the last beat tells, and where that
is over `SILENT` seconds or in the future, the next beat: a beat has the time of the disk or the server, whose clock may
differ from the reader's. What is left is counted from the records, never from a beat. Nothing here is a result, and
nothing is lost with it.
"""

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.driver.base import Drive
from bench.errors import BenchError, first_line
from bench.store.store import Store

EVERY = 10.0
SILENT = 60.0
"""Seconds without a beat after which a driver on another machine is listened for."""
LISTEN = EVERY + 2
"""Seconds in which a driver that lives beats again."""
PAUSE = 1.0
"""Seconds between two looks while listening."""
CLOCKS = 3600.0
"""Seconds by which clocks may differ: a driver that was not heard of for longer is not listened for."""


class Heartbeat:
    """Signs of life of this process while it drives a run; a context manager around the run.

    The first sign is written before anything runs, so a store that cannot be written ends the run in one line.
    """

    def __init__(self, store: Store, drive: Drive, command: str = "") -> None:
        self._store, self._drive, self._command = store, drive, command
        self._run = uuid.uuid4().hex[:12]
        self.sign = f"runs/{self._run}.plan.json"
        """A file of the store that is there as long as the run."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="bench-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        state = self._drive.state
        cells: dict[str, list[str]] = {}
        for cell in state.cells.values():
            if cell.key in state.pending:
                cells.setdefault(cell.kind, []).append(cell.key)
        for old in runs(self._store):
            if old.state in ("dead", "interrupted") and old.left(self._store.done()) <= state.cells.keys():
                forget(self._store, old.run)  # this run does what that one left
        plan = {"command": self._command, "folder": os.getcwd(), "cells": cells}
        self._store.put(self.sign, _json({**plan, **whoami(), "started_at": time.time()}))
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(BenchError, OSError):  # a store that cannot be written has already been reported
            if error is None:
                forget(self._store, self._run)
            else:
                self._beat("interrupted" if kind is KeyboardInterrupt else f"stopped: {first_line(error)}")

    def _live(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(BenchError, OSError):
                self._beat()

    def _beat(self, ended: str = "") -> None:
        running = [{"cell": label, "seconds": round(seconds, 1)} for label, seconds in self._drive.running()]
        left = self._drive.left()
        beat = {"message": self._drive.message, "running": running, "left_seconds": left and round(left)}
        self._store.put(f"runs/{self._run}.beat.json", _json({**beat, "ended": ended}))


@dataclass(frozen=True)
class Run:
    """A run that is not over, as the store tells."""

    run: str
    state: str
    """alive; silent: on another machine and not heard of; dead: its process is gone; interrupted."""
    heard: float
    """Seconds since the last sign of life; negative where the clock that timed it is ahead of ours."""
    started: float
    """Seconds since 1970."""
    plan: dict[str, Any]
    beat: dict[str, Any]
    modified: int
    """When it last beat, in nanoseconds since 1970 by the clock of the disk or the server."""
    ahead: float = 0.0
    """Seconds by which that clock is ahead of ours, where a beat that was waited for has shown it."""

    def left(self, done: Collection[str]) -> set[str]:
        """Keys of its cells that are not done."""
        return {key for keys in self.plan["cells"].values() for key in keys if key not in done}

    def facts(self, done: Collection[str]) -> dict[str, Any]:
        """As JSON values; `left` by kind of cell."""
        left = {kind: sum(key not in done for key in keys) for kind, keys in self.plan["cells"].items()}
        who = {name: self.plan[name] for name in ("host", "pid", "command", "folder")}
        cells = sum(len(keys) for keys in self.plan["cells"].values())
        times = {"started_at": round(self.started), "heard_seconds_ago": round(self.heard, 1)}
        times["clock_ahead_seconds"] = round(self.ahead, 1)
        return {"run": self.run, "state": self.state, **who, **times, "cells": cells, "left": left, **self.beat}


def runs(store: Store) -> list[Run]:
    """Every run whose driver has not ended it, first started first; files that are no signs of life are passed over."""
    files = {file.path: file for file in store.files("runs")}
    found = []
    for path in files:
        name = path.removeprefix("runs/").removesuffix(".plan.json")
        last = files.get(f"runs/{name}.beat.json")
        if last is None or not path.endswith(".plan.json"):
            continue
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError
        ):  # over meanwhile, or foreign
            plan, beat = _plan(json.loads(store.get(path))), _beat(json.loads(store.get(last.path)))
            heard = time.time() - last.modified / 1e9
            found.append(Run(name, _state(plan, beat, heard), heard, plan["started_at"], plan, beat, last.modified))
    return sorted(found, key=lambda run: run.started)


def listen(store: Store, found: list[Run], seconds: float) -> list[Run]:
    """The same runs after waiting for the silent ones to beat, and those alive that do; without those that ended."""
    waiting = {run.run: run.modified for run in found if run.state == "silent" and abs(run.heard) < CLOCKS}
    end = time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        time.sleep(PAUSE)
        now = {run.run: run for run in runs(store)}
        for name, modified in [*waiting.items()]:
            if name in now and now[name].modified == modified:
                continue
            del waiting[name]
            if name in now and now[name].state == "silent":  # by the time of a beat that has just come
                now[name] = replace(now[name], state="alive", heard=0.0, ahead=-now[name].heard)
        found = [run if run.ahead else now[run.run] for run in found if run.run in now]
    return found


def unfinished(store: Store, done: Collection[str], *, patience: float = 0.0) -> Iterator[Run]:
    """The runs that are alive, then others that left something which no living run does.

    `patience`: for how many seconds at most to `listen`.
    """
    found = listen(store, runs(store), patience)
    alive = [run for run in found if run.state == "alive"]
    taken = {key for run in alive for key in run.left(done)}
    yield from alive
    yield from (run for run in found if run.state != "alive" and run.left(done) - taken)


def forget(store: Store, run: str) -> None:
    """Remove the signs of a run."""
    for file in store.files("runs"):
        if file.path in (f"runs/{run}.plan.json", f"runs/{run}.beat.json"):
            store.delete(file)


def whoami() -> dict[str, Any]:
    """What tells this process from every other: host, pid, and where the kernel says so, its boot and start time."""
    return {"host": platform.node(), "pid": os.getpid(), "machine": _machine(), "began": _began(os.getpid())}


def _plan(found: Any) -> dict[str, Any]:
    """A plan with the types it should have, whoever wrote it."""
    plan = {name: _text(found[name]) for name in ("command", "folder", "host", "machine", "began")}
    cells = {_text(kind): [_text(key) for key in keys] for kind, keys in found["cells"].items()}
    return {**plan, "pid": int(found["pid"]), "started_at": float(found["started_at"]), "cells": cells}


def _beat(found: Any) -> dict[str, Any]:
    """A beat, likewise."""
    running = [{"cell": _text(r["cell"]), "seconds": float(r["seconds"])} for r in found["running"]]
    left = None if found["left_seconds"] is None else float(found["left_seconds"])
    said = {name: _text(found[name]) for name in ("message", "ended")}
    return {**said, "running": running, "left_seconds": left}


def _text(value: Any) -> str:
    """What a terminal may be shown: no control characters."""
    return "".join(letter for letter in str(value) if letter.isprintable())


def _state(plan: dict[str, Any], beat: dict[str, Any], heard: float) -> str:
    if beat["ended"]:
        return "interrupted"
    if plan["machine"] and plan["machine"] == _machine():
        return "alive" if plan["began"] == _began(int(plan["pid"])) else "dead"
    return "alive" if abs(heard) < SILENT else "silent"


def _machine() -> str:
    """This boot of this machine and its space of process numbers (containers have their own); empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in ticks of this boot; empty when it is gone, or killed and not yet buried."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    except (OSError, IndexError, ValueError):
        return ""


def _json(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()
