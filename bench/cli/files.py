"""Verbs over files of a user: check an operator of one's own, merge experts that lie in files."""

from typing import Annotated

import typer

from bench.cli.options import IncludeOption, JsonOption, absolute, names, offered, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(check)
    app.command()(merge)


def check(
    file: Annotated[str, typer.Argument(help="Python file with an Operator in it. It is executed.")],
    quick: Annotated[bool, typer.Option("--quick", help="Only the laws on tiny vectors, no run on the suite.")] = False,
    json: JsonOption = False,
) -> int:
    """Does an operator of yours keep the laws?

    Every law on tiny vectors, one line per broken one, then two tasks of the embedded suite. Exit code 1 if not.
    """
    from bench.cli.checking import check_file

    found = check_file(file, quick=quick)
    if json:
        print_json(found)
        return 1 if any(f["problems"] for f in found) else 0
    for report in found:
        for problem in report["problems"]:
            print(problem)
        if not report["problems"]:
            print(f"{report['name']}: keeps every law" + (f"; {report['smoke']}" if report["smoke"] else ""))
    return 1 if any(f["problems"] for f in found) else 0


def merge(
    operator: Annotated[
        str,
        typer.Option(
            "--operator", help="Merging operator, e.g. ties or tsv_m~lines.", autocompletion=offered("operators")
        ),
    ],
    experts: Annotated[
        list[str], typer.Option("--experts", help="Safetensors files or folders, with spaces or commas between them.")
    ],
    out: Annotated[str, typer.Option("--out", help="Safetensors file to write.")],
    pretrained: Annotated[str, typer.Option("--pretrained", help="Checkpoint to add the merged vector to.")] = "",
    scaling: Annotated[float, typer.Option("--scaling", help="Scaling coefficient of the merged vector.")] = 1.0,
    option: Annotated[list[str] | None, typer.Option("--option", help="Operator's option, e.g. density=0.2.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random operators.")] = 0,
    include: IncludeOption = None,
    more: Annotated[list[str] | None, typer.Argument(help="What follows the first file of --experts.")] = None,
) -> None:
    """Merge experts that lie in files.

    Task vectors as bench writes them, or whole checkpoints with --pretrained; one tensor in memory at a time where the
    operator allows.
    """
    from bench.exchange.merge_files import merge_files
    from bench.registry import live

    way = live.load(absolute(include)).operator(operator)
    given = dict(_option(text) for text in names(option))
    files = [path for text in (*experts, *(more or ())) for path in text.split(",") if path]
    print(merge_files(way, given, files, out, pretrained=pretrained or None, scaling=scaling, seed=seed))


def _option(text: str) -> tuple[str, object]:
    """`density=0.2` -> ("density", 0.2); what is not a JSON value is text."""
    import json

    from bench.errors import BenchError

    name, sign, value = text.partition("=")
    if not sign:
        raise BenchError(f"--option {text}: write NAME=VALUE, e.g. density=0.2")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
