"""What `bench check` says to somebody whose operator is wrong: one line for one mistake, and what to do."""

import pytest
import torch

from bench.checks.laws import broken
from bench.registry.declaration import misdeclared
from methods.merging import MERGING
from methods.operator import Operator
from methods.vectors import per_tensor


def writes(vectors):
    for name in vectors[0]:
        vectors[0][name] = vectors[0][name] + vectors[1][name]
    return vectors[0]


def adds(vectors):
    out = dict(vectors[0])
    for vector in vectors[1:]:
        for name in out:
            out[name].add_(vector[name])
    return {name: x.clone() for name, x in out.items()}


def leaves(vectors):
    raise SystemExit(3)


COUNT = []


def counts(vectors):
    COUNT.append(1)
    return {name: (1 + 0.01 * len(COUNT)) * x for name, x in average(vectors).items()}


average = per_tensor(lambda deltas: deltas.mean(dim=0))
LINES = {
    "writes": (
        writes,
        "law 'form' broken: raises TypeError: 'Mapped' object does not support item assignment; experts are read-only, "
        "return a new dict of tensors",
    ),
    "nothing": (
        lambda vectors: None,
        "law 'form' broken: the operator returned a NoneType, not a dict of tensors",
    ),
    "floats": (
        lambda vectors: dict.fromkeys(vectors[0], 1.0),
        "law 'form' broken: the operator returned 'logit_scale' as a float, not a tensor",
    ),
    "names": (
        lambda vectors: {f"{name}x": x for name, x in vectors[0].items()},
        "law 'form' broken: the operator returned other names than it was given, first 'column'",
    ),
    "shape": (
        per_tensor(lambda deltas: deltas.mean(dim=0).reshape(-1)),
        "law 'form' broken: the operator returned 'logit_scale' with shape (1,) instead of ()",
    ),
    "0-d": (
        per_tensor(lambda deltas: torch.linalg.svd(deltas.mean(dim=0), full_matrices=False)[0]),
        "law 'form' broken: raises RuntimeError: linalg.svd: The input tensor A must have at least 2 dimensions; so it "
        "does on 'logit_scale' of shape ()",
    ),
    "exits": (leaves, "law 'form' broken: raises SystemExit: 3"),
    "in place": (adds, "law 'untouched' broken: changes 'logit_scale' of an expert in place"),
    "other bits": (counts, "law 'seed' broken: the same seed gives other bits"),
    "task order": (
        lambda vectors: {name: x.clone() for name, x in vectors[-1].items()},
        "law 'order' broken: task order changes 'logit_scale' by ",
    ),
    "small tensors": (
        per_tensor(lambda deltas: deltas.mean(dim=0) * (deltas[0].numel() > 1)),
        "law 'agreement' broken: erases a tensor of shape (1,) on which all tasks agree",
    ),
}


@pytest.mark.parametrize("mistake", LINES)
def test_a_mistake_is_one_line(mistake):
    function, line = LINES[mistake]
    found = broken(Operator("mine", function))
    assert found[0].startswith(f"mine: {line}"), found
    assert mistake == "small tensors" or len(found) == 1, found  # one task alone is erased as well


def test_nan_is_said_once_for_every_law_it_breaks():
    found = broken(Operator("mine", per_tensor(lambda deltas: deltas.mean(dim=0).log())))
    assert "is not finite" in found[0]
    assert not any("other bits" in line for line in found)


@per_tensor
def taking_k(deltas, *, k):
    return deltas.mean(dim=0)


@pytest.mark.parametrize(
    ("operator", "says"),
    [
        (Operator("mine", taking_k), "the function asks for 'k', which is no option of the grid and none of its needs"),
        (Operator("mine", average, grid={"k": (1,)}), "its grid names option 'k', which the function does not take"),
        (Operator("mine", average, needs=("grams",)), "its needs name 'grams', which the function does not take"),
        (Operator("mine", average, random=True), "it is random and gets 'seed', which the function does not take"),
        (Operator("mine", taking_k, grid={"k": ()}), "its grid gives option 'k' no value"),
        (Operator("mine", taking_k, grid={"k": (0.5, "half")}), "its grid has a value that is refused"),
        (Operator("mine", average, coefficients=()), "it has no scaling coefficient"),
        (Operator("mine/2", average), "its name 'mine/2' is not made of letters"),
    ],
)
def test_a_record_that_does_not_fit_its_function_is_one_line(operator, says):
    (line,) = broken(operator)
    assert line.startswith(f"{operator.name}: {says}")


def test_every_built_in_record_fits_its_function():
    assert {name: misdeclared(operator) for name, operator in MERGING.items() if misdeclared(operator)} == {}


def test_an_option_called_like_a_fraction_may_count():
    """A domain goes by the option's name only where the operator's own grid lies in it."""
    operator = Operator("mine", average, grid={"rank": (8, 4, 16)})
    assert operator.options({"rank": 2}) == {"rank": 2}
    with pytest.raises(ValueError, match="it is a fraction, not a percentage"):
        Operator("mine", average, grid={"rank": (0.5, 0.25)}).options({"rank": 2})
