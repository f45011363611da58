"""What drivers have in common: a session that runs cells, and how many workers run them on what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bench.errors import BenchError
from bench.kinds.base import Cell
from bench.kinds.protocol import Outcome


class Session(Protocol):
    """Runs cells and writes their records or failures to the store itself; `bench.kinds.session.Session` is the real
    one.
    """

    def attempt(self, cell: Cell) -> Outcome: ...


OpenSession = Callable[[], Session]
"""Called once in each worker; must be picklable and cheap to pickle."""


@dataclass(frozen=True)
class Workers:
    """How many cells run at once and on what. None of it is part of a key."""

    count: int = 0
    """0: as many as there are CPUs (or GPU shares, on CUDA, for the cells that run a model)."""
    device: str = "cpu"
    gpu_fraction: float = 0.0
    """Share of a GPU for each worker; 0: see `gpu_share`."""
    address: str = ""
    """Of a running Ray cluster; empty: start one here and stop it afterwards."""
    threads: int = 1
    cell_timeout: float = 0.0
    """Seconds after which a cell has failed; 0: never."""

    @property
    def gpu_share(self) -> float:
        """What each worker gets: one half where nothing else was asked for or measured."""
        return self.gpu_fraction or 0.5

    def __post_init__(self) -> None:
        if self.count < 0:
            raise BenchError(f"--workers is {self.count}; give a whole number, at least 1")
        if not 0 <= self.gpu_fraction <= 1:
            raise BenchError(f"--gpu-fraction is {self.gpu_fraction}; give a number above 0, at most 1")
        if "://" in self.address:
            raise BenchError(f"--address is {self.address}; give HOST:PORT of a head node, or auto on one of its nodes")
        if self.cell_timeout < 0:
            raise BenchError(f"--cell-timeout is {self.cell_timeout}; give seconds, or 0 for no limit")
