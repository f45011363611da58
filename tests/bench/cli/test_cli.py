"""The command line: what verbs print, exit codes, one clear line for everything a user can get wrong."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated

import fakes
import pytest
import typer

from bench import __version__
from bench.cli import groups
from bench.cli.app import call, explain
from bench.driver import execute
from bench.errors import BenchError
from bench.store.store import Store

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """Verbs run in an empty folder, and runs use the session that computes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "open_session", lambda store, how: fakes.FakeSession(store))


def said(capsys, *words):
    """Exit code, stdout, stderr."""
    code = call(words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["rum"], "bench: No such command 'rum'. Did you mean 'run'?"),
        (["leaderboard", "chck"], "bench leaderboard: No such command 'chck'. Did you mean 'check'?"),
        (["run", "--grd", "x"], "bench run: No such option: --grd (did you mean --grid)"),
        (["run", "--grid", "smok"], "bench run: no grid named 'smok'; did you mean 'smoke'?"),
        (["run", "--suite", "mini9"], "bench run: no suite named 'mini9'; did you mean 'mini8'?"),
        (["run", "--methods", "atk"], "bench run: no fine-tuning method named 'atk'; did you mean 'att'?"),
        (["run", "--methods", "att+orthreg"], "bench run: no regulariser named 'orthreg'; did you mean 'orthoreg'?"),
        (["plan", "--operators", "tie"], "bench plan: no merging operator named 'tie'; did you mean 'ties'?"),
        (["plan", "--backbones", "mimi"], "bench plan: no backbone of suite mini8 named 'mimi'; did you mean 'mini'?"),
        (["plan", "--methods", ","], "bench plan: ',' names nothing; give names with commas between them"),
        (
            ["plan", "--store", str(Path(__file__).parent)],
            f"bench plan: {Path(__file__).parent} is neither empty nor a",
        ),
        (["plan", "--store", __file__], f"bench plan: store {__file__}: "),
        (["run", "--local", "--address", "auto"], "bench run: --local runs here and --address on a cluster"),
        (["run", "--device", "tpu"], "bench run: Invalid value for '--device': 'tpu' is not one of 'cpu', 'cuda'."),
        (["run", "--workers", "-1"], "bench run: Invalid value for '--workers': "),
        (["run", "--cell-timeout", "-1"], "bench run: --cell-timeout is -1.0; give seconds, or 0 for no limit"),
        (["run", "--seeds", "x"], "bench run: Invalid value for '--seeds': "),
        (["ls", "oprators"], "bench ls: no kind of thing named 'oprators'; did you mean 'operators'?"),
        (["show", "tie"], "bench show: no method, dataset, suite, grid or backbone named 'tie'; did you mean 'ties'?"),
        (["data", "check", "digit"], "bench data check: no dataset named 'digit'; did you mean 'digits'?"),
        (["data", "show", "cars"], "bench data show: cars is not drawn by bench; contact sheets exist for mini8"),
        (["status"], "bench status: no store at store; run `bench run` first or name one with --store"),
        (["data"], "bench data: Missing command. Give one of ls, show, check, fetch."),
        (["cite"], "bench cite: Missing argument 'name'. See `bench cite --help`."),
        (["show", "att+orthoreg/ties"], "bench show: att+orthoreg/ties is a row: `bench show` explains its parts"),
        (["retry"], "bench retry: say what to retry: `bench retry --failed`"),
        (["compare", "a"], "bench compare: name two rows"),
        (
            ["merge", "--operator", "ties", "--experts", "a", "--out", "b", "--option", "density"],
            "bench merge: --option den",
        ),
    ],
)
def test_wrong_usage_is_one_line(refused, words, line):
    assert refused(*words).startswith(line)


def test_a_store_of_another_version(refused):
    Store("store")
    Path("store/bench-store.json").write_text('{"format": "bench-store", "version": 99}')
    expected = "store store has version 99, this bench reads version 1; use the bench that wrote it"
    assert expected in refused("status")
    assert expected in refused("run", "--local")


