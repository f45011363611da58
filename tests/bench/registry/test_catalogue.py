import re
from pathlib import Path
from typing import get_args

import pytest

from bench.checks import laws
from bench.errors import BenchError, UnknownName
from bench.registry import catalogue, plugins
from bench.registry import live as registry
from bench.registry.source import fingerprint
from methods.finetuning import FINETUNING
from methods.merging import MERGING
from methods.operator import Need

ROOT = Path(__file__).parents[3]


def example() -> str:
    """The operator that README and docs/extending.md show."""
    found = [
        re.search(r"```python\n(.*?)```", (ROOT / p).read_text(), re.S) for p in ("README.md", "docs/extending.md")
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][1] == found[1][1]
    return found[0][1]


def test_catalogue_is_what_the_registries_say() -> None:
    """Stale: run `make catalogue`."""
    live = registry.catalogue_of(registry.Registry(dict(MERGING), dict(FINETUNING)))
    assert catalogue.PATH.read_text(encoding="utf-8") == registry.text(live)


def test_the_documented_operator_is_taken_in_and_right(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "my_merge.py"
    path.write_text(example())
    known = registry.load([str(path)])
    merged = known.operator("quorum").merge(
        [{"w": torch.tensor([1.0, 2.0, -4.0])}, {"w": torch.tensor([3.0, -2.0, -2.0])}]
    )
    assert merged["w"].tolist() == [2.0, 0.0, -3.0]
    assert plugins.with_plugins([str(path)]).operator("quorum")["grid"] == {"quorum": [0.5, 0.25, 0.75]}


def test_compositions() -> None:
    known = catalogue.load()
    assert known.operator("tsv_m~lines") == known.composed["tsv_m~lines"]
    assert known.operator("ties~lines")["title"] != known.operators["ties"]["title"]
    for wrong in ("tsv~lines", "tsv_m~", "tsv_m~line"):
        with pytest.raises(BenchError):
            known.operator(wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "no Operator, FineTuning or Regularizer in it"),
        ("import nonsense_module", "No module named 'nonsense_module'; install it, or move what it holds"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3; mend the file"),
        ("raise ValueError('one\\ntwo')", "ValueError: one; mend the file"),
        ("assert 1 > 2", "AssertionError; mend the file"),
        ("from methods.merging.ties import OPERATOR", "no Operator, FineTuning or Regularizer in it"),
        ("OPERATOR = Operator('ties', print)", "the name 'ties' is taken by a built-in; rename your method"),
        ("A, B = Operator('mine', print), Operator('mine', print)", "the name 'mine' is taken; rename your method"),
        ("A = Operator(3, print)", "3: its name is 3, not text"),
        ("A = Operator('my op', print)", "'my op' is not made of letters, digits, _, - and dots; rename it"),
        ("A = Operator('mine', 'print')", "mine: its function is 'print', not a function"),
        ("A = Operator('mine', dict)", "mine: its function is the class dict, not a function"),
        ("A = Operator('mine', print, grid={'k': 3})", "mine: its grid is {'k': 3}, not a dict of tuples such as"),
        ("A = Operator('mine', print, grid={'k': 'ab'})", "mine: its grid is {'k': 'ab'}, not a dict of tuples"),
        ("A = Operator('mine', print, coefficients=1.0)", "mine: its coefficients is 1.0, not a tuple of numbers"),
        ("A = Operator('mine', print, coefficients='MEANS')", "its coefficients is 'MEANS', not a tuple of numbers"),
        ("A = Operator('mine', print, board='free')", "its board is 'free', not one of 'data-free', 'calibration'"),
        ("A = Operator('mine', print, needs='factors')", "its needs is 'factors', not a tuple of some of factors"),
        ("A = Operator('mine', print, needs=('images',))", "not a tuple of some of factors, grams, grams_of, fisher"),
        ("A = Operator('mine', print, version='2')", "mine: its version is '2', not a whole number of at least 1"),
        ("A = Operator('mine', print, unlawful={'order'})", "mine: its unlawful is {'order'}, not a dict"),
        ("def f(v, *, k): 0\nA = Operator('mine', f)", "mine: the function asks for 'k', which is no option"),
        ("def f(): 0\nA = Operator('mine', f)", "mine: its function takes no task vectors"),
        ("A = FineTuning('mine', 'Mine', '', start=None)", "mine: its start is None, not a function"),
    ],
)
def test_a_bad_plugin_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.py"
    head = "from methods.finetuning.record import FineTuning\nfrom methods.operator import Operator\n"
    path.write_text(head + text)
    with pytest.raises(BenchError, match=re.escape(says)) as caught:
        registry.load([str(path)])
    assert "\n" not in str(caught.value)


def test_every_example_of_the_guide_can_be_used(tmp_path: Path) -> None:
    every = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
    blocks = [block for block in every if re.search(r"\b(Operator|FineTuning|Regularizer)\(", block)]
    paths = [tmp_path / f"example{i}.py" for i in range(len(blocks))]
    for path, block in zip(paths, blocks, strict=True):
        path.write_text(block)
    found = registry.load(map(str, paths))
    assert set(found.sources) == {"quorum", "factor_mean", "bias_only", "share_of_biases", "norm_target"}
    assert laws.broken(found.operators["factor_mean"]) == []
    assert "bias_only" in found.finetuning


MINE = """
\"\"\"What it does.\"\"\"
from methods.operator import Operator

def merge(vectors):
    \"\"\"The first.\"\"\"
    return dict(vectors[0])  # as it is

OPERATOR = Operator("mine", merge)
"""


def test_the_fingerprint_of_a_file_is_what_it_does() -> None:
    ours = fingerprint(MINE.encode())
    for other in (MINE.replace("# as", "# just as"), MINE.replace("The first", "It"), MINE.replace("\n\n", "\n\n\n\n")):
        assert other != MINE
        assert fingerprint(other.encode()) == ours
    for other in (MINE.replace("[0]", "[1]"), MINE.replace("merge)", "merge, coefficients=(0.5,))")):
        assert fingerprint(other.encode()) != ours


def test_the_inputs_that_a_record_may_need_are_those_that_are_supplied() -> None:
    assert set(get_args(Need)) == set(laws.NEEDS)


def test_names_carry_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'orthoreg'"):
        catalogue.load().split_finetuning("att+orthreg")
    with pytest.raises(BenchError, match="no such file"):
        registry.load(["nowhere.py"])
