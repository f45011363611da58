import math

import pytest

from bench.cards.recipes import Recipe
from bench.errors import BenchError


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("steps", 0, "a whole number, at least 1"),
        ("steps", 2.5, "a whole number, at least 1"),
        ("steps", True, "a whole number, at least 1"),
        ("batch_size", 0, "a whole number, at least 1"),
        ("lr", 0.0, "a number above 0"),
        ("lr", math.nan, "a number above 0"),
        ("lr", math.inf, "a number above 0"),
        ("weight_decay", -0.1, "a number, at least 0"),
        ("warmup_steps", 10, "a whole number from 0 to 9"),
        ("clip", 0.0, "a number above 0, or inf"),
        ("betas", (0.9, 1.0), "two numbers, at least 0 and below 1"),
        ("betas", (0.9,), "two numbers, at least 0 and below 1"),
        ("label_smoothing", 1.0, "a number, at least 0 and below 1"),
        ("precision", "float16", "'float32' or 'bfloat16'"),
        ("augment", "flip", "'none' or 'crop'"),
        ("strength", -1.0, "a number, at least 0"),
    ],
)
def test_out_of_range_names_field_value_and_remedy(field, value, wanted):
    with pytest.raises(BenchError) as error:
        Recipe(**{"steps": 10, "batch_size": 4, "lr": 1e-3, field: value})
    assert str(error.value) == f"recipe: {field} is {value!r}; give {wanted}"


def test_no_clipping_is_allowed():
    assert Recipe(steps=1, batch_size=1, lr=1.0, clip=math.inf).clip == math.inf
