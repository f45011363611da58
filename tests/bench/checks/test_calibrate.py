"""Costs: what is counted for each kind of cell, and that measured numbers reach `bench plan`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cards import suites
from bench.checks import calibrate
from bench.cli.app import call
from bench.errors import BenchError
from bench.kinds.base import field_values
from bench.kinds.expert import Finetune
from bench.kinds.posthoc import Posthoc
from bench.planning import costs
from bench.planning.costs import Costs
from bench.planning.grid import grid, plan
from bench.registry import catalogue
from bench.work.runtime import How

KNOWN = catalogue.load()
TABLE = Costs(
    backbone="mini",
    device="cpu",
    name="a CPU",
    batch=32,
    train={"nonlinear": 0.01, "tta": 0.02},
    penalty={"nonlinear+orthoreg": 0.5},
    evaluate=0.001,
    derivative=0.003,
    vector={"nonlinear": 1000, "tta": 2000},
    memory={"nonlinear": 1, "tta": 1},
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))


def cells(name: str, finetuning: str, operators: tuple[str, ...] = ("task_arithmetic", "average")) -> dict[str, list]:
    found: dict[str, list] = {}
    for cell in plan(suites.load("mini8"), grid(name), KNOWN, finetuning=(finetuning,), operators=operators):
        found.setdefault(cell.kind, []).append(cell)
    return found


def sizes(tasks: tuple[str, ...], split: str) -> int:
    return sum(suites.load("mini8").card(task).splits[split].rows for task in tasks)


def test_cells_are_counted_in_images() -> None:
    suite = suites.load("mini8")
    found = cells("demo", "nonlinear+orthoreg")
    (zero,) = found["zeroshot"]
    everything = (*suite.tasks, suite.control)
    images = sizes(everything, "validation") + sizes(everything, "test")
    assert costs.seconds_of(zero, TABLE, KNOWN) == pytest.approx(0.001 * images)

    expert = found["expert"][0]
    own = sizes((expert.task,), "validation") + sizes((expert.task,), "test")
    training = expert.recipe.steps * (expert.recipe.batch_size * 0.01 + 0.5)
    assert costs.seconds_of(expert, TABLE, KNOWN) == pytest.approx(training + 0.001 * own)

    searched, fixed = found["addition"]
    points = 10  # of 21
    assert len(searched.coefficients) == 21
    validation, test = sizes(suite.tasks, "validation"), sizes(suite.tasks, "test")
    assert costs.seconds_of(searched, TABLE, KNOWN) == pytest.approx(0.001 * (points * validation + test))
    assert costs.seconds_of(fixed, TABLE, KNOWN) == pytest.approx(0.001 * test)
    assert costs.seconds_of(found["geometry"][0], TABLE, KNOWN) is None


def test_a_tangent_sweep_costs_one_derivative_an_image() -> None:
    suite = suites.load("mini8")
    searched, _ = cells("demo", "tta")["addition"]
    images = sizes(suite.tasks, "validation") + sizes(suite.tasks, "test")
    assert costs.seconds_of(searched, TABLE, KNOWN) == pytest.approx(0.003 * images)
    negation = cells("negation", "tta")["negation"][0]
    both = (negation.task, suite.control)
    images = sizes(both, "validation") + sizes(both, "test")
    assert costs.seconds_of(negation, TABLE, KNOWN) == pytest.approx(0.003 * images)


def test_post_hoc_linearisation_costs_its_experts_too() -> None:
    """Validation and test of all tasks twice: once by the merge, once by each task's expert."""
    suite = suites.load("mini8")
    searched, fixed = (Posthoc(**field_values(cell)) for cell in cells("demo", "att")["addition"])
    validation, test = sizes(suite.tasks, "validation"), sizes(suite.tasks, "test")
    assert costs.seconds_of(searched, TABLE, KNOWN) == pytest.approx(0.003 * (2 * validation + 2 * test))
    assert costs.seconds_of(fixed, TABLE, KNOWN) == pytest.approx(0.003 * (validation + 2 * test))


def test_what_was_not_measured_is_counted_apart() -> None:
    found = cells("demo", "att")
    everything = [cell for kind in found.values() for cell in kind]
    estimate = costs.estimate(everything, {"mini": TABLE}, KNOWN)
    assert (estimate["expert"].unknown, estimate["expert"].seconds) == (8, 0.0)
    assert estimate["addition"].unknown == 0
    assert costs.estimate(everything, {}, KNOWN)["addition"].unknown == 2
    some = [cell for kind in cells("demo", "tta").values() for cell in kind]
    assert costs.vectors(some, {"mini": TABLE}) == 8 * 2000


def test_share_of_a_gpu_is_that_of_the_largest_fine_tune() -> None:
    """Batch 32 as measured: 1.25 x 20 of 100 bytes fit 4 times, 1.25 x 30 twice; what fits less than once gets all."""
    plain, tangent = cells("demo", "nonlinear"), cells("demo", "tta")
    table = {"mini": replace(TABLE, capacity=100, memory={"nonlinear": 20, "tta": 30})}
    assert costs.gpu_share(plain["expert"], table) == 1 / 4
    assert costs.gpu_share([*plain["expert"], *tangent["expert"]], table) == 1 / 2
    assert costs.gpu_share(plain["expert"], {"mini": replace(table["mini"], batch=8)}) == 1
    assert costs.gpu_share(plain["addition"], table) == 0.0
    assert costs.gpu_share(cells("demo", "att")["expert"], table) == 0.0
    assert costs.gpu_share(plain["expert"], {"mini": TABLE}) == 0.0


