"""Verbs that hold results to account and a store in order: verify, results gc."""

from typing import Annotated, Literal

import typer

from bench.cli.options import STORE, IncludeOption, JsonOption, StoreOption, absolute, print_json, print_table
from bench.cli.results import FromOption, ResultsSuite, results, source
from bench.errors import shown
from bench.work.runtime import How


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(verify)
    results.command()(gc)


def verify(
    row: Annotated[str, typer.Argument(help="Row, e.g. att+orthoreg/iso_c or zero-shot; or the key of one cell.")],
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Only this seed; may be repeated.")] = None,
    experts: Annotated[bool, typer.Option("--experts", help="Train the experts of the row again, too.")] = False,
    suite: ResultsSuite = "",
    store: FromOption = "",
    include: IncludeOption = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where cells compute.")] = "cpu",
    json: JsonOption = False,
) -> int:
    """Run a row again and compare it with the record.

    The cells of the row are computed by this machine and this code, and every count and correctness bit is compared.
    Nothing is written to the store. With --experts the committed leaderboards can be verified, too: they hold no task
    vectors, so everything is trained again. Exit code 0 same, 1 different.
    """
    from bench.checks import verify as verifying

    recorded = verifying.Recorded.open(source(store, suite), suite)
    keys = recorded.keys(row, seed or ())
    how = How(device=device, include=absolute(include))
    verdicts = []
    for verdict in verifying.verify(recorded, keys, experts=experts, how=how):
        verdicts.append(verdict)
        if not json:
            print(verdict.text, flush=True)
    different = sum(not verdict.same for verdict in verdicts)
    if json:
        print_json(verifying.report(row, recorded, verdicts))
    else:
        said = f"{different} differ from" if different else "all as in"
        print(
            f"{row}: {len(verdicts)} cell{'' if len(verdicts) == 1 else 's'} run again, {said} {shown(recorded.where)}"
        )
    return 1 if different else 0


LISTED = 20
"""Files that `results gc` lists one by one."""


def gc(
    store: StoreOption = STORE,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the files; without it nothing is touched.")] = False,
    older_than: Annotated[float, typer.Option("--older-than", help="Hours since a file was written.")] = 24.0,
    json: JsonOption = False,
) -> None:
    """List or remove files that no record needs.

    Task vectors of cells that were never finished, temporaries of killed writers, training states and failures of cells
    that are done, signs of runs that are over. Without --delete this only lists them. What is younger than --older-than
    or than a living run stays, because its driver may be about to need it.
    """
    from bench.checks import garbage
    from bench.store.store import Store

    opened = Store(store, create=False)
    found = garbage.find(opened, hours=older_than)
    gone = [file for file in found.old if delete and file.remove(opened)]
    if json:
        files = [{"path": f.path, "bytes": f.file.size, "why": f.why, "removed": f in gone} for f in found.old]
        print_json({"store": opened.url, "bytes": found.size, "young": found.young, "files": files})
        return
    if found.old:
        lines = [(size(f.file.size), f.why, f.path) for f in found.old[:LISTED]]
        print_table(("size", "what", "file"), lines)
        if len(found.old) > LISTED:
            print(f"... and {len(found.old) - LISTED} more; --json lists them all")
    total = f"{len(found.old)} file{'' if len(found.old) == 1 else 's'}, {size(found.size)}"
    if delete:
        kept = len(found.old) - len(gone)
        print(f"removed {total}" + (f", but {kept} that changed meanwhile" if kept else ""))
    else:
        print(f"{total} that no record needs" + ("; `bench results gc --delete` removes them" if found.old else ""))
    if found.young:
        print(f"{found.young} younger than {older_than:g} h stay: a running driver may need them")


def size(count: int) -> str:
    """`1536` -> "1.5 KB"."""
    value = float(count)
    for unit in ("B", "KB", "MB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GB"
