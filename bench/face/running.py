"""Plan and run: `bench.plan`, `bench.run`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.driver import execute
from bench.driver.base import Observer
from bench.driver.progress import Progress
from bench.errors import BenchError
from bench.ground import names
from bench.kinds.base import Cell
from bench.planning import grid as grids
from bench.planning.schedule import Schedule
from bench.planning.selection import Selection
from bench.registry.source import Own
from bench.store.store import Store
from bench.work import runtime
from bench.work.runtime import How

if TYPE_CHECKING:
    from bench.boards.results import Results
    from methods.finetuning.record import FineTuning
    from methods.operator import Operator
    from methods.regularizers.record import Regularizer


@dataclass(frozen=True)
class Ran:
    """What became of some cells. `failures` and `blocked` are empty where everything is done."""

    cells: list[Cell]
    store: Store
    failures: dict[str, str]
    """Label of each cell that failed -> its error in one line; the traceback is in the store."""
    blocked: list[str]
    """Labels of the cells that wait for one that failed."""
    best: list[dict[str, Any]] = field(repr=False)
    """The merged rows with the highest mean test accuracy: `row`, `backbone`, `accuracy`, `scaling`, `seeds`."""

    @property
    def results(self) -> "Results":
        """All that the store has, as `bench.results` gives it."""
        from bench.boards.results import load

        return load(self.store)

    def __repr__(self) -> str:
        """For a notebook: the best rows, then what went wrong."""
        lines = [f"{len(self.cells)} cells, {len(self.failures)} failed, {len(self.blocked)} blocked, {self.store.url}"]
        lines += [f"  {100 * row['accuracy']:.2f} %  {row['row']}" for row in self.best]
        return "\n".join(lines + [f"  failed: {label}: {error}" for label, error in self.failures.items()])


def plan(
    grid: str = "smoke",
    *,
    suite: str = "",
    seeds: int | Sequence[int] = 1,
    methods: "str | Iterable[str | FineTuning]" = (),
    operators: "str | Iterable[str | Operator]" = (),
    regularizers: "str | Iterable[str | Regularizer]" = (),
    backbones: str | Iterable[str] = (),
    recipe: Mapping[str, Any] | None = None,
    sweep: str = "",
    subsets: int | None = None,
    include: Iterable[Any] = (),
    store: str | Path = "store",
) -> list[Cell]:
    """The cells of a grid, experts before merges; nothing is run. Each has a `label` and a `key`.

    Args:
        grid: a name of `bench ls grids`.
        suite: what to measure on; by default the grid's own.
        seeds: how many, or which.
        methods, operators, backbones: replace the grid's own; names ("ties,tsv_m" or a sequence), or records that were
            made here: `methods.operator.Operator`, `methods.finetuning.FineTuning`.
        regularizers: names or records; each method is planned with each of them as well as alone.
        recipe: numbers of the fine-tuning, for all experts: {"steps": 100}.
        sweep: "coarse-to-fine" or "whole"; which scaling coefficients validation looks at.
        subsets: sets of tasks of each size, where the grid has any.
        include: files with methods of one's own, or records of them.
        store: where published experts (`nonlinear:fusionbench`) are found; not read otherwise.

    Raises:
        BenchError: an unknown name, or a record that cannot be, in one line.

    Example:
        >>> import bench
        >>> [cell.label for cell in bench.plan(methods="nonlinear", operators="ties")]
        ['zero-shot', 'nonlinear digits seed 0', 'nonlinear numbers seed 0', 'nonlinear/ties seed 0']
    """
    trained, trainers = _split(methods)
    merges, mergers = _split(operators)
    penalties, penalisers = _split(regularizers)
    if penalties:
        trained = trained or list(grids.grid(grid).finetuning)
        plain = dict.fromkeys(asked.method for asked in map(names.finetuning, trained) if not asked.family)
        both = [str(names.Finetuning(method, penalty)) for method in plain for penalty in penalties]
        trained = list(dict.fromkeys([*trained, *both]))
    return Selection(
        grid=grid,
        suite=suite,
        seeds=_seeds(seeds),
        methods=trained,
        operators=merges,
        backbones=_split(backbones)[0],
        subsets=subsets,
        sweep=sweep,
        recipe=_recipe(recipe),
        include=(*included(include), *trainers, *mergers, *penalisers),
        store=store,
    ).cells()


def run(
    grid: str | Iterable[Cell] = "smoke",
    *,
    store: str | Path | Store = "store",
    methods: "str | Iterable[str | FineTuning]" = (),
    operators: "str | Iterable[str | Operator]" = (),
    regularizers: "str | Iterable[str | Regularizer]" = (),
    include: Iterable[Any] = (),
    local: bool = True,
    quiet: bool = False,
    **more: Any,
) -> Ran:
    """Run the cells of a grid, or the given ones, that the store does not have yet; what became of them.

    Cells that fail do not raise: the result has their `failures`, and the next call tries them again. Only a request
    that cannot be met raises. An operator, method or regulariser of one's own belongs to its text: after an edit, give
    its record another `version` or name, or the run is refused.

    Args:
        grid: a name, or cells of `bench.plan`; those need the records of one's own in `include` again.
        store: a folder or URL; it is made where it is missing.
        methods, operators, regularizers, include: as `bench.plan` takes them.
        local: run in this process, one cell at a time, which is quick for small grids and easy to debug; False starts
            Ray with `workers` processes, or joins the cluster at `address`.
        quiet: say nothing on stderr.
        more: what else `bench.plan` takes, for a name of a grid; and the fields of `bench.work.runtime.How`: workers,
            address, device, gpu_fraction, cell_timeout, memory_limit, batch_size, ...

    Raises:
        BenchError: as `bench.plan`; data or weights that are missing; a store that cannot be written; an edited method.

    Example:
        >>> import bench
        >>> ran = bench.run("smoke", methods="nonlinear", operators="ties", store="my-store", quiet=True)
        >>> ran.failures
        {}
    """
    choices = {name: more.pop(name) for name in list(more) if name in How.__dataclass_fields__}
    own = [record for given in (methods, operators, regularizers) for record in _split(given)[1]]
    how = How(local=local, include=(*included(include), *own), **choices)
    if isinstance(grid, str):
        cells = plan(grid, methods=methods, operators=operators, regularizers=regularizers, include=include, **more)
    elif more or any((methods, operators, regularizers)):
        raise BenchError("cells are planned already; give their methods of one's own with include, and no selection")
    else:
        cells = list(grid)
    opened = store if isinstance(store, Store) else Store(store, create="later")
    with runtime.settings_kept():
        state = execute.execute(cells, opened, how, Observer() if quiet else Progress(), "bench.run in Python")
    return _ran(cells, opened, state)


def _ran(cells: list[Cell], store: Store, state: Schedule) -> Ran:
    from bench.cli.summary import top

    labels = {key: cell.label for key, cell in state.cells.items()}
    failures = {labels[key]: error for key, error in state.failed.items()}
    best = top(store, [state.cells[key] for key in state.done])
    return Ran(cells, store, failures, [labels[key] for key in state.blocked], best)


def _split(given: "str | Iterable[Any]") -> tuple[list[str], list[Own]]:
    """Names, and the records among what was given."""
    if isinstance(given, str):
        given = [name for part in given.split(",") if (name := part.strip())]
    elif not isinstance(given, Iterable):
        given = () if given is None else (given,)
    called, records = [], []
    for one in given:
        if isinstance(one, str):
            called.append(one)
            continue
        from bench.registry import live

        if not isinstance(one, live.Method):
            raise BenchError(f"{one!r} is no method; give a name, or an Operator, a FineTuning or a Regularizer")
        called.append(one.name)
        if not live.is_built_in(one):
            records.append(Own.of(one))
    return called, records


def included(given: Iterable[Any]) -> tuple[Any, ...]:
    """Files by full path, because workers may run in another folder; records as they travel."""
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        given = () if given is None else (given,)
    return tuple(str(Path(one).resolve()) if isinstance(one, str | Path) else _included(one) for one in given)


def _included(record: Any) -> Own:
    from bench.registry import live  # torch, which is not here where nothing but names was asked for

    if not isinstance(record, live.Method):
        raise BenchError(f"include has {record!r}; give paths of Python files, or records such as an Operator")
    return Own.of(record)


def _seeds(given: int | Iterable[int]) -> tuple[int, ...]:
    """How many, or which, as Python's own integers; what is none is left for `Selection` to refuse."""
    if isinstance(given, bool | str | float) or given is None:
        raise BenchError(f"seeds is {given!r}; give how many, or a list of whole numbers from 0 on")
    if not isinstance(given, Iterable):
        return tuple(range(index(given)))
    return tuple(index(one) if hasattr(one, "__index__") and not isinstance(one, bool) else one for one in given)


def _recipe(given: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """Names and values, NumPy's numbers as Python's own."""
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
        raise BenchError(f'recipe is {given!r}; give names and values, such as {{"steps": 100}}')
    return tuple((name, value.item() if hasattr(value, "item") else value) for name, value in (given or {}).items())
