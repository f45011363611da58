"""Verbs over files of a user: check an operator of one's own, merge experts that lie in files."""

from typing import Annotated

import typer

from bench.cli.options import JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(check)


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
