import re
from pathlib import Path

import pytest

from bench import catalogue, registry
from bench.errors import BenchError, UnknownName
from methods.finetuning import FINETUNING
from methods.merging import MERGING

ROOT = Path(__file__).parent.parent.parent


def example() -> str:
    """The operator that README and docs/operator.md show."""
    found = [re.search(r"```python\n(.*?)```", (ROOT / p).read_text(), re.S) for p in ("README.md", "docs/operator.md")]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][1] == found[1][1]
    return found[0][1]


def test_catalogue_is_what_the_registries_say() -> None:
    """Stale: run `make catalogue`."""
    live = registry.facts(registry.Registry(dict(MERGING), dict(FINETUNING)))
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
    assert catalogue.with_plugins([str(path)]).operator("quorum")["grid"] == {"quorum": [0.5, 0.25, 0.75]}


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
        ("x = 1", "no Operator or FineTuning in it"),
        ("import nonsense_module", "ModuleNotFoundError: No module named 'nonsense_module'; mend the file"),
        ("from methods.operator import Operator\nOPERATOR = Operator('ties', print)", "the name 'ties' is taken"),
    ],
)
def test_a_bad_plugin_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(BenchError, match=says) as caught:
        registry.load([str(path)])
    assert "\n" not in str(caught.value)


def test_names_carry_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'orthoreg'"):
        catalogue.load().split_finetuning("att+orthreg")
    with pytest.raises(BenchError, match="no such file"):
        registry.load(["nowhere.py"])
