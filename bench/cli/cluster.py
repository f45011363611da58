"""Verbs for machines and clusters: doctor, slurm."""

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from bench.cli.groups import Which
from bench.cli.options import ANSWER, STORE, GridOption, JsonOption, StoreOption, SuiteOption, print_json

MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "problem "}


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(doctor)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(slurm)


def doctor(
    grid: GridOption = "smoke",
    suite: SuiteOption = "",
    store: StoreOption = STORE,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Look for GPUs too with cuda.")] = "cpu",
    address: Annotated[str, typer.Option("--address", help="Look at every node of this Ray cluster too.")] = "",
    json: JsonOption = False,
) -> int:
    """Say what would make a run fail, and the remedy.

    Versions, disk, shared memory, store, weights, data sets; GPUs with --device cuda; with --address every node:
    versions, store and clock. Exit code 1 if there is a problem.
    """
    from bench.checks import doctor as checks

    which = Which(grid, suite)
    found = checks.examine(store, which.suite_name(), which.cells(), device=device, address=address)
    if json:
        print_json(list(map(asdict, found)))
    else:
        for finding in found:
            print(f"{MARKS[finding.level]}{finding.check}: {finding.said}")
            if finding.remedy:
                print(f"          do: {finding.remedy}")
    return 1 if any(finding.level == "problem" for finding in found) else 0


def slurm(
    context: typer.Context,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes of the job.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="Cores of each node that cells may use.")] = 8,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of each node.")] = 0,
    time: Annotated[str, typer.Option("--time", help="Time limit of the job.")] = "24:00:00",
    environment: Annotated[str, typer.Option("--environment", help="Virtual environment, as nodes see it.")] = ".venv",
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="Further option, e.g. --partition=gpu.")] = None,
) -> None:
    """Print an sbatch file that runs a grid.

    All further options are those of `bench run`: bench slurm --nodes 4 --gpus 8 --grid paper --store s3://bucket/run
    """
    from bench.driver.slurm import script

    _parse_run(context)
    text = script(
        context.args, nodes=nodes, cpus=cpus, gpus=gpus, time=time, environment=environment, options=sbatch or ()
    )
    print(text, end="")


def _parse_run(context: typer.Context) -> None:
    """A mistyped option is an error now, not when the job starts."""
    root = context.find_root()
    verb = root.command.get_command(root, "run")  # type: ignore[attr-defined]
    with redirect_stdout(sys.stdout):  # `--json` is the job's; its callback must not move the sbatch file to stderr
        verb.make_context("run", list(context.args), parent=root)
    ANSWER.clear()
