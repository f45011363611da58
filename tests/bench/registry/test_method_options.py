"""Options of a method of one's own, from the file to the training: through the command line, as docs/ shows it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cards import suites
from bench.cli.app import call
from bench.errors import BenchError
from bench.kinds.expert import Finetune
from bench.planning import grid
from bench.registry import catalogue, plugins
from bench.registry import live as registry
from methods.regularizers.record import Regularizer

DOCS = Path(__file__).parents[3] / "docs"
LOG = """
import dataclasses, pathlib


def logged(pretrained, generator, **options):
    with open(pathlib.Path(__file__).with_suffix(".log"), "a") as log:
        print(dict(sorted(options.items())), file=log)
    return start(pretrained, generator, **options)


METHOD = dataclasses.replace(METHOD, start=logged)
"""


def example(name: str) -> str:
    """The block of Python in docs/ that defines something of this name."""
    blocks = [b for p in DOCS.glob("*.md") for b in re.findall(r"```python\n(.*?)```", p.read_text(), re.S)]
    (found,) = (block for block in blocks if f'"{name}"' in block)
    return str(found)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The documented method, which keeps what `start` is called with."""
    path = tmp_path / "mine.py"
    path.write_text(example("share_of_biases") + LOG)
    return path


def planned(mine: Path, methods: tuple[str, ...], *recipe: tuple[str, Any]) -> dict[str, Any]:
    """By method, the options in the identities of its experts."""
    chosen = replace(grid.grid("smoke"), recipe=(("steps", 8), ("warmup_steps", 2), *recipe))
    cells = grid.plan(suites.load("mini8"), chosen, plugins.with_plugins([str(mine)]), finetuning=methods)
    return {c.finetuning: dict(c.recipe.options) for c in cells if isinstance(c, Finetune)}


def test_defaults_and_given_values_reach_the_method(mine: Path, tmp_path: Path) -> None:
    """F2: 8.0, the default of LoRA's alpha, came in place of its own. F3: `share` was no recipe option."""
    some = ["--methods", "share_of_biases", "--operators", "average", "--local", "--store", str(tmp_path / "store")]
    run = ["run", "--grid", "smoke", "--include", str(mine), *some, "--recipe", "steps=2", "--recipe", "warmup_steps=0"]
    assert call(run) == 0
    assert call([*run, "--recipe", "share=0.25", "--recipe", "share_of_biases.alpha=4"]) == 0
    seen = mine.with_suffix(".log").read_text().splitlines()
    assert seen == ["{'alpha': 2.0, 'share': 0.5}"] * 2 + ["{'alpha': 4.0, 'share': 0.25}"] * 2


def test_show_says_what_an_option_may_be(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["show", "share_of_biases", "--include", str(mine)], ["show", "lora"], ["show", "orthoreg"]):
        assert call(words) == 0
    found = re.sub(" +", " ", capsys.readouterr().out)
    for line in (
        "option share 0.5 by default; searched: 0.25, 1",
        "option alpha 2 by default; searched: 1, 4",
        "option rank 8 by default; searched: 4, 16, 32",
        "option alpha 8 by default",
        "option form frobenius by default; also: squared",
        "option sketch 0 by default",
    ):
        assert f" {line}\n" in found


