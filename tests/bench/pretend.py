"""A pretended GPU: tensors that say they are on another device, compute on the CPU, and refuse what a GPU refuses.

Mixing tensors of two devices is the mistake that a machine without a GPU never shows. Inside `gpu()` every tensor that
is made on or moved to the device `GPU` is wrapped, and an operation on wrapped and plain tensors raises what CUDA would
raise (zero dimensions and index tensors are let through, as there). Values are the CPU's, so results can be compared.
The device is called "meta" because torch lets nobody say "cuda" without a driver; nothing runs on torch's meta tensors.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU = "meta"

aten = torch.ops.aten
ACROSS = (aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put_.default)
"""What takes tensors of two devices."""


class Pretended(Tensor):
    """A tensor of the CPU, `inner`, that says it is on the GPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Pretended":
        found = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(GPU),
        )  # fmt: skip
        found.inner = inner
        return found  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def item(self) -> Any:
        return self.inner.item()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __bool__(self) -> bool:
        return bool(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __float__(self) -> float:
        return float(self.inner)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("cannot convert a tensor on a GPU to numpy; use .cpu() first")


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is aten._fused_sdp_choice.default:
        return 0  # attention written out: the CPU has no kernel of the name that CUDA would choose
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [isinstance(t, Pretended) for t in tensors]
    if func not in ACROSS and any(there) and not all(t or not x.ndim for t, x in zip(there, tensors, strict=True)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found two: GPU and CPU")
    device = kwargs.get("device")
    wrapped = torch.device(device).type == GPU if device is not None else there[0] if func in ACROSS else any(there)
    kept = {k: torch.device("cpu") if k == "device" and v is not None else v for k, v in kwargs.items()}
    inside, kept = tree_map(lambda t: t.inner if isinstance(t, Pretended) else t, (args, kept))
    out = func(*inside, **kept)
    if not wrapped:
        return out
    with torch.inference_mode(False):  # wrappers are ordinary tensors, whatever they hold
        out = tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, out)
        return return_and_correct_aliasing(func, args, kwargs, out) if any(there) else out


def _two_steps(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` and its like, which fill the memory of a device without asking the dispatcher."""
    return lambda data, *, device=None, **kwargs: make(data, **kwargs).to(device or "cpu")


@contextmanager
def gpu() -> Iterator[None]:
    """Let `GPU` mean the pretended one."""
    makers = {name: _two_steps(getattr(torch, name)) for name in ("tensor", "as_tensor")}
    # Autocast knows no such device; float32 is what is compared.
    with (
        patch.multiple(torch, **makers, autocast=lambda *_, **__: nullcontext()),
        patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", GPU]),
        _Mode(),
    ):
        yield
