"""Options that verbs share in groups: which cells, and how they run. A group is a dataclass, its fields are options."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from bench.cli.options import (
    STORE,
    BackbonesOption,
    GridOption,
    IncludeOption,
    MethodsOption,
    RecipeOption,
    RuntimeOption,
    StoreOption,
    SuiteOption,
    catalogue,
    imported,
    names,
    offered,
)
from bench.errors import BenchError
from bench.ground.names import FAMILY

if TYPE_CHECKING:
    from bench.driver.base import Workers
    from bench.kinds.base import Cell


def grouped(verb: Callable[..., Any]) -> Callable[..., Any]:
    """`verb`, for Typer: in place of each parameter whose type is a dataclass stand the fields of that dataclass."""
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {}
    found = []
    for name, given in signature(verb).parameters.items():
        group = hints[name]
        if not is_dataclass(hints[name]):
            found.append(given.replace(annotation=group, kind=Parameter.KEYWORD_ONLY))
            continue
        groups[name] = group
        values = group() if given.default is Parameter.empty else given.default
        types = get_type_hints(group, include_extras=True)
        found += [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=getattr(values, f.name), annotation=types[f.name])
            for f in fields(group)
        ]

    @functools.wraps(verb)
    def flat(**given: Any) -> Any:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        return verb(**given, **made)

    flat.__signature__ = signature(verb).replace(parameters=found)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in found}
    return flat


@dataclass(frozen=True)
class Which:
    """The cells that a command line asks for."""

    grid: GridOption = "smoke"
    suite: SuiteOption = ""
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds: 3 runs seeds 0, 1 and 2.")] = 1
    methods: MethodsOption = None
    operators: Annotated[
        list[str] | None,
        typer.Option(
            "--operators",
            help="Merging operators, e.g. ties,tsv_m (replaces the grid's).",
            autocompletion=offered("operators"),
        ),
    ] = None
    backbones: BackbonesOption = None
    subsets: Annotated[
        int | None,
        typer.Option(
            "--subsets", min=1, help="Sets of tasks of each size; fewer are among more (replaces the grid's)."
        ),
    ] = None
    sweep: Annotated[
        Literal["coarse-to-fine", "whole"] | None,
        typer.Option("--sweep", help="Scaling coefficients that validation looks at (replaces the grid's)."),
    ] = None
    recipe: RecipeOption = None
    include: IncludeOption = None
    store: StoreOption = STORE

    def suite_name(self) -> str:
        """The suite that was named, or the grid's own."""
        from bench.plan import grid as grids

        return self.suite or grids.grid(self.grid).suite

    def cells(self) -> "list[Cell]":
        """Experts before merges. Raises `UnknownName` with the nearest name for anything that does not exist.

        `recipe` changes how all experts are trained: such experts are other cells, and tables give them lines of their
        own. Methods such as `nonlinear:fusionbench` mean the published experts that `bench import` put into `store`.
        """
        from bench.cards import suites
        from bench.cards.recipes import parse
        from bench.plan import grid as grids

        chosen = grids.grid(self.grid)
        return grids.plan(
            suites.load(self.suite_name()),
            replace(chosen, recipe=(*chosen.recipe, *parse(self.recipe or ())), sweep=self.sweep or chosen.sweep),
            catalogue(self.include),
            seeds=range(self.seeds),
            finetuning=names(self.methods),
            operators=names(self.operators),
            backbones=names(self.backbones),
            subsets=self.subsets,
            imported=imported(self.store) if any(FAMILY in name for name in names(self.methods)) else (),
        )


@dataclass(frozen=True)
class How:
    """How cells run. None of it is part of a key."""

    local: Annotated[bool, typer.Option("--local", help="Run in this process, one cell at a time, without Ray.")] = (
        False
    )
    count: Annotated[int, typer.Option("--workers", min=0, help="Cells at once; 0: as many as there are cores.")] = 0
    address: Annotated[str, typer.Option("--address", help="Join a Ray cluster: auto, or HOST:PORT.")] = ""
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where cells compute.")] = "cpu"
    gpu_fraction: Annotated[
        float, typer.Option("--gpu-fraction", help="Share of a GPU for a cell; 0: as measured by calibrate.")
    ] = 0.0
    cell_timeout: Annotated[
        float, typer.Option("--cell-timeout", help="Seconds after which a cell fails; 0: never.")
    ] = 0.0
    memory_limit: Annotated[
        float, typer.Option("--memory-limit", min=0, help="GiB that cells may take in a process; 0: no limit.")
    ] = 0.0
    runtime: RuntimeOption = None

    def workers(self) -> "Workers":
        """What the drivers are asked for; BenchError for numbers out of range."""
        from bench.driver.base import Workers

        if self.local and self.address:
            raise BenchError("--local runs here and --address on a cluster; give one of them")
        return Workers(self.count, self.device, self.gpu_fraction, self.address, cell_timeout=self.cell_timeout)

    def choices(self) -> dict[str, Any]:
        """Fields of `bench.work.runtime.Runtime`; BenchError for an unknown or impossible one."""
        from bench.work.runtime import parse

        return {**parse(self.runtime), "device": self.device, "memory_limit": self.memory_limit}