def test_an_option_applies_to_the_methods_that_have_it(mine: Path) -> None:
    both = ("share_of_biases", "lora+orthoreg", "nonlinear")
    assert planned(mine, both, ("alpha", 4.0)) == {
        "share_of_biases": {"alpha": 4.0}, "lora+orthoreg": {"alpha": 4.0}, "nonlinear": {}
    }  # fmt: skip
    assert planned(mine, both, ("share_of_biases.alpha", 4.0), ("form", "squared")) == {
        "share_of_biases": {"alpha": 4.0}, "lora+orthoreg": {"form": "squared"}, "nonlinear": {}
    }  # fmt: skip
    assert planned(mine, both, ("alpha", 2.0)) == {
        "share_of_biases": {}, "lora+orthoreg": {"alpha": 2.0}, "nonlinear": {}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("methods", "text", "says"),
    [
        ("share_of_biases", "shre=1", "no recipe option named 'shre'; did you mean 'share'?"),
        ("nonlinear,lora", "share=0.25", "no recipe option named 'share'"),
        ("nonlinear,att", "rank=4", "no recipe option named 'rank'"),
        ("nonlinear", "form=squared", "no recipe option named 'form'"),
        ("share_of_biases", "share=-1", "share_of_biases: option share=-1.0 is negative"),
        ("share_of_biases", "share=half", "share_of_biases: option share='half' is not a finite number"),
        ("share_of_biases", "lora.alpha=1", "no recipe option named 'lora.alpha'"),
    ],
)
def test_a_wrong_option_is_one_line(
    mine: Path, methods: str, text: str, says: str, refused: Callable[..., str]
) -> None:
    assert says in refused("plan", "--grid", "smoke", "--include", mine, "--methods", methods, "--recipe", text)


def test_options_may_be_written_in_short(tmp_path: Path) -> None:
    """`options={"alpha": 2.0}` is a grid of one value, as files of before have it; twice is refused."""
    head = "from methods.finetuning.record import FineTuning\ndef start(pretrained, generator, **o): return {}\n"
    path = tmp_path / "short.py"
    path.write_text(head + "M = FineTuning('short', '', '', start, options={'alpha': 2.0}, grid={'share': (0.5, 1.0)})")
    assert registry.load([str(path)]).finetuning["short"].defaults == {"alpha": 2.0, "share": 0.5}
    for record, says in (
        ("options={'a': 1}, grid={'a': (1,)}", "its option 'a' stands in options and in grid"),
        ("grid={'a': ()}", "its grid gives option 'a' no value"),
        ("grid={'a': (1, 'b')}", "its grid has a value that is refused: short: option a='b' is not a finite number"),
        ("grid={'a': 2.0}", "its grid is {'a': 2.0}, not a dict of tuples"),
    ):
        path.write_text(head + f"M = FineTuning('short', '', '', start, {record})")
        with pytest.raises(BenchError, match=re.escape(says)):
            registry.load([str(path)])
    path.write_text(head + "M = FineTuning('orthoreg', '', '', start)")  # options are told apart by the owner's name
    with pytest.raises(BenchError, match="the name 'orthoreg' is taken by a built-in"):
        registry.load([str(path)])


def test_the_documented_regularizer() -> None:
    """|D| = 5, target 0.5: value 4.5^2, gradient 2 * 4.5 * D / 5; of factors the same through the product."""
    made: dict[str, Any] = {}
    exec(example("norm_target"), made)
    penalty: Regularizer = made["REGULARIZER"]
    update, grads = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), {"w": torch.ones(2, 2)}
    assert float(penalty.add_gradient({"w": update}, grads, 0.1)) == pytest.approx(20.25)
    torch.testing.assert_close(grads["w"], 1 + 0.1 * 9 * update / 5)
    assert float(penalty.add_gradient({"w": update}, grads, 0.1, target=1.0)) == pytest.approx(16.0)


def test_a_regularizer_without_a_strength_is_refused_when_planning() -> None:
    """F1, and one that declares its own."""
    known = catalogue.load()
    for declared in ({}, {"strength": [0.3, 1.0]}):
        regularizers = {**known.regularizers, "new": {"grid": declared, "version": 1}}
        more = replace(known, regularizers=regularizers)
        suite, chosen = suites.load("mini8"), grid.grid("smoke")
        if not declared:
            with pytest.raises(BenchError, match="suite mini8 gives no strength for the regulariser new"):
                grid.plan(suite, chosen, more, finetuning=("att+new",))
            continue
        cells = grid.plan(suite, chosen, more, finetuning=("att+new",))
        assert {c.recipe.strength for c in cells if isinstance(c, Finetune)} == {0.3}
