"""Spaces: what is equal in every space, what is lossless, and what is refused."""

import pytest
import torch
from torch.testing import assert_close

from bench.checks.laws import broken, example
from methods.merging import MERGING
from methods.modifiers import resolve
from methods.spaces import in_space

W, B = "attn.in_proj_weight", "attn.in_proj_bias"


def lora(tasks=3, rows=12, columns=9, rank=2):
    g = torch.Generator().manual_seed(0)
    factors = [
        {"w": (torch.randn(rows, rank, generator=g), torch.randn(rank, columns, generator=g))} for _ in range(tasks)
    ]
    return [{"w": b @ a} for b, a in (f["w"] for f in factors)], factors


def test_split_qkv_merges_three_matrices():
    vectors = [{W: x[:, :4], B: x[:, 4]} for x in torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))]
    merged = resolve("iso_c@split_qkv").merge(vectors)
    parts = [MERGING["iso_c"].merge([{"w": v[W].chunk(3)[i]} for v in vectors])["w"] for i in range(3)]
    assert_close(merged[W], torch.cat(parts))
    assert list(merged) == [W, B]
    assert not torch.allclose(merged[W], MERGING["iso_c"].merge(vectors)[W])


def test_split_qkv_changes_nothing_entrywise_and_nothing_without_fused_projections():
    vectors = example()
    assert_close(resolve("magmax@split_qkv").merge(vectors), MERGING["magmax"].merge(vectors))
    plain = [{"w": v["entry"]} for v in vectors]
    assert_close(resolve("tsv_m@split_qkv").merge(plain), MERGING["tsv_m"].merge(plain))
    assert resolve("tsv_m@fused") is MERGING["tsv_m"]


@pytest.mark.parametrize("space", ["core", "knots"])
def test_linear_operators_are_equal_in_every_space(space):
    vectors, factors = lora()
    for name in ("average", "task_arithmetic"):
        merged = in_space(MERGING[name], space).merge(vectors, factors=factors)
        assert_close(merged, MERGING[name].merge(vectors), rtol=1e-4, atol=1e-5)


def test_core_space_equals_full_space_for_orthogonally_invariant_operators():
    # Iso-C with the mean over non-zero singular values sees only the span of the updates, where the core is lossless.
    vectors, factors = lora()
    core = resolve("iso_c@core").merge(vectors, factors=factors, spectrum_mean="nonzero")
    assert_close(core, MERGING["iso_c"].merge(vectors, spectrum_mean="nonzero"), rtol=1e-3, atol=1e-4)


def test_core_space_gives_every_task_its_whole_rank():
    # Orthogonal rank-2 updates: TSV-M in the 6 x 6 core keeps 6 / 3 = 2 triplets a task, that is everything.
    eye = torch.eye(12)
    factors = [{"w": (eye[:, 2 * t : 2 * t + 2], eye[2 * t : 2 * t + 2, :9] * (t + 1))} for t in range(3)]
    vectors = [{"w": b @ a} for b, a in (f["w"] for f in factors)]
    merged = resolve("tsv_m@core").merge(vectors, factors=factors)
    assert_close(merged, MERGING["task_arithmetic"].merge(vectors))


def test_knots_ties_by_hand():
    # One shared left direction e1 with S = |(3, 4)| = 5: V_1 = (3/5, 0), V_2 = (0, 4/5). Trimming S V_t keeps both.
    factors = [{"w": (torch.tensor([[1.0], [0.0]]), torch.tensor([row]))} for row in ([3.0, 0.0], [0.0, 4.0])]
    vectors = [{"w": b @ a} for b, a in (f["w"] for f in factors)]
    for kind in ("sv", "v"):
        merged = resolve("ties@knots").merge(vectors, factors=factors, density=0.5, knots=kind)
        assert_close(merged, {"w": torch.tensor([[3.0, 4.0], [0.0, 0.0]])})


def test_knots_v_and_sv_trim_different_things():
    vectors, factors = lora()
    one = resolve("ties@knots").merge(vectors, factors=factors, knots="sv")["w"]
    other = resolve("ties@knots").merge(vectors, factors=factors, knots="v")["w"]
    assert torch.linalg.norm(one - other) > 0.05 * torch.linalg.norm(one)


@pytest.mark.parametrize("space", ["core", "knots"])
def test_a_full_fine_tune_is_not_applicable(space):
    vectors, factors = lora()
    operator = in_space(MERGING["ties"], space)
    with pytest.raises(ValueError, match=f"ties@{space}: not applicable without 'factors'"):
        operator.merge(vectors)
    with pytest.raises(ValueError, match=f"ties@{space}: not applicable, it needs the LoRA factors of all 3 experts"):
        operator.merge(vectors, factors=[factors[0], factors[1], {}])
    with pytest.raises(ValueError, match="expert 1 has no LoRA factors of 'w'"):
        operator.merge(vectors, factors=[factors[0], {"v": factors[1]["w"]}, factors[2]])
    with pytest.raises(ValueError, match="do not make 'w'"):
        operator.merge(vectors, factors=[factors[0], {"w": factors[1]["w"][::-1]}, factors[2]])


@pytest.mark.parametrize(
    "name", ["tsv_m@split_qkv", "ties@split_qkv", "iso_c@core", "ties@core", "tsv_m@core", "ties@knots"]
)
def test_an_operator_in_a_space_obeys_the_laws(name):
    assert broken(resolve(name)) == []
