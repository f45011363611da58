"""Frozen towers: weights prepared once for many batches give what the tower itself gives."""

import pytest
import torch
from torch.testing import assert_close

from methods.tower import Tower
from methods.tower.packed import PACKS, Packed
from tests.methods.test_tower import images, reference_jvp
from tests.methods.towers import VARIANTS, like, named, pixels, visual

variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
GELU_TANH = {"act_layer": lambda: torch.nn.GELU(approximate="tanh")}


@variants
def test_frozen_features_are_the_modules(settings):
    """In float64 nothing is laid out for oneDNN: this is the algebra of the last block."""
    module = visual(**settings)
    x = images(settings)
    with torch.inference_mode():
        assert_close(Tower(module).frozen(named(module))(x), module(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("settings", [*VARIANTS.values(), GELU_TANH], ids=[*VARIANTS, "gelu_tanh"])
def test_frozen_features_are_the_modules_in_float32(settings):
    module = visual(**settings, dtype=torch.float32)
    x = images(settings, torch.float32)
    with torch.inference_mode():
        assert_close(Tower(module).frozen(named(module))(x), module(x), rtol=1e-5, atol=1e-5)


@variants
def test_the_frozen_derivative_is_torch_func_jvp(settings):
    module = visual(**settings)
    params, x = named(module), images(settings)
    tangent = like(params, seed=3)
    wanted = reference_jvp(module, params, tangent, x)
    with torch.inference_mode():
        found = Tower(module).frozen_dual(params, tangent)(x)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_each_parameter_alone_moves_the_frozen_dual_as_it_moves_the_dual(dtype):
    """Absent names have a zero tangent: every shortcut for a missing term is taken once, packed and not."""
    module = visual(ls_init_value=0.1, dtype=dtype)
    tower, params, x = Tower(module), named(module), pixels(dtype=dtype)
    whole = like(params, seed=5)
    near = 1e-10 if dtype == torch.float64 else 1e-5
    for name, tangent in whole.items():
        with torch.inference_mode():
            wanted = tower.dual(params, {name: tangent}, x)[1]
            found = tower.frozen_dual(params, {name: tangent})(x)[1]
        assert_close(found, wanted, rtol=near, atol=near * float(wanted.abs().max()), msg=name)


def test_a_batch_of_another_size_needs_no_other_packing():
    """The last batch of a split is smaller than the others, and every image has the same features in any batch, up to
    rounding: oneDNN picks a kernel by the number of rows, and on some CPUs that changes the last bits."""
    module = visual(dtype=torch.float32)
    x = pixels(rows=7, dtype=torch.float32)
    frozen = Tower(module).frozen(named(module))
    with torch.inference_mode():
        whole = frozen(x)
        torch.testing.assert_close(torch.cat([frozen(part) for part in x.split(3)]), whole, rtol=1e-5, atol=1e-6)


def test_only_float32_is_laid_out_for_onednn():
    def packed(dtype: torch.dtype) -> set[bool]:
        module = visual(dtype=dtype)
        return {w.is_mkldnn for w in Packed(Tower(module).layout, named(module), {})._weights.values()}

    assert packed(torch.float64) == {False}
    assert packed(torch.float32) == {PACKS}


def test_parameters_stay_as_they_were():
    module = visual(dtype=torch.float32)
    params, x = named(module), pixels(dtype=torch.float32)
    tangent = like(params, seed=8)
    before = [{n: t.clone() for n, t in of.items()} for of in (params, tangent)]
    with torch.inference_mode():
        Tower(module).frozen_dual(params, tangent)(x)
    assert_close([params, tangent], before, rtol=0, atol=0)


def test_a_tower_without_fast_path_or_compiled_is_asked_as_it_is():
    module = visual(dtype=torch.float32)
    params, x = named(module), pixels(dtype=torch.float32)
    plain = Tower(module, fast=False)
    with torch.inference_mode():
        assert torch.equal(plain.frozen(params)(x), plain(params, x))
        assert torch.equal(plain.frozen_dual(params, {})(x)[1], torch.zeros_like(plain(params, x)))


def test_an_unknown_tangent_is_refused():
    module = visual()
    with pytest.raises(ValueError, match=r"'visual\.proj', which is no parameter"):
        Tower(module).frozen_dual(named(module), {"visual.proj": torch.zeros(1)})
