"""Where a long fine-tuning run keeps its state, so that it goes on after an interruption, bit for bit."""

import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.images import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

ENDING = ".safetensors"


def folder(store: str) -> Path:
    """Where the fine-tunes of a store keep their state: beside a local one, so that another node of a cluster finds it
    there, too; in this node's cache for a URL, because a state is large, written often and of no use to anybody else.
    """
    if "://" not in store:
        return Path(store).expanduser().resolve() / "checkpoints"
    return cache_folder() / "checkpoints" / hashlib.sha256(store.encode()).hexdigest()[:12]


class FileCheckpoint:
    """A `bench.finetune.Checkpoint` in one safetensors file, replaced as a whole every `every` steps.

    Name the file after the cell's key, which says all that a run depends on; `discard` it once the expert is stored.
    """

    def __init__(self, path: Path, *, every: int = 1000) -> None:
        if every < 1:
            raise BenchError(f"checkpoint every {every} steps is impossible; give at least 1")
        self.path, self.every = path, every

    def load(self) -> "dict[str, Tensor] | None":
        """The last state, or None before the first; BenchError for a file that cannot be read."""
        if not self.path.is_file():
            return None
        import safetensors.torch
        from safetensors import SafetensorError

        try:
            return safetensors.torch.load_file(self.path)
        except (SafetensorError, OSError) as error:
            raise BenchError(f"checkpoint {self.path} cannot be read ({error}); delete it to start again") from error

    def save(self, state: "dict[str, Tensor]") -> None:
        """Write beside the last state and put it in its place: a reader sees one or the other."""
        import safetensors.torch

        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        try:
            safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, scratch)
            with scratch.open("rb") as written:
                os.fsync(written.fileno())
            scratch.replace(self.path)
        except OSError as error:
            raise BenchError(f"checkpoint {self.path} cannot be written ({error}); free some space") from error
        finally:
            scratch.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)
