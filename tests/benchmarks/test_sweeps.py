"""What the sweep benchmark compares is the same thing twice, and its rows say what they claim."""

from pathlib import Path

import pytest
import torch
from open_clip.transformer import VisionTransformer

from bench.work.evaluate import Scaled, predict
from benchmarks import _machine as machine
from benchmarks import sweeps


@pytest.fixture
def case(tmp_path: Path) -> sweeps.Case:
    torch.manual_seed(0)
    return sweeps.Case(VisionTransformer(32, 8, 64, 2, 1, 2.0, output_dim=16), "mini", 5, tmp_path)


def test_the_rebuilt_model_is_the_one_scaled_in_place(case: sweeps.Case) -> None:
    weights = Scaled(case.weights, case.vectors[0]).at(0.3)
    for name, parameter in case.rebuilt(case.vectors[0], 0.3).named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name])


def test_a_subset_is_the_tangent_model_of_the_sum(case: sweeps.Case) -> None:
    total = sweeps.plus(case.vectors[1], case.vectors[4])
    found = sweeps.subsets(case, [(0,), (1, 4)])
    assert found.shape == (2, len(sweeps.COEFFICIENTS), 5)
    f0, moved = case.backbone.tower.dual(case.weights, total, case.pixels)
    for i, a in enumerate(sweeps.COEFFICIENTS):
        assert torch.equal(found[1, i], predict(f0 + a * moved, case.head))
        assert torch.equal(found[1, i], case.along(sweeps.times(total, a)))


def test_rows_are_medians_of_ratios_and_distances_from_a_floor() -> None:
    row = machine.row([1.0, 2.0, 4.0], [10.0, 10.0, 10.0], 0.5, images=3)
    assert row == {
        "seconds": 2.0,
        "reference_seconds": 10.0,
        "times_faster": 5.0,
        "floor_seconds": 0.5,
        "times_floor": 4.0,
        "images": 3,
    }
    assert machine.digits(0.012345) == 0.0123


def test_ways_take_turns_after_a_first_call() -> None:
    called: list[str] = []
    found = machine.turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert {name: len(times) for name, times in found.items()} == {"a": 2, "b": 2}
