"""Every number here is worked by hand."""

import json
import math

import pytest
import torch
from torch import tensor

from bench.work import geometry as g

ROOT = math.sqrt(0.5)


def test_cosine_and_norms_by_hand() -> None:
    """(3, 4) and (4, 3) spread over a matrix and a bias: norms 5, cosine 24/25."""
    a, b = {"w": tensor([[3.0]]), "b": tensor([4.0])}, {"w": tensor([[4.0]]), "b": tensor([3.0])}
    found = g.geometry([a, b], ["a", "b"])
    assert found["norms"] == [5.0, 5.0]
    assert found["cosine"] == [[1.0, 0.96], [0.96, 1.0]]
    assert found["layers"]["names"] == ["w"]
    assert found["layers"]["cosine"] == [1.0]
    assert found["layers"]["norm"] == [3.5]


def test_layer_cosine_is_the_mean_absolute_value_over_pairs() -> None:
    """Directions e1, -e1, e2: |cosines| of the pairs are 1, 0, 0."""
    rows = [tensor([[1.0, 0.0]]), tensor([[-2.0, 0.0]]), tensor([[0.0, 5.0]])]
    assert g.mean_absolute(g.cosines(g.inner_products(rows))) == pytest.approx(1 / 3)
    assert g.mean_absolute(g.cosines(g.inner_products(rows[:1]))) is None


def test_a_zero_vector_has_no_direction() -> None:
    found = g.cosines(g.inner_products([tensor([1.0, 2.0]), tensor([0.0, 0.0])]))
    assert found.tolist() == [[pytest.approx(1.0), 0.0], [0.0, 0.0]]
    everything = g.geometry([{"w": torch.zeros(3, 2)}, {"w": torch.zeros(3, 2)}], ["a", "b"])
    assert everything["layers"]["overlap_left"] == [None]
    assert everything["layers"]["stable_rank"] == [0.0]
    assert sum(everything["angles"]["update"]) == 0.0


@pytest.mark.parametrize(
    ("update", "value"),
    [
        ([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], 0.0),  # orthonormal columns
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 1.0),  # three columns in a plane: one is missing
        ([[2.0], [0.0]], 3.0),  # 2^2 - 1
        ([[1.0, 1.0], [0.0, 0.0]], math.sqrt(2)),  # Gram [[1, 1], [1, 1]]
        ([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], math.sqrt(2)),
    ],
)
def test_defect_by_hand(update: list[list[float]], value: float) -> None:
    matrix = tensor(update, dtype=torch.float64)
    assert g.defect(matrix) == pytest.approx(value)
    plain = torch.linalg.matrix_norm(matrix.T @ matrix - torch.eye(matrix.shape[1], dtype=torch.float64))
    assert g.defect(matrix) == pytest.approx(float(plain))


def test_stable_rank_by_hand() -> None:
    assert g.stable_rank(tensor([2.0, 1.0, 1.0])) == pytest.approx(1.5)
    assert g.stable_rank(tensor([3.0, 3.0])) == pytest.approx(2.0)


def test_spectrum_is_kept_at_powers_of_two() -> None:
    assert g.powers_of_two(1) == [0]
    assert g.powers_of_two(5) == [0, 1, 3]
    assert g.powers_of_two(8) == [0, 1, 3, 7]
    found = g.geometry([{"w": torch.diag(tensor([2.0, 5.0, 3.0, 1.0]))}], ["a"])
    assert found["layers"]["spectrum"] == [[5.0, 3.0, 1.0]]


def test_overlap_by_hand() -> None:
    """Left subspaces span(e1, e2) and span(e1, e3) share one direction of two; right ones are the same plane."""
    a, b = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    a[0, 0], a[1, 1] = 2.0, 1.0
    b[0, 0], b[2, 1] = 3.0, 1.0
    left, right = g.overlaps([a, b], rank=4)
    assert left == pytest.approx(0.5)
    assert right == pytest.approx(1.0)
    turned = tensor([[ROOT, ROOT], [ROOT, -ROOT], [0, 0]], dtype=torch.float64)
    assert g.overlaps([a, turned @ a[:2]], rank=1) == (pytest.approx(0.5), pytest.approx(1.0))


def test_chance_is_what_unrelated_subspaces_share() -> None:
    draw = torch.Generator().manual_seed(0)
    updates = [torch.randn(60, 40, generator=draw, dtype=torch.float64) for _ in range(12)]
    left, right = g.overlaps(updates, rank=4)
    assert left == pytest.approx(4 / 60, rel=0.1)
    assert right == pytest.approx(4 / 40, rel=0.1)
    assert g.geometry([{"w": u} for u in updates], "abcdefghijkl")["layers"]["chance"] == [[0.066667, 0.1]]


def test_angles_between_columns_by_hand() -> None:
    """Columns (1, 0), (1, 1), (0, 2) and one zero column, which has no angle: 45, 90, 45."""
    found = g.angles(tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 0.0]]))
    assert found.tolist() == pytest.approx([45.0, 90.0, 45.0])
    assert g.tilt(found) == pytest.approx(30.0)


def test_histogram_bins_hold_their_lower_border() -> None:
    assert len(g.EDGES) == 43
    counts = g.histogram(tensor([0.0, 49.9, 50.0, 90.0, 91.99, 129.5, 130.0, 180.0], dtype=torch.float64))
    places = {i: int(n) for i, n in enumerate(counts) if n}
    assert places == {0: 2, 1: 1, 21: 2, 40: 1, 41: 2}
    assert g.EDGES[21] == 90.0


def test_pretrained_angles_stand_beside_the_updates() -> None:
    """Orthogonal pretrained columns lie in the bin of 90 degrees, the parallel ones of the update in the first tail."""
    update = {"w": tensor([[1.0, 2.0], [0.0, 0.0]]), "positional_embedding": torch.ones(2, 2)}
    found = g.geometry([update], ["a"], {"w": torch.eye(2), "positional_embedding": torch.ones(2, 2)})
    assert found["layers"]["names"] == ["w"]
    assert found["layers"]["tilt"] == [90.0]
    assert found["layers"]["pretrained_tilt"] == [0.0]
    assert found["angles"]["pretrained"][21] == 1.0
    assert found["angles"]["update"][0] == 1.0


def test_result_is_compact_json() -> None:
    draw = torch.Generator().manual_seed(1)
    names = [f"transformer.resblocks.{i}.{m}" for i in range(2) for m in ("attn.in_proj_weight", "mlp.c_fc.weight")]
    vectors = [{n: torch.randn(12, 8, generator=draw) for n in names} for _ in range(8)]
    text = json.dumps(g.geometry(vectors, "abcdefgh", vectors[0]), allow_nan=False)
    assert len(text) < 4000


def test_layers_stand_in_the_order_of_the_network() -> None:
    """Files keep no order, and 10 comes after 2."""
    vector = {f"resblocks.{i}.w": torch.eye(2) for i in (10, 2, 1)} | {"proj": torch.eye(2), "b.bias": torch.ones(2)}
    found = g.geometry([vector], ["a"])
    assert found["layers"]["names"] == ["proj", "resblocks.1.w", "resblocks.2.w", "resblocks.10.w"]
    assert g.geometry([dict(sorted(vector.items()))], ["a"]) == found


def test_vectors_must_match() -> None:
    with pytest.raises(ValueError, match="geometry: cannot combine"):
        g.geometry([{"w": torch.ones(2, 2)}, {"v": torch.ones(2, 2)}], ["a", "b"])
