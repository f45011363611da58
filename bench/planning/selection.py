"""What somebody asks to run, by names: a grid, and what replaces parts of it. The command line and Python ask alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cards import suites
from bench.errors import BenchError, UnknownName
from bench.ground.names import FAMILY
from bench.kinds import from_identity
from bench.kinds.base import Cell
from bench.kinds.imported import Imported
from bench.planning import grid as grids
from bench.registry.plugins import with_plugins
from bench.store.store import Store
from bench.work.coefficients import COARSE, WHOLE


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The cells that are asked for. Empty: as the grid has it."""

    grid: str = "smoke"
    suite: str = ""
    seeds: Sequence[int] = (0,)
    methods: Sequence[str] = ()
    operators: Sequence[str] = ()
    backbones: Sequence[str] = ()
    subsets: int | None = None
    sweep: str = ""
    recipe: tuple[tuple[str, Any], ...] = ()
    """How all experts are trained: such experts are other cells, and tables give them lines of their own."""
    include: tuple[Any, ...] = ()
    """Files with methods of one's own, or objects (`bench.registry.source.Own`)."""
    store: str | Path = "store"
    """Where methods such as `nonlinear:fusionbench` find the published experts that `bench import` put there."""

    def __post_init__(self) -> None:
        if not self.seeds or any(type(seed) is not int or seed < 0 for seed in self.seeds):
            raise BenchError(f"seeds are {self.seeds!r}; give whole numbers from 0 on, at least one")
        if self.subsets is not None and (type(self.subsets) is not int or self.subsets < 1):
            raise BenchError(f"subsets is {self.subsets!r}; give a whole number, at least 1")
        if self.sweep not in ("", WHOLE, COARSE):
            raise UnknownName("sweep", str(self.sweep), (WHOLE, COARSE))

    @property
    def suite_name(self) -> str:
        """The suite that was named, or the grid's own."""
        return self.suite or grids.grid(self.grid).suite

    def cells(self) -> list[Cell]:
        """Experts before merges. `UnknownName` with the nearest name for anything that does not exist."""
        chosen = grids.grid(self.grid)
        published = any(FAMILY in name for name in self.methods)
        return grids.plan(
            suites.load(self.suite_name),
            replace(chosen, recipe=(*chosen.recipe, *self.recipe), sweep=self.sweep or chosen.sweep),
            with_plugins(self.include),
            seeds=self.seeds,
            finetuning=self.methods,
            operators=self.operators,
            backbones=self.backbones,
            subsets=self.subsets,
            imported=imported(Store(self.store, create=False)) if published else (),
        )


def imported(store: Store) -> list[Imported]:
    """The published experts of a store; those that another version of bench imported are left out."""
    experts = []
    for key, origin in store.imports().items():
        try:
            cell = from_identity(origin["identity"], key)
        except BenchError:
            continue
        if isinstance(cell, Imported):
            experts.append(cell)
    return experts