@pytest.mark.parametrize(("name", "parameters"), [("mini", None), ("ViT-B-32", 87_849_216), ("ViT-L-14", 303_966_208)])
def test_task_vectors_are_what_the_architecture_says(name: str, parameters: int | None) -> None:
    suite = suites.load("mini8" if name == "mini" else "vision8")
    experts = [
        cell
        for cell in plan(suite, grid("demo"), KNOWN, operators=("average",), backbones=(name,))
        if isinstance(cell, Finetune)
    ]
    bytes_ = {cell.method: costs.vector(cell) for cell in experts}
    if parameters is None:
        from bench.work import backbone

        pretrained = backbone.load("mini", ()).pretrained
        parameters = sum(p.numel() for p in pretrained.values())
        trained = [n for n in pretrained if n.endswith(("in_proj_weight", "out_proj.weight"))]
        assert bytes_["att"] == 4 * sum(pretrained[n].numel() for n in trained)
        rank = KNOWN.options["lora"]["rank"][0]
        assert bytes_["lora"] - bytes_["att"] == 4 * rank * sum(sum(pretrained[n].shape) for n in trained)
    assert bytes_["nonlinear"] == bytes_["tta"] == 4 * parameters
    assert costs.vectors(experts, {}) == sum(costs.vector(cell) for cell in experts)


def test_decoded_images_are_bytes_of_all_splits_that_are_read() -> None:
    suite = suites.load("mini8")
    found = [cell for kind in cells("demo", "tta").values() for cell in kind]
    everything = (*suite.tasks, suite.control)
    rows = sizes(everything, "validation") + sizes(everything, "test") + sizes(suite.tasks, "train")
    assert costs.decoded(found, {32}) == rows * 3 * 32 * 32


def test_the_table_survives_a_round_trip_and_damage_is_one_line() -> None:
    costs.write(TABLE)
    path = costs.write(Costs(**{**TABLE.__dict__, "backbone": "other"}))
    assert costs.read("cpu")["mini"] == TABLE
    assert set(costs.read("cpu")) == {"mini", "other"}
    assert costs.read("cuda") == {}
    path.write_text("{")
    with pytest.raises(BenchError, match=r"is damaged; delete it and run `bench calibrate`"):
        costs.read("cpu")


def test_plan_says_what_to_run_and_then_the_hours(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["plan", "--grid", "demo", "--methods", "tta", "--store", str(tmp_path / "store")]
    assert call(words) == 0
    assert "run `bench calibrate --backbone mini --device cuda` (or cpu)" in capsys.readouterr().out
    costs.write(TABLE)
    assert call(words) == 0
    out = capsys.readouterr().out
    assert "CPU-hours of a CPU" in out
    assert "calibrate" not in out
    assert call([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["costs"]
    expected = costs.estimate([c for kind in cells("demo", "tta", ()).values() for c in kind], {"mini": TABLE}, KNOWN)
    assert said["kinds"]["expert"]["hours"] == round(expected["expert"].seconds / 3600, 3)


def test_measuring_the_embedded_tower() -> None:
    said: list[str] = []
    found = calibrate.measure("mini", KNOWN, methods=("att+orthoreg",), batch=2, steps=1, say=said.append)
    assert set(found.train) == set(found.memory) == set(found.vector) == {"att"}
    assert set(found.penalty) == {"att+orthoreg"}
    assert said == ["training, att", "training, att+orthoreg", "evaluation"]
    # att changes the attention's weight matrices alone: 4 width^2 numbers of a block, and a small header
    width, layers = 256, 2
    assert found.vector["att"] == pytest.approx(4 * 4 * width * width * layers, rel=0.05)
    assert found.evaluate > 0
    assert found.derivative > 0


def test_a_price_is_measured_as_the_run_will_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    train = calibrate.finetune.train
    monkeypatch.setattr(
        calibrate.finetune,
        "train",
        lambda tower, *rest, **more: seen.append((tower, rest[3].recipe)) or train(tower, *rest, **more),
    )
    given = {
        "recipe": (("precision", "bfloat16"), ("form", "squared"), ("steps", 9)),
        "how": How(checkpointing=True),
    }
    calibrate.measure("mini", KNOWN, methods=("att+orthoreg",), batch=2, steps=1, **given)
    assert all(tower.checkpointing for tower, _ in seen)
    assert {(r.precision, r.batch_size, r.strength) for _, r in seen} == {("bfloat16", 2, 1.0)}
    assert [r.options for _, r in seen] == [()] * 3 + [(("form", "squared"),)] * 3  # `att` has no form
    assert {r.steps for _, r in seen} == {1, 2}


def test_no_cuda_device_is_one_line() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BenchError, match="no CUDA device here"):
        calibrate.measure("mini", KNOWN, how=How(device="cuda"), methods=("att",))
