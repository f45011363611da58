import pytest
import torch
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from methods.tower import Tower
from tests.methods.towers import VARIANTS, like, named, pixels, visual

variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())


def images(settings, dtype=torch.float64):
    height, width = settings.get("image_size", (8, 8))
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


def reference_jvp(module, params, tangent, x):
    """torch.func's own derivative, in train mode under the math kernel, as an independent witness."""
    with sdpa_kernel(SDPBackend.MATH):
        return jvp(lambda p: functional_call(module.train(), p, (x,)), (params,), (tangent,))


@variants
def test_fast_tower_is_the_module(settings):
    module = visual(**settings)
    tower = Tower(module)
    assert tower.fast
    x = images(settings)
    assert_close(tower(named(module), x), module(x), rtol=1e-10, atol=1e-10)


def test_fast_tower_is_the_module_in_float32():
    module = visual(dtype=torch.float32)
    x = pixels(dtype=torch.float32)
    assert_close(Tower(module)(named(module), x), module(x), rtol=1e-5, atol=1e-5)


@variants
def test_gradients_are_the_modules(settings):
    module = visual(**settings)
    x = images(settings)
    params = {name: p.requires_grad_() for name, p in named(module).items()}
    out = Tower(module)(params, x)
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
    found = torch.autograd.grad(out, list(params.values()), seed)
    wanted = torch.autograd.grad(module(x), list(module.parameters()), seed)
    assert len(found) == len(wanted) > 10
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@variants
@pytest.mark.parametrize("fast", [True, False])
def test_dual_is_torch_func_jvp(settings, fast):
    module = visual(**settings)
    params, x = named(module), images(settings)
    tangent = like(params, seed=3)
    value, derivative = reference_jvp(module, params, tangent, x)
    ours = Tower(module, fast=fast).dual(params, tangent, x)
    assert_close(ours[0], value, rtol=1e-9, atol=1e-9)
    assert_close(ours[1], derivative, rtol=1e-9, atol=1e-9)
    assert not ours[1].requires_grad


@variants
def test_dual_is_the_finite_difference(settings):
    module = visual(**settings)
    tower, params, x = Tower(module), named(module), images(settings)
    tangent = like(params, seed=4)
    step = 1e-5
    ahead = tower({n: p + step * tangent[n] for n, p in params.items()}, x)
    behind = tower({n: p - step * tangent[n] for n, p in params.items()}, x)
    assert_close(tower.dual(params, tangent, x)[1], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_each_parameter_alone_moves_the_dual_as_torch_func_says():
    """Absent names have a zero tangent: every shortcut for a missing term is taken once."""
    module = visual(ls_init_value=0.1)
    tower, params, x = Tower(module), named(module), pixels()
    whole = like(params, seed=5)
    assert len(params) == 8 + 14 * 3  # conv, class, positions, proj, two norms; 14 tensors a block
    for name in params:
        zero_elsewhere = {n: whole[n] if n == name else torch.zeros_like(p) for n, p in params.items()}
        wanted = reference_jvp(module, params, zero_elsewhere, x)[1]
        assert_close(tower.dual(params, {name: whole[name]}, x)[1], wanted, rtol=1e-9, atol=1e-9, msg=name)


def test_no_tangent_is_no_derivative():
    module = visual()
    value, derivative = Tower(module).dual(named(module), {}, pixels())
    assert_close(value, module(pixels()), rtol=1e-10, atol=1e-10)
    assert_close(derivative, torch.zeros_like(value))
    assert_close(Tower(module, fast=False).dual(named(module), {}, pixels())[1], torch.zeros_like(value))


@pytest.mark.parametrize("fast", [True, False])
def test_backward_of_the_dual_is_the_gradient_in_the_tangent_space(fast):
    """d/d tau L(f0 + J tau), by torch.func jvp and then backward, equals backward through f0 alone."""
    module = visual()
    params, x = named(module), pixels()
    tau = {n: t.requires_grad_() for n, t in like(params, seed=6, scale=0.3).items()}
    target = torch.randn(3, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    value, derivative = reference_jvp(module, params, tau, x)
    wanted = torch.autograd.grad(torch.cosh(value + derivative - target).sum(), list(tau.values()))

    base = {n: p.clone().requires_grad_() for n, p in params.items()}
    value, derivative = Tower(module, fast=fast).dual(base, {n: t.detach() for n, t in tau.items()}, x)
    found = torch.autograd.grad(torch.cosh(value + derivative - target).sum(), list(base.values()))
    assert len(found) == len(wanted) > 10
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_inputs_stay_untouched():
    module = visual()
    params, x = named(module), pixels()
    before, image_before = {n: p.clone() for n, p in params.items()}, x.clone()
    tangent = like(params, seed=8)
    kept = {n: t.clone() for n, t in tangent.items()}
    Tower(module).dual(params, tangent, x)
    assert_close(params, before, rtol=0, atol=0)
    assert_close(tangent, kept, rtol=0, atol=0)
    assert_close(x, image_before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"qk_norm": True},
        {"patch_dropout": 0.5},
        {"attentional_pool": True, "attn_pooler_heads": 1},
        {"pool_type": "none"},
    ],
    ids=["qk_norm", "patch_dropout", "attentional_pool", "no_pool"],
)
def test_other_architectures_take_the_reference_path(settings):
    assert not Tower(visual(**settings, dtype=torch.float32)).fast


def test_a_foreign_module_works_through_the_reference_path():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 7)).double()
    tower, params = Tower(module), named(module)
    assert not tower.fast
    tangent = like(params, seed=9)
    value, derivative = tower.dual(params, tangent, pixels())
    flat = pixels().flatten(1)
    assert_close(value, flat @ params["1.weight"].T + params["1.bias"])
    assert_close(derivative, flat @ tangent["1.weight"].T + tangent["1.bias"])


def test_wrong_image_size_and_unknown_tangent_are_refused():
    module = visual()
    with pytest.raises(ValueError, match=r"reads images \[batch, 3, 8, 8\], not \[3, 3, 12, 12\]"):
        Tower(module)(named(module), pixels(size=12))
    with pytest.raises(ValueError, match=r"'visual\.proj', which is no parameter"):
        Tower(module).dual(named(module), {"visual.proj": torch.zeros(1)}, pixels())


@variants
def test_each_parameter_alone_moves_the_dual_in_bfloat16_too(settings):
    """Autocast keeps norms in float32 and products in bfloat16, so that values and tangents differ in kind."""
    module = visual(**settings, dtype=torch.float32)
    params, x, tower = named(module), images(settings, torch.float32), Tower(module)
    for name, parameter in params.items():
        along = like({name: parameter}, seed=2, scale=0.1)
        expected = tower.dual(params, along, x)[1]
        with torch.autocast("cpu", torch.bfloat16):
            found = tower.dual(params, along, x)[1].float()
        assert (found - expected).norm() <= 0.1 * expected.norm() + 1e-6, name
