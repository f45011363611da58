"""Names are parsed in one place, and come out as they went in."""

import pytest

from bench.ground import names
from bench.ground.names import Finetuning, Merging, Row


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("att/ties", Row(Finetuning("att"), Merging("ties"))),
        (
            "att+orthoreg/tsv_m~lines@core[v1]",
            Row(Finetuning("att", "orthoreg"), Merging("tsv_m", ("~lines", "@core"), "v1")),
        ),
        ("nonlinear:fusionbench/expert", Row(Finetuning("nonlinear", "", "fusionbench"), Merging("expert"))),
        (
            "tta+orthoreg:orthoreg/ties@knots",
            Row(Finetuning("tta", "orthoreg", "orthoreg"), Merging("ties", ("@knots",))),
        ),
        ("zero-shot", Row(Finetuning("zero-shot"), Merging(""))),
    ],
)
def test_a_row_is_parsed_into_its_parts_and_written_as_it_was(text, row):
    assert names.row(text) == row
    assert str(row) == text


def test_what_a_regularized_row_is_compared_with_keeps_its_family():
    assert names.finetuning("tta+orthoreg:orthoreg").plain == Finetuning("tta", "", "orthoreg")
    assert str(names.finetuning("att+orthoreg").plain) == "att"


def test_tasks_of_a_row_are_one_text():
    assert names.join_tasks(("digits", "letters")) == "digits+letters"
    assert names.split_tasks("digits+letters") == ("digits", "letters")
