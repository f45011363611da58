"""What is said of a method without running it."""

from bench.registry import facts
from methods.merging import MERGING

TIES = MERGING["ties"].with_(version=3)


def test_the_facts_of_an_operator_are_its_records() -> None:
    found = facts.operator_facts(TIES.with_(board="calibration", needs=("grams",), coefficients=(0.0, 0.5)))
    assert (found["board"], found["needs"], found["coefficients"], found["version"]) == (
        "calibration", ["grams"], [0.0, 0.5], 3,
    )  # fmt: skip
    assert {option: values[0] for option, values in found["grid"].items()} == TIES.defaults
