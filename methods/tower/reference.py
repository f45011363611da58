"""Any image encoder as a pure function, through `torch.func`: slow, general, and what the fast path must equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel


def features(module: nn.Module, params: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """`module(pixels)` at `params`; the first item where the module returns several."""
    out = functional_call(module, dict(params), (pixels,))
    return out[0] if isinstance(out, (tuple, list)) else out


def dual(
    module: nn.Module, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor], pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Features and their derivative along `tangent` (see `Tower.dual`), by forward-mode differentiation.

    The features are computed apart from the derivative, so that only they carry a graph.
    """
    value = features(module, params, pixels)
    if not tangent:
        return value, torch.zeros_like(value)
    held = {name: x.detach() for name, x in params.items()}
    with torch.no_grad(), forward_mode():
        derivative: Tensor = jvp(
            lambda moved: features(module, {**held, **moved}, pixels),
            ({name: held[name] for name in tangent},),
            ({name: x.detach() for name, x in tangent.items()},),
        )[1]
    return value, derivative


@contextmanager
def forward_mode() -> Iterator[None]:
    """Attention in a form that has a forward derivative: neither the fused kernel nor the fused module has one."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
