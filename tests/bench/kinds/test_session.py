"""What a session makes of cells that go wrong: a failed record that says why, and a process that goes on."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cards import suites
from bench.cli.app import call
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.kinds.session import Session
from bench.planning import grid
from bench.registry.plugins import with_plugins
from bench.store.store import Store
from bench.work.runtime import How

ROOT = Path(__file__).parents[3]
RAY = (pytest.mark.slow, pytest.mark.timeout(900))

WRONG = '''
"""Operators that go wrong."""
import torch
from methods.operator import Operator
from methods.vectors import per_tensor

@per_tensor
def nan(deltas):
    return deltas.mean(dim=0) * float("nan")

@per_tensor
def boom(deltas):
    raise RuntimeError("planted\\nsecond line")

def hungry(vectors):
    held = []
    for _ in range(64):
        held.append(torch.ones(2**25))  # 128 MiB, really written
    raise RuntimeError("8 GiB and nobody said no")

NAN, BOOM, HUNGRY = (
    Operator(name, f, title=name, coefficients=(1.0,)) for name, f in (("nan", nan), ("boom", boom), ("hungry", hungry))
)
'''


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    return str(path)


def cells(include: str, *operators: str) -> list:
    """The cells of the smoke grid on `nonlinear` with these operators."""
    chosen = grid.grid("smoke")
    known = with_plugins((include,))
    return grid.plan(suites.load(chosen.suite), chosen, known, finetuning=["nonlinear"], operators=operators)


def merges(include: str, *operators: str) -> list[Addition]:
    return [cell for cell in cells(include, *operators) if isinstance(cell, Addition)]


def test_a_cell_that_raises_or_returns_nan_is_a_failure_and_the_next_one_runs(store, wrong):
    session = Session(How(include=(wrong,)), Store(store))
    nan, boom, fine = merges(wrong, "nan", "boom", "average")
    outcomes = [session.attempt(cell) for cell in (nan, boom, fine)]
    assert [o.status for o in outcomes] == ["failed", "failed", "done"]
    kept = {key: Store(store).read_failure(key) for key in Store(store).failed()}
    assert kept.keys() == {nan.key, boom.key}
    assert kept[nan.key]["error"].startswith("nan returned NaN or infinity in ")
    assert kept[boom.key]["error"] == outcomes[1].error == "RuntimeError: planted"
    assert 'raise RuntimeError("planted' in kept[boom.key]["traceback"]
    assert kept[boom.key]["identity"] == boom.identity


def test_results_of_an_edited_file_do_not_pass_for_those_of_the_new_text(store, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(WRONG.replace('float("nan")', "0.5"))
    (cell,) = merges(str(path), "nan")
    assert Session(How(include=(str(path),)), Store(store)).attempt(cell).status == "done"
    plan = ["plan", "--methods", "nonlinear", "--operators", "nan", "--include", str(path), "--store", str(store)]
    assert call(plan) == 0
    path.write_text(path.read_text().replace("NAN, BOOM", "# a comment\nNAN, BOOM"))
    assert call(plan) == 0
    path.write_text(path.read_text().replace("0.5", "0.25"))
    capsys.readouterr()
    for words in (plan, ["run", "--local", *plan[1:]], ["verify", "nonlinear/nan", *plan[5:]]):
        assert call(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "the file that has nan has changed since nonlinear/nan seed 0 was measured here; write version=2" in err
    path.write_text(path.read_text().replace("title=name,", "title=name, version=2,"))
    assert call([*plan, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"]["addition"]["pending"] == 1


def test_a_loss_that_is_nan_is_a_failure(store, wrong):
    expert = next(cell for cell in cells(wrong, "average") if isinstance(cell, Finetune))
    cell = replace(expert, recipe=replace(expert.recipe, lr=1e30))
    outcome = Session(How(), Store(store)).attempt(cell)
    assert "the loss is not finite at step" in outcome.error
    assert Store(store).failed() == {cell.key}
    assert not Store(store).has_vector(cell.key)


def test_what_was_warm_is_let_go_when_memory_is_exhausted(store, wrong, monkeypatch):
    session = Session(How(), Store(store))
    fine, other = merges(wrong, "average", "ties")
    assert session.attempt(fine).status == "done"
    assert session._evaluators
    monkeypatch.setattr("bench.kinds.addition.norm", lambda _: bytearray(2**62))
    outcome = session.attempt(other)
    assert outcome.error == "out of memory (MemoryError); use fewer --workers, or --runtime checkpointing=true"
    assert session._evaluators == session._images == {}
    monkeypatch.undo()
    assert session.attempt(other).status == "done"
    assert Store(store).failed() == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [["--local"], ["--workers", "1"]], ids=["local", "ray"])
def test_a_cell_that_exhausts_its_memory_fails_alone(store, wrong, how):
    """The operator really takes memory until the kernel says no; cells before and after it run in the same process."""
    words = ["run", "--grid", "smoke", "--methods", "nonlinear", "--operators", "average,hungry,ties"]
    words += ["--include", wrong, "--memory-limit", "2", "--json", "--store", str(store), *how]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", *words]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 1, found.stderr
    told = json.loads(found.stdout)
    (failure,) = told["failed"]
    assert failure["cell"] == "nonlinear/hungry seed 0"
    assert failure["error"].startswith("out of memory (can't allocate memory: you tried to allocate 134217728 bytes")
    assert failure["error"].endswith(
        "a process may take 2 GiB; raise --memory-limit, or use --runtime checkpointing=true"
    )
    assert (told["done"], told["blocked"]) == (5, 0)
    assert "torch.ones(2**25)" in Store(store).read_failure(failure["key"])["traceback"]
