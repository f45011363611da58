"""Fine-tuning methods, what each trains and what comes out of it: laws of all, and facts of the four of the papers."""

from pathlib import Path

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.testing import assert_close

from methods import finetuning
from methods.factors import Factors
from methods.finetuning import FINETUNING
from methods.tower import Tower

ATTENTION = [f"transformer.resblocks.{i}.attn.{w}" for i in range(2) for w in ("in_proj_weight", "out_proj.weight")]
CHANGED = {"nonlinear": None, "tta": None, "att": ATTENTION, "lora": ATTENTION}  # None: every parameter


def module():
    torch.manual_seed(0)
    return VisionTransformer(8, 4, 12, 2, 3, 2.0, output_dim=5).double()


def pretrained():
    return {name: p.detach() for name, p in module().named_parameters()}


def started(name, params, seed=0):
    method = FINETUNING[name]
    return method, method.start(params, torch.Generator().manual_seed(seed), **method.defaults)


def moved(leaves, seed=1):
    """Leaves after some imagined training."""
    draw = torch.Generator().manual_seed(seed)
    return {n: x + 0.1 * torch.randn(x.shape, generator=draw, dtype=x.dtype) for n, x in leaves.items()}


def test_registry_and_files_are_the_same():
    folder = Path(finetuning.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} == {"__init__", "record", *FINETUNING}
    assert all(name == method.name for name, method in FINETUNING.items())
    assert set(FINETUNING) >= {"nonlinear", "tta", "att", "lora"}


@pytest.mark.parametrize(
    ("name", "count", "numbers"),
    [
        ("nonlinear", 8 + 2 * 12, None),
        ("tta", 8 + 2 * 12, None),
        ("att", 4, 2 * (36 * 12 + 12 * 12)),
        ("lora", 8, 2 * 8 * (36 + 12 + 12 + 12)),
    ],
)
def test_what_trains(name, count, numbers):
    params = pretrained()
    _, leaves = started(name, params)
    assert len(leaves) == count
    assert sum(x.numel() for x in leaves.values()) == (numbers or sum(p.numel() for p in params.values()))
    assert all(leaf.data_ptr() != params[n].data_ptr() for n, leaf in leaves.items() if n in params)
    if name == "att":
        assert sorted(leaves) == sorted(ATTENTION)
    if name == "lora":
        assert sorted(leaves) == sorted(n + s for n in ATTENTION for s in (".lora_a", ".lora_b"))


@pytest.mark.parametrize("name", FINETUNING)
def test_start_is_the_pretrained_model_and_a_zero_vector(name):
    params = pretrained()
    method, leaves = started(name, params)
    assert_close(method.weights(params, leaves, **method.defaults), params, rtol=0, atol=0)
    delta = method.delta(params, leaves, **method.defaults)
    assert all(not d.any() for d in delta.values())
    if name in CHANGED:
        assert sorted(delta) == sorted(CHANGED[name] or params)
    assert set() < set(delta) <= set(params)


@pytest.mark.parametrize("name", FINETUNING)
def test_pretrained_plus_delta_is_what_the_forward_pass_used(name):
    params = pretrained()
    method, leaves = started(name, params)
    leaves = moved(leaves)
    delta = method.delta(params, leaves, **method.defaults)
    rebuilt = {n: p + delta[n] if n in delta else p for n, p in params.items()}
    assert_close(method.weights(params, leaves, **method.defaults), rebuilt, rtol=1e-12, atol=1e-12)
    assert not any(d.requires_grad for d in delta.values())


def test_lora_by_hand():
    """W + (alpha / rank) B A with rank 1: [[1, 0], [0, 1]] + 3 [1, 2]^T [10, 1]."""
    params = {"x.attn.out_proj.weight": torch.eye(2)}
    leaves = {
        "x.attn.out_proj.weight.lora_a": torch.tensor([[10.0, 1.0]]),
        "x.attn.out_proj.weight.lora_b": torch.tensor([[1.0], [2.0]]),
    }
    method, options = FINETUNING["lora"], {"rank": 1, "alpha": 3.0}
    name = "x.attn.out_proj.weight"
    assert_close(method.weights(params, leaves, **options), {name: torch.tensor([[31.0, 3.0], [60.0, 7.0]])})
    assert_close(method.delta(params, leaves, **options), {name: torch.tensor([[30.0, 3.0], [60.0, 6.0]])})
    b, a = method.factors(params, leaves, **options)[name]
    assert_close(b @ a, torch.tensor([[30.0, 3.0], [60.0, 6.0]]))
    assert method.updates(params, leaves, **options)[name].scale == 3.0


def test_lora_starts_uniform_and_from_its_generator_only():
    params = pretrained()
    _, leaves = started("lora", params, seed=5)
    torch.manual_seed(99)
    _, again = started("lora", params, seed=5)
    _, other = started("lora", params, seed=6)
    name = ATTENTION[0] + ".lora_a"
    assert_close(leaves[name], again[name], rtol=0, atol=0)
    assert (leaves[name] - other[name]).abs().max() > 0.01
    bound = 12**-0.5
    assert leaves[name].abs().max() <= bound
    assert leaves[name].abs().mean() == pytest.approx(bound / 2, rel=0.25)


@pytest.mark.parametrize("name", ["att", "lora"])
def test_gradients_are_finite_differences_through_the_module(name):
    """Every leaf of every block, against the model itself: PEFT's double out_proj would be off by 2 here."""
    net, params = module(), pretrained()
    tower = Tower(net)
    method, leaves = started(name, params)
    leaves = {n: x.requires_grad_() for n, x in moved(leaves).items()}
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(values):
        weights = method.weights(params, values, **method.defaults)
        net.load_state_dict(weights)
        return net(x).square().sum()

    value = tower(method.weights(params, leaves, **method.defaults), x).square().sum()
    grads = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    with torch.no_grad():
        for n, leaf in leaves.items():
            ahead, behind = ({**leaves, n: leaf + s * 1e-5 * grads[n]} for s in (1, -1))
            slope = (loss(ahead) - loss(behind)) / 2e-5
            assert_close(slope, grads[n].square().sum(), rtol=1e-5, atol=1e-9, msg=n)


def test_gradients_are_grouped_like_updates():
    params = pretrained()
    method, leaves = started("lora", params)
    grads = {n: torch.ones_like(x) for n, x in leaves.items()}
    grouped, updates = method.gradients(grads, **method.defaults), method.updates(params, leaves, **method.defaults)
    assert sorted(grouped) == sorted(updates) == sorted(ATTENTION)
    for name, pair in grouped.items():
        assert isinstance(pair, Factors)
        assert pair.b is grads[name + ".lora_b"]
        assert pair.a is grads[name + ".lora_a"]


def test_only_low_rank_methods_have_factors():
    params = pretrained()
    for name in ("nonlinear", "tta", "att"):
        method, leaves = started(name, params)
        assert method.factors(params, moved(leaves), **method.defaults) is None


def test_of_the_four_only_tta_is_linear():
    assert [n for n in ("nonlinear", "tta", "att", "lora") if FINETUNING[n].tangent] == ["tta"]


def test_refusals():
    method = FINETUNING["lora"]
    with pytest.raises(ValueError, match=r"rank 13 does not fit .* 36 x 12; give 1 to 12"):
        method.start(pretrained(), torch.Generator(), rank=13, alpha=8.0)
    with pytest.raises(ValueError, match=r"att: this tower has no attn\.in_proj_weight"):
        FINETUNING["att"].start({"fc.weight": torch.eye(2)}, torch.Generator())
