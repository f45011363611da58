"""The Typer application, and what becomes of errors: one line on stderr and an exit code.

0 done, 1 some cells failed or a check found something, 2 wrong usage or anything the user can mend, 70 a bug, 130
interrupted.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from bench.cli import calibrate, cluster, data, exchange, files, integrity, listing, progress, results, run, search
from bench.cli.options import ANSWER, ASKED
from bench.errors import BenchError, shown, told
from bench.ground.versions import BENCH

DONE, USAGE, BUG, INTERRUPTED = 0, 2, 70, 130

app = typer.Typer(
    name="bench",
    help="Which way of fine-tuning and of merging gives the best multi-task model, and is the difference real?",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run, progress, search, listing, results, integrity, data, files, exchange, calibrate, cluster):
    group.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"bench {BENCH}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
    traceback_: Annotated[bool, typer.Option("--traceback", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Options that come before the verb; without a verb, the help."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if sys.stdout is None:  # `bench ls >&-`
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no dash gets a question mark, not an error
    sys.exit(call(sys.argv[1:] if arguments is None else arguments))


def call(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code. `--traceback` counts wherever it stands."""
    traced = "--traceback" in arguments or os.environ.get("BENCH_TRACEBACK", "") not in ("", "0")
    arguments = [a for a in arguments if a != "--traceback"]
    ASKED[:] = arguments
    out = sys.stdout
    try:
        code = app(args=arguments, prog_name="bench", standalone_mode=False)
        out.flush()
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):  # a run has already said what it keeps
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:  # `bench ls | head`; Click makes an exit of it
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return DONE
    except Exception as error:
        if traced and not hasattr(error, "format_message"):
            traceback.print_exc()
        message, code = explain(error)
        return _say(arguments, message, code)
    finally:
        sys.stdout = out  # `--json` had put stderr there
        ANSWER.clear()


def explain(error: Exception) -> tuple[str, int]:
    """One line for people and the exit code."""
    if hasattr(error, "format_message"):  # a usage error of Typer; its classes are not public
        first = (str(error.format_message()).splitlines() or ["wrong usage"])[0]
        first += _remedy(getattr(error, "ctx", None)) if first.startswith("Missing") else ""
        return first.replace("Value error, ", "").replace("(Possible options:", "(did you mean"), USAGE
    if isinstance(error, BenchError):
        return str(error), USAGE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk ({error.filename or 'while writing'}); free some and run again", USAGE
    if isinstance(error, ValueError) and _raised_in_methods(error):
        return str(error), USAGE
    return f"{told(error)}; this is a bug, --traceback shows where", BUG


def _remedy(context: Any) -> str:
    """What can follow where something is missing: the commands of a group, or where to read on."""
    if verbs := getattr(getattr(context, "command", None), "commands", {}):
        return f" Give one of {', '.join(verbs)}."
    return f" See `{context.command_path} --help`." if context else ""


def _raised_in_methods(error: BaseException) -> bool:
    """`methods/` says what is wrong with its input by ValueError; anywhere else that is a bug."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("methods.")


def _say(arguments: Sequence[str], message: str, code: int) -> int:
    verb = " ".join(["bench", *_verb(arguments)])
    print(f"{verb}: {shown(message)}", file=sys.stderr)
    return code


def _verb(arguments: Sequence[str]) -> list[str]:
    """`run`, or `leaderboard build`: as much of the command line as is a verb."""
    found: list[str] = []
    level: typer.Typer | None = app
    for word in (a for a in arguments if not a.startswith("-")):
        groups = {g.name: g.typer_instance for g in level.registered_groups} if level else {}
        verbs = {c.name or c.callback.__name__ for c in level.registered_commands if c.callback} if level else set()
        if word not in verbs and word not in groups:
            break
        found.append(word)
        level = groups.get(word)
    return found
