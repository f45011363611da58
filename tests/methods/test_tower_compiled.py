"""A compiled tower is the tower: values, gradients and derivatives, whatever the size of a batch.

What of compiling is ours, that torch can follow the tower in one piece and does not start again for every batch, is
tested without its code generator, which takes minutes.
"""

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from methods.tower import Tower


def module() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(8, 4, 12, 2, 3, 2.0, output_dim=6)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """torch.compile in one piece and without code generation; counts how often it starts."""
    torch._dynamo.reset()
    counter, compile_ = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile_(f, backend=counter, fullgraph=True))
    return counter


def check(tower: Tower, compiled: Tower, batch: int) -> None:
    params = {name: p.detach() for name, p in tower.module.named_parameters()}
    pixels = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
    along = {name: torch.randn_like(p) for name, p in params.items()}
    with torch.inference_mode():
        assert_close(compiled(params, pixels), tower(params, pixels), rtol=1e-5, atol=1e-6)
        assert_close(compiled.dual(params, along, pixels), tower.dual(params, along, pixels), rtol=1e-4, atol=1e-5)
    found = []
    for one in (tower, compiled):
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        found.append(torch.autograd.grad(one(leaves, pixels).square().sum(), list(leaves.values())))
    assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_torch_follows_the_tower_in_one_piece(followed: CompileCounterWithBackend, checkpointing: bool) -> None:
    plain, compiled = Tower(module()), Tower(module(), compiled=True, checkpointing=checkpointing)
    for batch in (3, 5, 7, 4):
        check(plain, compiled, batch)
    # Features, features with gradients and the derivative: each once for the first batch and once for all others.
    assert followed.frame_count <= 6


def test_eager_is_never_compiled(followed: CompileCounterWithBackend) -> None:
    compiled = Tower(module(), compiled=True)
    params = {name: p.detach() for name, p in compiled.module.named_parameters()}
    pixels = torch.randn(2, 3, 8, 8)
    assert_close(compiled.eager(params, pixels), Tower(module())(params, pixels))
    assert followed.frame_count == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_generated_code_computes_the_same() -> None:
    torch._dynamo.reset()
    check(Tower(module()), Tower(module(), compiled=True), 3)
