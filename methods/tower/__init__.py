"""An image tower as a pure function of its parameters, with its directional derivative.

Nothing is ever written into the module: parameters go in as a dict, features come out, so one tower serves every
fine-tuning method, every coefficient of a sweep, and both evaluations of a tangent model.

Two implementations give the same numbers. The *fast* one is written out for open_clip's standard `VisionTransformer`
(`methods.tower.vit`, `methods.tower.dual`); the *reference* one (`methods.tower.reference`) calls any module through
`torch.func` and serves every other architecture, the tests, and debugging (`fast=False`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from methods.tower import dual, reference, vit
from methods.tower.layout import Layout, recognise
from methods.tower.packed import Packed

__all__ = ["Layout", "Tower", "recognise"]

KINDS = 64
"""Kinds of input that a compiled tower is prepared for; torch gives up at 8, and a worker meets about 12."""


class Tower:
    """An image encoder as a function `tower(params, pixels) -> features`.

    `visual` is an open_clip `VisionTransformer` or any module that maps pixels `[batch, 3, height, width]` to features
    `[batch, embed]` (or to a tuple that starts with them). It is put into eval mode, so that dropout never makes two
    calls differ. Parameter names are those of `visual.named_parameters()`.

    `fast` says which implementation is in use: hand-written where the architecture is recognised, unless switched off.
    `plain` says that it was switched off, for debugging: callers then take their own plain ways too.
    `checkpointing` trades time for memory on the fast path: a backward pass computes each block's activations again.
    `compiled` lets torch.compile fuse the fast path's operations, the first time it meets a kind of input (batch sizes
    are one kind): gradients wanted or not, of which parameters, under autocast or not.
    """

    def __init__(
        self, visual: nn.Module, *, fast: bool = True, checkpointing: bool = False, compiled: bool = False
    ) -> None:
        self.module = visual.eval()
        self.checkpointing = checkpointing
        self.plain = not fast
        self.layout: Layout | None = recognise(visual) if fast else None
        self._features, self._dual = vit.features, dual.features
        if compiled and fast:
            torch._dynamo.config.recompile_limit = KINDS
            self._features, self._dual = torch.compile(vit.features), torch.compile(dual.features)

    @property
    def fast(self) -> bool:
        return self.layout is not None

    def __call__(self, params: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        """Features `[batch, embed]`, not normalised, of normalised float `pixels` `[batch, 3, height, width]`.

        Differentiable in `params`. A parameter that is missing from `params` is an error on the fast path.
        """
        if self.layout is not None:
            return self._features(self.layout, params, pixels, checkpointing=self.checkpointing)
        return reference.features(self.module, params, pixels)

    def eager(self, params: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        """`__call__` operation by operation even where it is compiled, for whoever watches the operations."""
        if self.layout is not None:
            return vit.features(self.layout, params, pixels, checkpointing=self.checkpointing)
        return reference.features(self.module, params, pixels)

    def frozen(self, params: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`pixels -> tower(params, pixels)` for weights that stay as they are, without gradients.

        On a CPU the fast path prepares the weights once (`methods.tower.packed`); features differ by rounding.
        """
        layout = self._packed(params)
        if layout is None:
            return lambda pixels: self(params, pixels)
        packed = Packed(layout, params, {})
        return lambda pixels: packed.features(pixels)[0]

    def frozen_dual(
        self, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor]
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`pixels -> dual(params, tangent, pixels)`, likewise."""
        _known(params, tangent)
        layout = self._packed(params)
        if layout is None:
            return lambda pixels: self.dual(params, tangent, pixels)
        return Packed(layout, params, tangent).features

    def _packed(self, params: Mapping[str, Tensor]) -> Layout | None:
        """The layout where preparing the weights pays: a GPU has its own kernels, the compiler its own fusions."""
        on_cpu = all(p.device.type == "cpu" for p in params.values())
        return self.layout if on_cpu and self._features is vit.features else None

    def dual(
        self, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features at `params` and their derivative along `tangent`: `f(params)` and `J(params) tangent`.

        Both are `[batch, embed]`. A name that `tangent` lacks has a zero tangent; a name that `params` lacks is an
        error. The features are differentiable in `params` as in `__call__`; the derivative carries no graph. That is
        what training in the tangent space needs: with `out = f0 + J tau`, the gradient of a loss with respect to `tau`
        is `J^T dL/dout`, and backward through `f0` alone computes it.
        """
        _known(params, tangent)
        if self.layout is not None and self.checkpointing and torch.is_grad_enabled():
            value = self(params, pixels)
            with torch.no_grad():
                return value, self._dual(self.layout, params, tangent, pixels)[1]
        if self.layout is not None:
            return self._dual(self.layout, params, tangent, pixels)
        return reference.dual(self.module, params, tangent, pixels)


def _known(params: Mapping[str, Tensor], tangent: Mapping[str, Tensor]) -> None:
    unknown = sorted(set(tangent) - set(params))
    if unknown:
        raise ValueError(f"dual: the tangent names {unknown[0]!r}, which is no parameter of this tower")
