"""Operators that work in pieces of a core's cache give the bits of whole tensors, sorted, masked and added plainly."""

from functools import partial

import pytest
import torch

from methods.merging import MERGING, breadcrumbs, dare, della, ties
from methods.selection import ranked
from methods.vectors import chunks, generator


def experts(shape, tasks=3, kind="normal"):
    drawn = [torch.randn(shape, generator=generator(0, task, kind)) for task in range(tasks)]
    if kind == "coarse":  # many equal magnitudes, many zeros
        drawn = [(2 * x).round() for x in drawn]
    return [{"w": x} for x in drawn]


@pytest.mark.parametrize("kind", ["normal", "coarse"])
@pytest.mark.parametrize("width", [1, 2, 7, 32, 700])
def test_ranked_finds_what_sorting_finds(width, kind):
    rows = experts((50, width), 1, kind)[0]["w"]
    places = sorted({0, width // 3, width // 3, width - 1})
    ordered = rows.sort(dim=1).values
    for place, found in zip(places, ranked(rows.clone(), *places), strict=True):
        assert torch.equal(found, ordered[:, place, None])
    twice = ranked(rows.clone(), width - 1, width - 1)
    assert torch.equal(twice[0], twice[1])


@pytest.mark.parametrize("kind", ["normal", "coarse"])
@pytest.mark.parametrize(("density", "top"), [(0.1, 0.01), (0.2, 0.0), (0.9, 0.1), (0.3, 0.7), (1.0, 0.5)])
@pytest.mark.parametrize(
    ("scope", "shape"),
    [("row", (300, 768)), ("row", (2 * breadcrumbs.PIECE + 5,)), ("tensor", (300, 768)), ("tensor", (3, 50))],
)
def test_breadcrumbs_are_what_sorting_every_row_gives(scope, shape, density, top, kind):
    vectors, expected = experts(shape, kind=kind), torch.zeros(shape)
    width = shape[-1] if scope == "row" else expected.numel()
    largest = min(int(top * width), width - 1)
    last = min(largest + max(1, round(density * width)), width)
    for vector in vectors:
        rows = vector["w"].reshape(-1, width)
        ordered = rows.abs().sort(dim=1, descending=True).values
        low, high = ordered[:, last - 1, None], ordered[:, largest, None]
        keep = rows.abs() >= low
        if largest:
            keep &= rows.abs() <= high
        expected += (rows * keep).view(shape)
    found = MERGING["breadcrumbs"].merge(vectors, density=density, top=top, scope=scope)["w"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("density", [0.001, 0.25, 1.0])
@pytest.mark.parametrize("scope", ["tensor", "row", "global"])
@pytest.mark.parametrize("kind", ["normal", "coarse"])
def test_ties_trims_what_sorting_trims(scope, density, kind):
    (vector,) = vectors = experts((700, 300), 1, kind)
    width = 300 if scope == "row" else 700 * 300
    rows = vector["w"].view(-1, width)
    kept = ties.kept_count(density, width)
    limit = rows.abs().sort(dim=1, descending=True).values[:, kept - 1, None]
    expected = (rows * (rows.abs() >= limit)).view(-1)
    found = torch.cat([piece[0].clone() for piece in ties.trim(vectors, density, scope)("w")])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_dare_adds_what_whole_tensors_add(drop):
    vectors, expected = experts((3, dare.PIECE - 1)), torch.zeros(3, dare.PIECE - 1)
    for task, vector in enumerate(vectors):
        expected += dare.sparsify(vector["w"], drop, "inverse", generator(5, "dare", task, "w"))
    assert torch.equal(MERGING["dare"].merge(vectors, drop=drop, seed=5)["w"], expected)


@pytest.mark.parametrize("shape", [(200, 768), (200, 769), (400, 3, 8, 32), (5,), ()])
@pytest.mark.parametrize("rescale", ["inverse", "l1", "none"])
def test_della_elects_what_whole_tensors_elect(shape, rescale):
    """Nine tasks: sums over more than four depend on where a piece ends, so pieces must end on full vectors."""
    vectors = experts(shape, 9)
    whole = [
        {"w": della.sparsify(v["w"], 0.5, 0.15, rescale, generator(5, "della", t, "w"))} for t, v in enumerate(vectors)
    ]
    expected = ties.elect(vectors, partial(chunks, whole), mean=True, zero_sign="zero", whole_model=False)["w"]
    assert torch.equal(MERGING["della"].merge(vectors, rescale=rescale, seed=5)["w"], expected)
