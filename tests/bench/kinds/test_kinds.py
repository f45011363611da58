"""Laws of the registry: what every kind of cell keeps, and what adding one takes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cards import suites
from bench.cards.datasets import SPLITS
from bench.kinds import EXPERIMENTS, KINDS, from_identity
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.imported import Imported
from bench.kinds.protocol import Setting, Work
from bench.planning import grid
from bench.planning.grid import GRIDS
from bench.registry import catalogue
from bench.store.store import Store
from bench.work.coefficients import COARSE

ROOT = Path(__file__).parents[3]
KNOWN = catalogue.load()


def setting(finetuning: str = "att+orthoreg") -> Setting:
    suite, backbone = suites.load("mini8"), suites.backbone("mini")
    bare = Setting(suite, backbone, KNOWN, suite.tasks[:3], {"clip": 2.0}, ("ties", "average"), COARSE, 2, ())
    bare = replace(bare, finetuning=finetuning, seed=1)
    experts = KINDS["expert"].plan(bare)
    published = [
        Imported(
            suite="mini8", backbone="mini", backbone_fingerprint=backbone.fingerprint, task=e.task, card=e.card,
            method=e.method, regularizer=e.regularizer, seed=1, family="lab", sha256=e.task,
        )
        for e in experts
    ]  # fmt: skip
    return replace(bare, experts=experts, imported=published)


def planned(name: str) -> list[Cell]:
    own = setting()
    return list(KINDS[name].plan(replace(own, finetuning="att+orthoreg:lab") if name == "imported" else own))


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_has_cells_of_its_class_after_what_they_need(name: str) -> None:
    own, cells = setting(), planned(name)
    assert KINDS[name].name == name
    assert KINDS[name].cell in {type(cell) for cell in cells}
    seen = {e.key for e in own.experts}
    for cell in cells:
        assert KINDS[cell.kind].cell is type(cell)
        assert set(cell.needs) <= seen
        assert (cell.suite, cell.backbone) == ("mini8", "mini")
        seen.add(cell.key)


@pytest.mark.parametrize("name", KINDS)
def test_what_a_cell_says_of_itself(name: str) -> None:
    """Work is not negative; images are of tasks and splits of the suite; an operator that is named is known."""
    suite = suites.load("mini8")
    for cell in planned(name):
        work = KINDS[cell.kind].cost(cell, KNOWN)
        assert work is None or (
            min(work.evaluated, work.differentiated, work.steps, work.batch) >= 0 and work != Work()
        )
        assert (work is None) == (cell.reads == ())
        assert {task for task, _ in cell.reads} <= {*suite.tasks, suite.control}
        assert {split for _, split in cell.reads} <= set(SPLITS)
        assert not cell.merging or KNOWN.operator(cell.merging)
        assert cell.label


@pytest.mark.parametrize("suite", ["mini8", "vision8"])
@pytest.mark.parametrize("name", GRIDS)
def test_identity_is_inverted_for_every_cell_of_every_grid(name: str, suite: str) -> None:
    for cell in grid.plan(suites.load(suite), grid.grid(name), KNOWN):
        again = from_identity(json.loads(json.dumps(cell.identity)), cell.key)
        assert (type(again), again) == (type(cell), cell)


def test_an_experiment_is_what_is_done_with_experts_and_is_a_grid() -> None:
    assert set(KINDS) - set(EXPERIMENTS) == {"zeroshot", "expert", "imported", "variant"}
    assert set(EXPERIMENTS) <= set(GRIDS)
    assert {e for chosen in GRIDS.values() for e in chosen.experiments} == set(EXPERIMENTS)


def test_an_experiment_is_no_kind_where_its_cells_are_of_another() -> None:
    assert KINDS["subsets"].cell is Addition
    assert {cell.kind for cell in planned("subsets")} == {"addition"}
    with pytest.raises(Exception, match="cell of kind 'subsets', key version 1 is unknown here"):
        from_identity(planned("subsets")[0].identity | {"kind": "subsets"})


def test_only_task_addition_is_ranked() -> None:
    assert {name for name, kind in KINDS.items() if kind.cell.ranked} == {"addition", "subsets"}
    assert {name for name, kind in KINDS.items() if not kind.cell.runs_model} == {"geometry"}


def test_a_cell_reads_the_images_that_it_runs_on() -> None:
    def read(name: str, at: int = 0) -> list[str]:
        return [f"{task} {split}" for task, split in planned(name)[at].reads]

    assert read("expert") == ["digits train", "digits validation", "digits test"]
    assert read("imported", 1) == ["numbers validation", "numbers test"]
    assert read("negation") == ["digits validation", "digits test", "shapes validation", "shapes test"]
    assert read("zeroshot")[-2:] == ["shapes validation", "shapes test"]
    assert {text.partition(" ")[2] for text in read("disentangle")} == {"validation"}
    assert read("geometry") == []


SHORT = ["--grid", "half", "--methods", "nonlinear", "--recipe", "steps=2", "--recipe", "warmup_steps=1"]
PLAN = """
import json, sys
from bench.cards import suites
from bench.kinds import KINDS, from_identity
from bench.planning import grid
from bench.registry import catalogue
cell = grid.plan(suites.load("mini8"), grid.grid("half"), catalogue.load())[-1]
work = KINDS["half"].cost(from_identity(cell.identity, cell.key), catalogue.load())
print(json.dumps([cell.kind, len(cell.needs), work.evaluated, "torch" in sys.modules]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree like this one, of links to its files, with the experiment that the page shows."""
    for folder in ("methods", "datasets"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for source in (ROOT / "bench").rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            link = tmp_path / source.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(\"\"\"What is left of.*?)```", page, re.DOTALL)
    assert example is not None
    kinds = tmp_path / "bench" / "kinds"
    (kinds / "half.py").write_text(example[1], encoding="utf-8")
    text = (kinds / "__init__.py").read_text(encoding="utf-8")
    text = text.replace("    geometry,\n", "    geometry,\n    half,\n").replace("(zero_shot, ", "(zero_shot, half, ")
    (kinds / "__init__.py").unlink()
    (kinds / "__init__.py").write_text(text, encoding="utf-8")
    return tmp_path


def python(tree: Path, *words: str) -> str:
    """What Python prints that imports `bench` from the tree."""
    command, environment = [sys.executable, *words], os.environ | {"PYTHONPATH": str(tree)}
    ended = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_experiment_is_one_file_and_one_name(tree: Path) -> None:
    suite = suites.load("mini8")
    images = sum(suite.card(task).splits[split].rows for task in suite.tasks for split in SPLITS[1:])
    assert json.loads(python(tree, "-c", PLAN)) == ["half", 8, images, False]
    assert json.loads(python(tree, "-m", "bench", "plan", *SHORT, "--json"))["kinds"]["half"]["cells"] == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs(tree: Path) -> None:
    ran = json.loads(python(tree, "-m", "bench", "run", *SHORT, "--local", "--store", "results", "--json"))
    assert (ran["ran"], ran["failed"]) == (1 + 8 + 1, [])
    rows = Store(tree / "results").tables()[0].to_pylist()
    half = [r for r in rows if r["kind"] == "half"]
    assert {(r["split"], r["finetuning"], r["scaling"]) for r in half} == {(s, "nonlinear", 0.5) for s in SPLITS[1:]}
    images = [{(r["task"], r["split"]): r["total"] for r in rows if r["kind"] == kind} for kind in ("half", "expert")]
    assert images[0] == images[1]
    assert len(half) == 16
