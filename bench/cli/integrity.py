"""Verbs that hold results to account: verify."""

from typing import Annotated, Literal

import typer

from bench.cli.options import IncludeOption, JsonOption, absolute, print_json, shown
from bench.cli.results import FromOption, ResultsSuite, source


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(verify)


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
    from bench import verify as verifying

    recorded = verifying.Recorded.open(source(store, suite), suite)
    keys = recorded.keys(row, seed or ())
    runtime = {"include": absolute(include), "device": device}
    found = []
    for verdict in verifying.verify(recorded, keys, experts=experts, runtime=runtime):
        found.append(verdict)
        if not json:
            print(verdict.text, flush=True)
    different = sum(not verdict.same for verdict in found)
    if json:
        facts = [verdict.facts() for verdict in found]
        print_json({"row": row, "store": shown(recorded.where), "same": not different, "cells": facts})
    else:
        said = f"{different} differ from" if different else "all as in"
        print(f"{row}: {len(found)} cell{'' if len(found) == 1 else 's'} run again, {said} {shown(recorded.where)}")
    return 1 if different else 0
