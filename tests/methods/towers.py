"""Small open_clip towers with every parameter random, so that no term can hide behind a zero or a one."""

from typing import Any

import torch
from open_clip.transformer import QuickGELU, VisionTransformer

SIZE = {"image_size": 8, "patch_size": 4, "width": 12, "layers": 3, "heads": 3, "mlp_ratio": 2.0, "output_dim": 5}


def visual(seed: int = 0, dtype: torch.dtype = torch.float64, **settings: Any) -> VisionTransformer:
    """A tower of 3 blocks, width 12, 5 tokens."""
    module = VisionTransformer(**{**SIZE, **settings}).to(dtype)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=dtype) * 0.4)
    return module


def named(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in module.named_parameters()}


def like(params: dict[str, torch.Tensor], seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """A random direction in parameter space."""
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.randn(p.shape, generator=draw, dtype=p.dtype) * scale for n, p in params.items()}


def pixels(rows: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64, size: int = 8) -> torch.Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Every switch that the hand-written tower implements.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick_gelu": {"act_layer": QuickGELU},
    "layer_scale": {"ls_init_value": 0.1},
    "average_pool": {"pool_type": "avg"},
    "average_pool_norm_last": {"pool_type": "avg", "final_ln_after_pool": True},
    "no_ln_pre": {"no_ln_pre": True},
    "oblong": {"image_size": (8, 12)},
    "one_block": {"layers": 1},
}
