"""A fine-tune that is cut short goes on where it was, bit for bit: inside one process, and after a real kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from stores import contents

from bench.cards import suites
from bench.kinds import strength
from bench.kinds.expert import Finetune
from bench.kinds.session import Session
from bench.planning import grid
from bench.planning.grid import Grid
from bench.registry import catalogue
from bench.store.store import Store
from bench.work import finetune, resume
from bench.work.runtime import How

ROOT = Path(__file__).parent.parent.parent.parent
ALWAYS = 1e-9
"""Minutes: a state whenever one may be written, after every fifth step."""
STEPS = 9


def expert(finetuning: str) -> Finetune:
    """The first expert of mini8, nine steps long."""
    chosen = Grid("", (finetuning,), ("average",), tasks=2, recipe=(("steps", STEPS), ("warmup_steps", 2)))
    cells = grid.plan(suites.load("mini8"), chosen, catalogue.load())
    return next(cell for cell in cells if isinstance(cell, Finetune))


@pytest.mark.parametrize("finetuning", ["nonlinear", "att+orthoreg", "tta+orthoreg", "lora+orthoreg"])
def test_an_interrupted_expert_goes_on_bit_for_bit(tmp_path, monkeypatch, finetuning):
    cell = expert(finetuning)
    whole = Session(How(), Store(tmp_path / "whole"))
    assert whole.attempt(cell).error == ""
    assert not resume.folder(whole.store.url).exists()  # no state is written in the first minutes
    assert "resumed_at_step" not in whole.store.read(cell.key).provenance

    steps, take = [], finetune.Trainer.step

    def step(self, index, *inputs):
        steps.append(index)
        if len(steps) == 8:
            raise KeyboardInterrupt
        take(self, index, *inputs)

    monkeypatch.setattr(finetune.Trainer, "step", step)
    store = Store(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        Session(How(save_minutes=ALWAYS), store).attempt(cell)
    state = resume.folder(store.url) / f"{cell.key}.safetensors"
    assert state.is_file()
    assert store.done() == store.failed() == set()
    with safe_open(state, framework="pt") as file:
        wall, cpu = json.loads(file.metadata()["seconds"])
    again = Session(How(save_minutes=ALWAYS), store)
    again.evaluator(cell)  # a session that is warm, and therefore quicker than the time in the state
    assert again.attempt(cell).error == ""
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8]
    assert contents(store, [cell.key]) == contents(whole.store, [cell.key])
    assert list(state.parent.iterdir()) == []
    about = store.read(cell.key).provenance
    assert about["resumed_at_step"] == 5
    assert about["seconds"] > wall > 0
    assert about["cpu_seconds"] > cpu > 0


def test_an_expert_at_another_strength_is_no_expert_of_a_board(tmp_path):
    session, cell = Session(How(), Store(tmp_path / "store")), expert("att+orthoreg")
    (_, (other,)), *_ = strength.by_strength([cell])
    assert other.recipe.strength == 0.0
    assert {r["kind"] for r in session.execute(cell).rows} == {"expert"}
    rows = session.execute(other).rows
    assert {(r["kind"], r["options"]) for r in rows} == {("variant", '{"strength":0.0}')}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_of_a_run_in_the_middle_of_training(tmp_path):
    """The same command goes on from the last state, and leaves what a run leaves that nobody killed."""
    words = ["run", "--grid", "smoke", "--methods", "nonlinear", "--operators", "average", "--local"]
    command = [sys.executable, "-m", "bench", *words, "--runtime", "save_minutes=0.000001", "--store"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    subprocess.run([*command, str(quiet)], env=environment, check=True, capture_output=True, timeout=300)

    process = subprocess.Popen([*command, str(killed)], env=environment, stderr=subprocess.PIPE)
    end = time.monotonic() + 240
    while not (found := list(killed.glob("checkpoints/[0-9a-f]*.safetensors"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no state was written"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    key = found[0].name.partition(".")[0]
    assert key not in Store(killed).done()

    subprocess.run([*command, str(killed)], env=environment, check=True, capture_output=True, timeout=300)
    assert contents(Store(killed)) == contents(Store(quiet))
    assert Store(killed).read(key).provenance["resumed_at_step"] == 5
    assert list(killed.glob("checkpoints/*.safetensors")) == []
