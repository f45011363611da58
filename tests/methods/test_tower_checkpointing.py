"""Recomputed activations give the gradients of kept ones."""

import pytest
import torch
from torch import Tensor

from methods.tower import Tower
from tests.methods import towers


def gradients(tower: Tower, params: dict[str, Tensor], pixels: Tensor, weight: Tensor) -> dict[str, Tensor]:
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    found = torch.autograd.grad((tower(leaves, pixels) * weight).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("settings", towers.VARIANTS.values(), ids=towers.VARIANTS)
def test_gradients_are_those_of_kept_activations(settings: dict) -> None:
    module = towers.visual(**settings)
    draw = torch.Generator().manual_seed(1)
    params, pixels = towers.named(module), torch.randn(3, 3, *module.image_size, generator=draw, dtype=torch.float64)
    kept, again = Tower(module), Tower(module, checkpointing=True)
    torch.testing.assert_close(again(params, pixels), kept(params, pixels), rtol=0, atol=0)
    weight = torch.randn(kept(params, pixels).shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = gradients(kept, params, pixels, weight)
    for name, found in gradients(again, params, pixels, weight).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-12)


def test_blocks_run_again_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from methods.tower import vit

    module, count = towers.visual(), []
    plain = vit.block
    monkeypatch.setattr(vit, "block", lambda *args, **more: count.append(1) or plain(*args, **more))
    params, pixels = towers.named(module), towers.pixels()
    weight = torch.ones((), dtype=torch.float64)
    for checkpointing, expected in ((False, 3), (True, 6)):
        count.clear()
        gradients(Tower(module, checkpointing=checkpointing), params, pixels, weight)
        assert len(count) == expected


def test_the_derivative_and_its_value_are_those_of_the_plain_tower() -> None:
    module = towers.visual()
    params, pixels = towers.named(module), towers.pixels()
    tangent = towers.like(params, 5)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    expected = Tower(module).dual(leaves, tangent, pixels)
    found = Tower(module, checkpointing=True).dual(leaves, tangent, pixels)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert found[0].requires_grad
    assert not found[1].requires_grad