def test_a_folder_that_is_no_store(refused):
    Path("store").mkdir()
    Path("store/thesis.tex").write_text("precious")
    assert "is neither empty nor a store" in refused("run", "--local")
    assert [p.name for p in Path("store").iterdir()] == ["thesis.tex"]


def test_explain():
    assert explain(BenchError("asked, wrong, do")) == ("asked, wrong, do", 2)
    assert explain(OSError(errno.ENOSPC, "No space left on device", "/x/y")) == (
        "no space left on the disk (/x/y); free some and run again", 2,
    )  # fmt: skip
    line, code = explain(ValueError("not from methods"))
    assert (line, code) == ("ValueError: not from methods; this is a bug, --traceback shows where", 70)
    assert explain(NotImplementedError())[0] == "NotImplementedError; this is a bug, --traceback shows where"


def test_a_value_error_of_methods_is_the_users():
    from methods.merging import MERGING

    with pytest.raises(ValueError, match="density") as caught:
        MERGING["ties"].options({"density": 20})
    line, code = explain(caught.value)
    assert code == 2
    assert line.startswith("ties: option density=20 is outside")


def test_traceback_on_demand(capsys, monkeypatch):
    _, _, err = said(capsys, "--traceback", "show", "tie")
    assert "Traceback (most recent call last)" in err
    monkeypatch.setenv("BENCH_TRACEBACK", "1")
    assert "Traceback" in said(capsys, "show", "tie")[2]


def test_version_and_help(capsys):
    assert said(capsys, "--version") == (0, f"bench {__version__}\n", "")
    code, out, _ = said(capsys)
    assert code == 0
    for verb in ("run", "plan", "status", "compare", "leaderboard", "data"):
        assert f"\n  {verb} " in out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bench pl", ["plan", "plot"]),
        ("bench plan --json --grid s", ["smoke", "strength", "subsets"]),
        ("bench run --suite visi", ["vision14", "vision20", "vision8", "vision8_tta"]),
        ("bench plan --operators ties,tsv", ["ties,tsv_m"]),
        ("bench plan --methods att,lora+orthoreg_", ["att,lora+orthoreg_diagonal", "att,lora+orthoreg_offdiagonal"]),
        ("bench merge --operator kar", ["karcher"]),
        ("bench show kn", ["knots"]),
        ("bench cite ties dt", ["dtd"]),
        ("bench plan --backbones nothing", []),
    ],
)
def test_a_shell_completes_names_without_torch(tmp_path, line, offered):
    words = line.split()
    asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.modules['torch'] = None; from bench.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, offered, "")


