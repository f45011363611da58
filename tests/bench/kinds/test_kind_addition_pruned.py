"""Sweeps that stop early choose what whole sweeps choose, and keep its rows."""

import json
import random
from typing import Any

import pytest
import torch
from linear_session import LinearSession, Picture, pictures

from bench.ground.metrics import best_scaling
from bench.kinds import addition
from bench.kinds.addition import Addition
from bench.store.records import PRUNED
from bench.work.coefficients import COARSE, WHOLE
from bench.work.pruning import bound, spread, sweep
from bench.work.runtime import parse

GRID = tuple(round(0.1 * i, 1) for i in range(11))
TASKS = ("one", "two", "three")


class Sweeping(LinearSession):
    """Experts that get half of their validation images right."""

    def expert_accuracy(self, experts: Any, split: str) -> dict[str, float]:
        return dict.fromkeys(TASKS, 0.5)


def drawn(seed: int, prune: bool, sweep: str = WHOLE) -> tuple[Addition, Sweeping]:
    """A merge of random updates on random images, some of them easy to get wrong."""
    rng = random.Random(seed)

    def some() -> list[Picture]:
        return [((rng.randrange(9), rng.randrange(9)), rng.randrange(2)) for _ in range(40)]

    sets = {(task, split): some() for split in ("validation", "test") for task in TASKS}
    vectors = {task: [[rng.gauss(0, 1) for _ in range(2)] for _ in range(2)] for task in TASKS}
    cell = Addition(
        suite="toy", backbone="toy", backbone_fingerprint="fp", tasks=tuple((task, "card") for task in TASKS),
        experts=TASKS, finetuning="att", operator="task_arithmetic", version=1, options="{}", coefficients=GRID,
        board="validation-tuned", seed=0, sweep=sweep,
    )  # fmt: skip
    return cell, Sweeping(sets, vectors, prune=prune)


@pytest.mark.parametrize("order", [WHOLE, COARSE])
@pytest.mark.parametrize("seed", range(25))
def test_the_choice_and_the_test_are_those_of_the_unpruned_sweep(seed: int, order: str) -> None:
    (whole, _), (pruned, facts) = (addition.run(*drawn(seed, prune, order)) for prune in (False, True))
    stopped = facts[PRUNED]
    assert pruned == [r for r in whole if r["split"] == "test" or r["scaling"] not in stopped]
    assert sum(r["selected"] for r in pruned if r["split"] == "validation") == len(TASKS)
    assert {r["scaling"] for r in whole} == {r["scaling"] for r in pruned} | set(stopped)


def test_coefficients_are_stopped_at_all() -> None:
    stopped = [len(addition.run(*drawn(seed, True))[1][PRUNED]) for seed in range(25)]
    assert sum(stopped) > 25 * len(GRID) / 4


def test_a_hopeless_coefficient_is_asked_for_one_batch_only() -> None:
    """W = I + c V, V = [[0, 0], [9, 0]]: at 0 every (2, 1) is class 0 as labelled, at 0.5 and 1 none is."""
    session = LinearSession({}, {})
    evaluator, asked = session.evaluator(None), []
    forward = evaluator.backbone.tower.frozen
    evaluator.backbone.tower.frozen = lambda params: lambda x: (asked.append(len(x)), forward(params)(x))[1]
    tasks = {"one": (pictures([((2, 1), 0)] * 8), torch.eye(2))}
    found = sweep(evaluator, {"w": torch.tensor([[0.0, 0.0], [9.0, 0.0]])}, (0.5, 0.0, 1.0), tasks, {"one": 1.0})
    assert {c: [bits.tolist() for bits in by_task] for c, by_task in found.items()} == {
        0.0: [[True] * 8],
        0.5: [[False] * 8],  # the middle one comes first, when there is nothing to be worse than
    }
    assert asked == [2, 2, 2, 2, 2, 2, 2, 2, 2]  # batches of two: four at 0.5, four at 0, one at 1


def test_ties_go_to_the_smaller_coefficient_whichever_comes_first() -> None:
    session = LinearSession({}, {})
    tasks = {"one": (pictures([((2, 1), 0), ((1, 2), 0)]), torch.eye(2))}
    still = {"w": torch.zeros(2, 2)}
    found = sweep(session.evaluator(None), still, (0.0, 0.5, 1.0), tasks, {"one": 1.0})
    points = {c: {"one": float(bits[0].float().mean())} for c, bits in found.items()}
    assert list(found) == [0.0, 0.5]
    assert best_scaling(points, {"one": 1.0}) == 0.0


def test_bound_by_hand() -> None:
    """1 of 4 wrong at reference 0.5, 2 of 10 wrong at 0.8: (0.75 / 0.5 + 0.8 / 0.8) / 2."""
    assert bound({"a": 1, "b": 2}, {"a": 4, "b": 10}, {"a": 0.5, "b": 0.8}) == pytest.approx(1.25, abs=1e-15)


def test_the_middles_come_first() -> None:
    assert list(spread(range(7))) == [3, 1, 5, 0, 2, 4, 6]
    assert sorted(spread(GRID)) == list(GRID)
    assert list(spread([])) == []


def test_a_row_says_how_its_coefficient_was_chosen() -> None:
    said = {order: {row["protocol"] for row in addition.run(*drawn(0, False, order))[0]} for order in (WHOLE, COARSE)}
    assert said == {WHOLE: {"validation:normalised"}, COARSE: {"validation:normalised:coarse-to-fine"}}


def test_it_is_asked_for_on_the_command_line() -> None:
    assert parse(["prune=true"]) == {"prune": True}
    assert json.loads(json.dumps(addition.run(*drawn(0, False))[1])).keys() == {"merged_norm"}
