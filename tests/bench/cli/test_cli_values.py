"""Values between the command line and the rest: which cells are asked for, what is said about them."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from bench.cards import suites
from bench.cli import options, run, summary
from bench.cli import search as searching
from bench.cli.app import call
from bench.cli.groups import Which
from bench.driver import execute as driver
from bench.errors import BenchError
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.kinds.zero_shot import ZeroShot
from bench.planning import grid
from bench.planning.schedule import Schedule
from bench.registry import catalogue
from bench.store.records import Record
from bench.store.store import Store
from bench.work.coefficients import COARSE, WHOLE
from bench.work.runtime import How


def of(cells: Iterable[Any], kind: type) -> list[Any]:
    return [cell for cell in cells if type(cell) is kind]


def test_methods_operators_seeds_and_recipe_reach_the_cells() -> None:
    cells = Which(
        grid="demo", methods=["att,tta+orthoreg"], operators=["ties", "average"], seeds=2,
        recipe=["lr=0.5", "strength=7"], sweep="whole",
    ).selection.cells()  # fmt: skip
    experts, merges = of(cells, Finetune), of(cells, Addition)
    assert {(c.finetuning, c.seed) for c in experts} == {(m, s) for m in ("att", "tta+orthoreg") for s in (0, 1)}
    assert {c.recipe.lr for c in experts} == {0.5}
    assert {c.finetuning: c.recipe.strength for c in experts} == {"att": 0.0, "tta+orthoreg": 7.0}
    assert {(c.operator, c.sweep) for c in merges} == {("ties", WHOLE), ("average", WHOLE)}
    assert len(merges) == 2 * 2 * 2


def test_the_grids_recipe_is_kept_and_the_command_lines_comes_later() -> None:
    first, *_ = of(Which(grid="smoke", recipe=["lr=0.5", "steps=12"]).selection.cells(), Finetune)
    assert (first.recipe.steps, first.recipe.warmup_steps, first.recipe.lr) == (12, 2, 0.5)
    assert {c.sweep for c in of(Which(grid="smoke").selection.cells(), Addition)} == {COARSE}


def test_the_suite_is_the_grids_or_the_one_that_was_named() -> None:
    assert [Which(grid=g).selection.suite_name for g in ("smoke", "paper")] == ["mini8", "vision8"]
    assert Which(grid="smoke", suite="vision8").selection.suite_name == "vision8"
    paper = Which(grid="paper", backbones=["ViT-B-16"], methods=["att"], operators=["average"]).selection.cells()
    assert {cell.backbone for cell in paper} == {"ViT-B-16"}
    assert {cell.suite for cell in paper} == {"vision8"}


@pytest.mark.parametrize(
    ("given", "found"),
    [(None, ()), (["a,b", "c"], ("a", "b", "c")), (["b, a ,b"], ("b", "a")), (["a", "a"], ("a",)), (["a,"], ("a",))],
)
def test_names_come_in_order_and_once(given: list[str] | None, found: tuple[str, ...]) -> None:
    assert options.names(given) == found


def test_a_text_without_a_name_does_not_stand_for_all() -> None:
    for text in ("", " ", ","):
        with pytest.raises(BenchError, match="names nothing"):
            options.names([text])


def test_how_cells_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Any] = []
    monkeypatch.setattr(run, "execute", lambda cells, store, how: given.append((store.url, how)) or Schedule([]))
    words = ["run", "--store", str(tmp_path / "store"), "--workers", "3", "--device", "cuda", "--gpu-fraction", "0.25"]
    more = ["--cell-timeout", "9", "--memory-limit", "2", "--runtime", "prune=true", "--runtime", "batch_size=7"]
    assert call([*words, *more]) == 0
    how = How(workers=3, device="cuda", gpu_fraction=0.25, cell_timeout=9.0, memory_limit=2.0, prune=True, batch_size=7)
    assert given == [(str(tmp_path / "store"), how)]
    assert "records: " in capsys.readouterr().out


SMOKE = grid.plan(suites.load("mini8"), grid.grid("smoke"), catalogue.load(), finetuning=["nonlinear"])
ZERO, FIRST, SECOND, *MERGES = SMOKE


def row(cell: Any, task: str, split: str, correct: int, scaling: float) -> dict[str, Any]:
    return {
        "kind": cell.kind, "suite": "mini8", "backbone": "mini", "finetuning": "nonlinear",
        "operator": getattr(cell, "operator", ""), "options": "{}", "board": "", "protocol": "",
        "tasks": "digits+numbers", "task": task, "split": split, "seed": 0, "scaling": scaling, "selected": True,
        "correct": correct, "total": 10, "bits": b"",
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(tmp_path / "store")


def test_a_plan_counts_what_is_done_failed_blocked_and_pending(store: Store) -> None:
    assert [cell.kind for cell in SMOKE] == ["zeroshot", "expert", "expert", "addition", "addition"]
    store.write(Record(ZERO.key, ZERO.identity))
    store.write_failure(FIRST.key, {"error": "planted", "identity": FIRST.identity})
    counts = {k: tuple(v.values()) for k, v in summary.by_kind(SMOKE, store.done(), store.failed()).items()}
    assert counts == {"zeroshot": (1, 1, 0, 0, 0), "expert": (2, 0, 1, 1, 0), "addition": (2, 0, 0, 0, 2)}
    assert summary.failures(store, store.done()) == [
        {"key": FIRST.key, "cell": "nonlinear digits seed 0", "error": "planted"}
    ]
    opened = summary.opened(store.url)
    assert opened is not None
    assert opened.done() == {ZERO.key}
    assert summary.opened(store.url + "-not-there") is None


def test_the_best_rows_are_merges_on_test(store: Store) -> None:
    for cell, right in zip(MERGES, ((5, 6), (7, 8)), strict=True):
        rows = [row(cell, task, "test", n, 0.3) for task, n in zip(("digits", "numbers"), right, strict=True)]
        store.write(Record(cell.key, cell.identity, (*rows, row(cell, "digits", "validation", 10, 0.9))))
    store.write(Record(FIRST.key, FIRST.identity, (row(FIRST, "digits", "test", 10, 1.0),)))
    found = summary.top(store, SMOKE)
    assert [(r["row"], r["accuracy"], r["scaling"], r["seeds"]) for r in found] == [
        (f"nonlinear/{MERGES[1].operator}", pytest.approx(0.75), 0.3, 1),
        (f"nonlinear/{MERGES[0].operator}", pytest.approx(0.55), 0.3, 1),
    ]
    assert [r["row"] for r in summary.top(store, SMOKE, 1)] == [f"nonlinear/{MERGES[1].operator}"]


def test_a_run_with_a_failed_or_blocked_cell_exits_with_1(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def executed(*failed: str) -> Schedule:
        state = Schedule(SMOKE)
        while (cell := state.take()) is not None:
            state.fail(cell.key, "planted") if cell.label in failed else state.finish(cell.key)
        return state

    for cell in SMOKE:
        store.write(Record(cell.key, cell.identity))
    for failed, code in (((), 0), (("nonlinear digits seed 0",), 1), (("zero-shot",), 1)):
        monkeypatch.setattr(run, "execute", lambda *_, failed=failed: executed(*failed))
        assert run._run(SMOKE, store, How(), True, {"grid": "smoke"}) == code
        said = json.loads(capsys.readouterr().out)
        assert [f["cell"] for f in said["failed"]] == list(failed)
        assert said["blocked"] == (2 if "nonlinear digits seed 0" in failed else 0)
        assert said["grid"] == "smoke"


def test_a_search_chooses_rates_first_and_strengths_at_those_rates(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stage 1 makes the largest rate best; stage 2 must train with it, and is best at the smallest strength."""
    store, seen = Store(tmp_path / "store"), []

    def executed(cells: Any, where: Store, how: How) -> Schedule:
        state = Schedule(cells)
        experts = {cell.key: cell for cell in of(cells, Finetune)}
        seen.append({(c.finetuning, c.recipe.lr, c.recipe.strength) for c in experts.values()})
        while (cell := state.take()) is not None:
            state.finish(cell.key)
            rows: tuple[dict[str, Any], ...] = ()
            if isinstance(cell, Finetune):
                rows = (row(cell, cell.task, "validation", 9, 1.0),)
            if isinstance(cell, Addition):
                recipe = experts[cell.needs[0]].recipe
                good = round(1000 * recipe.lr) if len(seen) == 1 else 9 - min(8, round(recipe.strength))
                rows = (row(cell, "digits", "validation", good, 0.3), row(cell, "digits", "test", 10 - good, 0.3))
            store.write(Record(cell.key, cell.identity, rows))
        return state

    monkeypatch.setattr(searching, "execute", executed)
    out = tmp_path / "found.json"
    assert searching.search(store=store.url, how=How(), out=str(out), json=True) == 0
    said = json.loads(capsys.readouterr().out)
    suite = suites.load("mini8")
    methods = ("nonlinear", "tta", "att", "lora")
    rate, strength = max(suite.search["lr"]), min(suite.search["strength"])
    assert seen[0] == {(m, lr, 0.0) for m in methods for lr in suite.search["lr"]}
    assert seen[1] == {(f"{m}+orthoreg", rate, s) for m in methods for s in suite.search["strength"]}
    assert (
        suites.read_search(out)
        == said["chosen"]
        == {m: {"lr": rate} for m in methods} | {f"{m}+orthoreg": {"lr": rate, "strength": strength} for m in methods}
    )
    assert len(said["trials"]) == len(methods) * (len(suite.search["lr"]) + len(suite.search["strength"]))


def test_what_is_left_to_do_is_the_plan_without_what_is_done(store: Store) -> None:
    store.write(Record(ZERO.key, ZERO.identity))
    store.write(Record("stranger", {"kind": "expert"}))
    state = driver.schedule(SMOKE, store)
    assert (state.before, state.done, len(state.pending)) == (1, {ZERO.key}, 4)
    assert isinstance(state.take(), Finetune)
    assert isinstance(ZERO, ZeroShot)


@pytest.mark.parametrize(("merged", "again"), [(True, False), (False, True)])
def test_an_expert_whose_vector_is_gone_is_trained_again_where_it_is_needed(
    store: Store, merged: bool, again: bool
) -> None:
    for cell in (ZERO, FIRST, SECOND, *(MERGES if merged else ())):
        store.write(Record(cell.key, cell.identity))
    store.write_vector(SECOND.key, b"here")
    state = driver.schedule(SMOKE, store)
    assert (FIRST.key in state.pending) is again
    assert SECOND.key in state.done
