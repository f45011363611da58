"""Look at what was measured: `bench.results`, `bench.compare`, `bench.leaderboard`, `bench.verify`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.results import source
from bench.errors import BenchError
from bench.store import results as stored
from bench.store.store import Store
from bench.tables import compare as comparing
from bench.work import runtime
from bench.work.runtime import How

if TYPE_CHECKING:
    from bench.boards.results import Results

Where = str | Path | Store


def results(store: Where = "", *, suite: str = "") -> "Results":
    """Everything that was measured, as pandas DataFrames: `rows`, `cells`, `images`, `leaderboard()`, `effects()`.

    Args:
        store: a store or a folder of results; by default ./store, else ./leaderboards.
        suite: which, where the results have several.

    Raises:
        StoreError: there is nothing, or a file is damaged.

    Example:
        >>> import bench
        >>> bench.results("leaderboards/mini8").leaderboard("data-free").head(3)
    """
    from bench.boards.results import load  # imports pandas

    return load(_source(store, suite), suite or None)


def compare(
    a: str,
    b: str = "",
    *,
    against: str = "",
    baseline: str = comparing.BASELINE,
    store: Where = "",
    suite: str = "",
) -> dict[str, Any]:
    """Whether row `a` is better than row `b`: what `bench compare A B --json` prints.

    Args:
        a, b: rows such as "att+orthoreg/ties", "zero-shot" or "lora/expert".
        against: in place of `b`, a regulariser: compares the operator `a` with it on every fine-tuning method.
        baseline: the operator that the regulariser is used with.
        store: a store or a folder of results; by default ./store, else ./leaderboards.
        suite: which, where the results have several.

    Returns:
        Percent and points, rounded. Of two rows: suite, a and b (name, accuracy, normalised, normalised_common),
        difference, low, high, p, detectable, seeds, verdict, sentence, and tasks with McNemar's exact test.

    Raises:
        BenchError: a row that was not measured (with the nearest name), or nothing that can be paired.

    Example:
        >>> import bench
        >>> bench.compare("att/ties", "att/average", store="leaderboards/mini8")["verdict"]
    """
    if bool(b) == bool(against):
        raise BenchError("name two rows, compare(a, b), or one operator and against='orthoreg'")
    rows, cells = stored.load(_source(store, suite), suite or None)
    if b:
        return comparing.compare(rows, cells, a, b, suite=suite or None)
    return comparing.compare_regularizer(rows, cells, a, against, baseline=baseline, suite=suite or None)


def leaderboard(store: Where = "", out: str | Path | None = None, *, suite: str = "") -> dict[str, Any] | list[Path]:
    """The leaderboard of a store as a dict (what `bench leaderboard export json` prints), or, with `out`, as files.

    Args:
        store: a store or a folder of results; by default ./store, else ./leaderboards.
        out: folder to write tables, pictures and the page to; what is written is returned.
        suite: which, where the results have several.

    Example:
        >>> import bench
        >>> page = bench.leaderboard("leaderboards/mini8")
    """
    from bench.boards import files

    where = _source(store, suite)
    if out is not None:
        return files.build(where, suite or None, out)
    return files.table(where, suite or None)


def verify(
    row: str,
    store: str | Path = "",
    *,
    seeds: Sequence[int] = (),
    experts: bool = False,
    suite: str = "",
    include: Iterable[Any] = (),
    **how: Any,
) -> dict[str, Any]:
    """Run the cells of a row again, by this machine and this code, and compare every count and correctness bit.

    Nothing is written to the store.

    Args:
        row: "att+orthoreg/iso_c", "zero-shot", or the key of one cell.
        store: a store or a folder of results; by default ./store, else ./leaderboards.
        seeds: only these.
        experts: train the experts of the row again, too; needed for results without task vectors.
        suite: which, where the results have several.
        include: files with methods of one's own, or records.
        how: fields of `bench.work.runtime.How`, such as device.

    Returns:
        What `bench verify --json` prints: row, store, same, and cells, each with same, changes and metrics.

    Example:
        >>> import bench
        >>> bench.verify("nonlinear/ties", "my-store")["same"]
        True
    """
    from bench.checks import verify as verifying
    from bench.face.running import included

    recorded = verifying.Recorded.open(str(_source(str(store), suite)), suite)
    choices = How(include=included(include), **how)
    with runtime.settings_kept():
        verdicts = list(verifying.verify(recorded, recorded.keys(row, seeds), experts=experts, how=choices))
    return verifying.report(row, recorded, verdicts)


def _source(store: Where, suite: str) -> Store | str:
    return store if isinstance(store, Store) else source(str(store), suite)
