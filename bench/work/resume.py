"""Where a long fine-tuning run keeps its state, so that it goes on after an interruption, bit for bit."""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, retold, shown
from bench.ground import atomic
from bench.pixels.images import cache_folder

if TYPE_CHECKING:
    from torch import Tensor


def folder(store: str) -> Path:
    """Where the fine-tunes of a store keep their state: beside a local one, so that another node of a cluster finds it
    there, too; in this node's cache for a URL, because a state is large, written often and of no use to anybody else.
    """
    if "://" not in store:
        return Path(store).expanduser().resolve() / "checkpoints"
    return cache_folder() / "checkpoints" / hashlib.sha256(shown(store).encode()).hexdigest()[:12]


class FileCheckpoint:
    """A `bench.work.finetune.Checkpoint` in one safetensors file, replaced as a whole.

    A state is written at most every `seconds`, and only after a multiple of `every` steps. Name the file after the
    cell's key, which says all that a run depends on, except for the code: a state that another `made_by` (version of
    the code and its libraries) left is passed over, so that no expert is half of one and half of the other. `discard`
    it once the record of the expert is stored.
    """

    def __init__(self, path: Path, *, every: int = 1, seconds: float = 0.0, made_by: str = "") -> None:
        if every < 1:
            raise BenchError(f"checkpoint every {every} steps is impossible; give at least 1")
        self.path, self.every, self.seconds, self.made_by = path, every, seconds, made_by
        self.resumed_at = 0
        """Steps that were done when this run began; 0 when it began at the beginning."""
        self.before = 0.0, 0.0
        """Seconds and CPU seconds that went into those steps."""
        self._began = time.monotonic(), time.process_time()
        self._written = self._began[0]

    def load(self) -> "dict[str, Tensor] | None":
        """The last state, or None before the first or after other code's; BenchError for a file that cannot be read."""
        if not self.path.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        text = f"checkpoint {self.path} cannot be read ({{why}}); delete it to start again"
        with retold(BenchError, text, SafetensorError, OSError, ValueError, TypeError, KeyError):
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("made_by", "") != self.made_by:
                    return None
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            wall, cpu = json.loads(about.get("seconds", "[0, 0]"))
            self.before = float(wall), float(cpu)
            self.resumed_at = int(state["step"])
        return state

    def save(self, state: "dict[str, Tensor]") -> None:
        """Write beside the last state and put it in its place: a reader sees one or the other."""
        if time.monotonic() - self._written < self.seconds:
            return
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        spent = [now - then for now, then in zip((time.monotonic(), time.process_time()), self._began, strict=True)]
        total = [a + b for a, b in zip(self.before, spent, strict=True)]
        about = {"seconds": json.dumps(total), "made_by": self.made_by}
        remedy = "free some space, or do without by --runtime save_minutes=0"
        text = f"checkpoint {self.path} cannot be written ({{why}}); {remedy}"
        with retold(BenchError, text, OSError, SafetensorError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.whole(self.path, synced=True) as part:
                save_file({name: value.contiguous() for name, value in state.items()}, part, about)
        self._written = time.monotonic()

    def discard(self) -> None:
        """Forget the state. One that cannot be removed does no harm: `bench results gc` finds it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