def test_a_shell_learns_to_complete(capsys, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    with pytest.raises(SystemExit) as end:
        call(["--show-completion"])
    assert not end.value.code
    assert "complete -o default -F _bench_completion bench" in capsys.readouterr().out


def test_plan_counts_by_kind(capsys):
    code, out, _ = said(capsys, "plan", "--grid", "smoke", "--json")
    assert code == 0
    kinds = json.loads(out)["kinds"]
    assert kinds["expert"] == {"cells": 4, "done": 0, "pending": 4, "failed": 0, "blocked": 0}
    assert kinds["addition"]["cells"] == 4
    assert not Path("store").exists()
    _, out, _ = said(capsys, "plan", "--seeds", "2", "--methods", "att", "--operators", "ties,average", "--json")
    kinds = json.loads(out)["kinds"]
    assert (kinds["zeroshot"]["cells"], kinds["expert"]["cells"], kinds["addition"]["cells"]) == (1, 4, 4)
    few = ("--grid", "subsets", "--subsets", "2", "--methods", "att", "--operators", "ties")
    _, out, _ = said(capsys, "plan", *few, "--json")
    assert json.loads(out)["kinds"]["addition"]["cells"] == 2 * 6 + 1  # two sets of each size 2..7, and all eight


def test_a_sweep_of_another_kind_is_another_cell(capsys):
    assert said(capsys, "run", "--local", "--operators", "ties", "--methods", "att+orthoreg")[0] == 0
    pending = [
        json.loads(said(capsys, "plan", "--operators", "ties", "--methods", "att+orthoreg", *sweep, "--json")[1])
        ["kinds"]["addition"]["pending"]
        for sweep in ((), ("--sweep", "coarse-to-fine"), ("--sweep", "whole"))
    ]  # fmt: skip
    assert pending == [0, 0, 1]


def test_run_status_plan_resume(capsys):
    code, out, err = said(capsys, "run", "--local", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["total"], found["done"], found["ran"], found["failed"]) == (9, 9, 9, [])
    assert "9 cells, 0 already done" in err
    code, out, err = said(capsys, "run", "--local")
    assert code == 0
    assert "9 cells, 9 already done" in err
    assert "records: store" in out
    code, out, _ = said(capsys, "plan", "--json")
    assert all(kind["pending"] == 0 for kind in json.loads(out)["kinds"].values())
    code, out, _ = said(capsys, "status")
    assert out == "store store: 9 cells done, 0 failed\n"


def test_failures_give_exit_code_1_and_are_retried(capsys, monkeypatch):
    trouble = {"nonlinear digits seed 0": "raise"}
    monkeypatch.setattr(execute, "open_session", lambda store, how: fakes.FakeSession(store, trouble))
    code, out, err = said(capsys, "run", "--local")
    assert code == 1
    assert "failed: nonlinear digits seed 0: planted (blocks 2 more)" in err
    assert "blocked by them: 2 cells" in out
    _, out, _ = said(capsys, "status", "--grid", "smoke", "--json")
    found = json.loads(out)
    assert [(f["cell"], f["error"]) for f in found["failed"]] == [("nonlinear digits seed 0", "planted")]
    assert found["kinds"]["expert"] == {"cells": 4, "done": 3, "pending": 0, "failed": 1, "blocked": 0}
    assert found["kinds"]["addition"] == {"cells": 4, "done": 2, "pending": 0, "failed": 0, "blocked": 2}
    monkeypatch.setattr(execute, "open_session", lambda store, how: fakes.FakeSession(store))
    code, _, err = said(capsys, "retry", "--failed", "--local")
    assert code == 0
    assert "1 cells, 0 already done, 1 failed before and tried again" in err
    assert len(Store("store").done()) == 7
    assert said(capsys, "run", "--local")[0] == 0
    assert len(Store("store").done()) == 9


def test_workers_get_the_full_path_of_the_store(capsys, monkeypatch, tmp_path):
    """Those of a cluster run in the folder where their node was started."""
    asked = []
    monkeypatch.setattr(execute, "open_session", lambda store, how: asked.append(store) or fakes.FakeSession(store))
    assert said(capsys, "run", "--local", "--store", "here/store")[0] == 0
    assert asked == [str(tmp_path / "here" / "store")]


def test_groups_of_options_become_options():
    """A group's fields stand where the group stood, with the defaults of the group that is the parameter's default."""

    @dataclass(frozen=True)
    class Size:
        wide: Annotated[int, typer.Option("--wide")] = 1
        tall: Annotated[int, typer.Option("--tall")] = 2

    seen = []

    short = Size(tall=3)

    def draw(name: str, size: Size = short, *, loud: bool = False) -> None:
        """Draw a box."""
        seen.append((name, size, loud))

    flat = groups.grouped(draw)
    assert list(signature(flat).parameters) == ["name", "wide", "tall", "loud"]
    assert [p.default for p in list(signature(flat).parameters.values())[1:]] == [1, 3, False]
    assert flat.__doc__ == draw.__doc__
    flat(name="box", wide=7, tall=3, loud=True)
    assert seen == [("box", Size(7, 3), True)]


def test_ls_and_show(capsys):
    _, out, _ = said(capsys, "ls", "operators", "--json")
    assert json.loads(out)["ties"]["paper"] == "arXiv:2306.01708"
    _, out, _ = said(capsys, "ls", "grids")
    assert out.splitlines()[1].startswith("smoke")
    _, out, _ = said(capsys, "show", "att+orthoreg", "--json")
    assert [f["kind"] for f in json.loads(out)] == ["methods", "regularizers"]
    _, out, _ = said(capsys, "show", "compositions", "--json")
    assert json.loads(out)[0]["operators"] == "all compositions"  # as planned, and not the field's default
    _, out, _ = said(capsys, "show", "digits")
    assert "(datasets)" in out
    assert "licence" in out


def test_cite_prints_each_entry_once(capsys):
    _, out, _ = said(capsys, "cite", "ties,ties", "att+orthoreg", "lora+orthoreg")
    assert out.count("@inproceedings{arXiv:2306.01708,") == 1
    assert out.count("@inproceedings{arXiv:2604.17078,") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_broken_pipe_is_not_an_error(unbuffered):
    text = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m bench ls datasets | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("name")


def test_a_closed_stdout_is_not_an_error():
    for words in ("ls", "plan --json"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m bench {words} >&-"], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_knows_no_dash_gets_a_question_mark_and_json_stays_json():
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "bench", "show", "kmnist"]  # classes are named in kana
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"?" in done.stdout
    command.append("--json")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    plain = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONUTF8": "1"}, capture_output=True, check=True)
    assert done.stdout.isascii()
    assert not plain.stdout.isascii()
    assert json.loads(done.stdout) == json.loads(plain.stdout)


def test_what_an_operator_prints_does_not_get_into_the_json(capsys):
    Path("mine.py").write_text(
        "from methods.operator import Operator\n"
        "print('at import')\n"
        "def mean(vectors):\n"
        "    print('at work')\n"
        "    return {name: sum(v[name] for v in vectors) / len(vectors) for name in vectors[0]}\n"
        "OPERATOR = Operator('mine', mean)\n"
    )
    code, out, err = said(capsys, "check", "--quick", "mine.py", "--json")
    assert (code, json.loads(out)) == (0, [{"name": "mine", "problems": [], "smoke": ""}])
    assert "at import" in err
    assert "at work" in err
    assert "at import" in said(capsys, "check", "--quick", "mine.py")[1]
    assert said(capsys, "slurm", "--grid", "smoke", "--json")[1].startswith("#!/bin/bash")


def test_reading_verbs_import_neither_torch_nor_ray(tmp_path):
    Store(tmp_path / "store")
    for words in (["ls"], ["show", "ties"], ["plan", "--grid", "all"], ["status"], ["cite", "ties"], ["data", "ls"]):
        where = ["--store", str(tmp_path / "store")] if words[0] in ("plan", "status") else []
        code = (
            f"import sys; from bench.cli.app import call; code = call({[*words, *where]!r}); "
            "heavy = {'torch', 'ray', 'open_clip', 'torchvision'} & set(sys.modules); "
            "assert not heavy, heavy; sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)


def test_keys_in_a_url_are_not_printed(refused):
    line = refused("status", "--store", "s3://me:secret@127.0.0.1:1/x?scheme=http&region=us-east-1")
    assert "secret" not in line


@pytest.mark.parametrize("name", ["tsv_m", "ties@knots", "svc", "core", "att+orthoreg", "orthoreg_diagonal", "dtd"])
def test_show_ends_with_the_citation(capsys, name):
    code, out, _ = said(capsys, "show", name)
    assert code == 0
    assert "\n  @" in out or "\n  % " in out


def test_show_lists_every_word_an_option_takes(capsys):
    _, out, _ = said(capsys, "show", "ties@knots")
    assert re.search(r"option density +0.2 by default; searched: 0.1, 0.3, 0.5\n", out)
    assert re.search(r"option scope +global by default; also: tensor, row\n", out)
    assert re.search(r"option knots +sv by default; searched: v\n", out)
