"""Plain reference merges for `benchmarks.merging`: each formula as its paper states it, in the obvious torch calls.

Written for this comparison. They are what one writes first, and what the published code amounts to: whole models
stacked and sorted, a float32 SVD for every task, autograd for every gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Vector = dict[str, Tensor]
Vectors = list[Vector]


def flat(vectors: Vectors) -> Tensor:
    return torch.stack([torch.cat([x.reshape(-1) for x in v.values()]) for v in vectors])


def unflat(row: Tensor, like: Vector) -> Vector:
    parts = row.split([x.numel() for x in like.values()])
    return {name: part.view(like[name].shape) for name, part in zip(like, parts, strict=True)}


def whole(function: Callable[..., Tensor]) -> Callable[..., Vector]:
    return lambda vectors, **options: unflat(function(flat(vectors), **options), vectors[0])


def each(function: Callable[..., Tensor], matrices_only: bool = True) -> Callable[..., Vector]:
    def merge(vectors: Vectors, **options: Any) -> Vector:
        out = {}
        for name in vectors[0]:
            x = torch.stack([v[name] for v in vectors])
            out[name] = x.mean(dim=0) if matrices_only and x.ndim != 3 else function(x, **options)
        return out

    return merge


def arithmetic(vectors: Vectors, weight: float = 1.0) -> Vector:
    total = {name: torch.zeros_like(x) for name, x in vectors[0].items()}
    for v in vectors:
        total = {name: total[name] + v[name] for name in total}
    return {name: x * weight for name, x in total.items()}


def disjoint(x: Tensor, mean: bool) -> Tensor:
    sign = x.sum(dim=0).sign()
    sign[sign == 0] = sign.sum().sign()
    keep = ((sign > 0) & (x > 0)) | ((sign < 0) & (x < 0))
    kept = x * keep
    return kept.sum(dim=0) / (kept != 0).sum(dim=0).clamp(min=1) if mean else kept.sum(dim=0)


def ties(x: Tensor, density: float = 0.2, mean: bool = True) -> Tensor:
    limit = x.abs().kthvalue(x.shape[1] - round(density * x.shape[1]) + 1, dim=1, keepdim=True).values
    return disjoint(x * (x.abs() >= limit), mean)


def dropped(x: Tensor, drop: float) -> Tensor:
    return x * torch.bernoulli(torch.full_like(x, 1 - drop)) / (1 - drop)


def della(x: Tensor, density: float = 0.5, epsilon: float = 0.15) -> Tensor:
    rows = x.reshape(len(x), -1, x.shape[-1])
    rank = rows.abs().argsort(dim=-1).argsort(dim=-1).float()
    p = density - epsilon + 2 * epsilon * rank / max(rows.shape[-1] - 1, 1)
    return disjoint((rows * torch.bernoulli(p) / p).reshape(x.shape), True)


def breadcrumbs(x: Tensor, density: float = 0.1, top: float = 0.01) -> Tensor:
    n = x.shape[-1]
    size = x.abs()
    remove = torch.ones_like(x).scatter_(-1, size.topk(int(n * top), dim=-1).indices, 0.0)
    keep = torch.zeros_like(x).scatter_(-1, (size * remove).topk(max(1, round(n * density)), dim=-1).indices, 1.0)
    return (x * keep * remove).sum(dim=0)


def magmax(x: Tensor) -> Tensor:
    return x.gather(0, x.abs().argmax(dim=0, keepdim=True))[0]


def model_stock(x: Tensor) -> Tensor:
    units = [v.flatten() / v.norm() for v in x]
    cosines = [units[i] @ units[j] for i in range(len(x)) for j in range(i)]
    c = torch.stack(cosines).mean().clamp(min=0)
    return x.mean(dim=0) * len(x) * c / (1 + (len(x) - 1) * c)


def consensus(x: Tensor, threshold: float = 0.4) -> Tensor:
    total = x.sum(dim=0)
    return total * ((x.abs() > threshold * (total - x).abs()).sum(dim=0) >= 2)


def pcb(x: Tensor, ratio: float = 0.05) -> Tensor:
    def clamp(y: Tensor, low: float, high: float) -> Tensor:
        n = y.shape[1]  # the official code sorts; selecting the two limits is kinder to it
        least, most = (y.kthvalue(k + 1, dim=1, keepdim=True).values for k in (int(n * low), int(n * (1 - high) - 1)))
        return y.clamp(least, most)

    def unit(y: Tensor) -> Tensor:
        low, high = y.amin(dim=1, keepdim=True), y.amax(dim=1, keepdim=True)
        return (y - low) / (high - low)

    size = clamp(x.abs(), 0.01, 0.01)
    score = torch.exp(len(x) * unit(size) ** 2) * torch.tanh(x * (x.sign() * unit(size)).sum(dim=0))
    weight = unit(clamp(score, 1 - ratio, 0))
    return 1.2 * (x.sign() * size * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-12)


def karcher(x: Tensor, iterations: int = 10) -> Tensor:
    norms = [v.norm() for v in x]
    units = [v / n for v, n in zip(x, norms, strict=True)]
    mean = sum(units) / torch.linalg.vector_norm(sum(units))
    for _ in range(iterations):
        tangent = torch.zeros_like(mean)
        for u in units:
            dot = (mean.flatten() @ u.flatten()).clamp(-1, 1)
            theta = dot.arccos()
            tangent += theta / theta.sin() * (u - dot * mean) / len(units)
        size = torch.linalg.vector_norm(tangent)
        if size < 1e-5:
            break
        mean = size.cos() * mean + size.sin() * tangent / size
    return torch.stack(norms).mean() * mean


def sce(x: Tensor) -> Tensor:
    energy = x.flatten(1).square().mean(dim=1)
    weight = (energy / energy.sum()).view(-1, *[1] * (x.ndim - 1))
    weight = weight * (x.sign() == torch.where(x.sum(dim=0) >= 0, 1.0, -1.0))
    share = weight.sum(dim=0)
    return (x * weight).sum(dim=0) / torch.where(share == 0, 1, share)


def svd(x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    return u[:, :k], s[:k], vt[:k]


def procrustes(x: Tensor) -> Tensor:
    u, _, vt = svd(x)
    return u @ vt


def tsv_m(x: Tensor) -> Tensor:
    parts = [svd(v, min(v.shape) // len(x)) for v in x]
    u, vt = procrustes(torch.cat([p[0] for p in parts], dim=1)), procrustes(torch.cat([p[2] for p in parts]))
    return u @ torch.diag(torch.cat([p[1] for p in parts])) @ vt


def iso_c(x: Tensor) -> Tensor:
    u, s, vt = svd(x.sum(dim=0))
    return s.mean() * (u @ vt)


def iso_cts(x: Tensor) -> Tensor:
    r, tasks = min(x.shape[1:]), len(x)
    k = round((r - int(r * 0.8)) / tasks)
    common = svd(x.sum(dim=0), r - k * tasks)
    parts = [svd(v - common[0] @ (common[0].T @ v), k) for v in x] + [common]
    u, vt = procrustes(torch.cat([p[0] for p in parts], dim=1)), procrustes(torch.cat([p[2] for p in parts]))
    return torch.cat([p[1] for p in parts]).mean() * u @ vt


def cart(x: Tensor) -> Tensor:
    mean = x.mean(dim=0)
    parts = [svd(v - mean, -(-4 * min(mean.shape) // 100)) for v in x]
    return mean + sum(u * s @ vt for u, s, vt in parts)


def star(x: Tensor) -> Tensor:
    total = torch.zeros_like(x[0])
    for v in x:
        u, s, vt = svd(v)
        k = int((s.cumsum(0) / s.sum() < 0.4).sum()) + 1
        total += u[:, :k] * (s[:k] * s.sum() / s[:k].sum()) @ vt[:k]
    return total / len(x)


def dc_merge(x: Tensor) -> Tensor:
    k = min(x.shape[1:]) // len(x)
    parts = [svd(v, k) for v in x]
    u, vt = procrustes(torch.cat([p[0] for p in parts], dim=1)), procrustes(torch.cat([p[2] for p in parts]))
    cores = torch.stack([u.T @ (a * s @ bt) @ vt.T for a, s, bt in parts])
    size = cores.abs().flatten(1)
    limit = size.topk(max(1, int(0.001 * size.shape[1])), dim=1).values.amin(dim=1)
    cores = cores * (cores.abs() >= limit[:, None, None])
    sign = cores.sum(dim=0).sign()
    agree = cores.sign() == sign
    core = torch.where(sign == 0, 0, (cores * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1))
    return u @ (core * torch.block_diag(*[torch.ones(k, k)] * len(x))) @ vt


def wudi(x: Tensor, iterations: int) -> Tensor:
    m = torch.nn.Parameter(x.sum(dim=0))
    adam = torch.optim.Adam([m], lr=1e-5)
    energy = x.square().sum(dim=(1, 2))
    for _ in range(iterations):
        adam.zero_grad()
        (((m - x) @ x.mT).square() / energy[:, None, None]).sum().backward()
        adam.step()
    return m.detach()


def wudi_closed(x: Tensor) -> Tensor:
    x = x.double()
    grams = x.mT @ x / x.square().sum(dim=(1, 2))[:, None, None]
    return ((x @ grams).sum(dim=0) @ torch.linalg.pinv(grams.sum(dim=0), hermitian=True)).float()


def emr(vectors: Vectors) -> list[Vector]:
    x = flat(vectors)
    sign = torch.where(x.sum(dim=0) > 0, 1.0, -1.0)
    unified = (x * sign).clamp(min=0).amax(dim=0) * sign
    out = []
    for v in x:
        masked, own = unflat(unified * (v * unified > 0), vectors[0]), unflat(v, vectors[0])
        scale = sum(o.abs().mean() for o in own.values()) / sum(m.abs().mean() for m in masked.values())
        out.append({name: m * scale for name, m in masked.items()})
    return out


def tall_mask(vectors: Vectors) -> list[Vector]:
    x = flat(vectors)
    total = x.sum(dim=0)
    return [unflat(total * (v.abs() > 0.4 * (total - v).abs()), vectors[0]) for v in x]


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "average": lambda v: arithmetic(v, 1 / len(v)),
    "task_arithmetic": arithmetic,
    "ties": whole(ties),
    "ties_sum": whole(lambda x: ties(x, mean=False)),
    "dare": whole(lambda x: dropped(x, 0.9).sum(dim=0)),
    "dare_ties": whole(lambda x: ties(dropped(x, 0.5))),
    "della": each(della, matrices_only=False),
    "breadcrumbs": each(breadcrumbs, matrices_only=False),
    "magmax": each(magmax, matrices_only=False),
    "sce": each(sce, matrices_only=False),
    "pcb": whole(pcb),
    "consensus_ta": whole(consensus),
    "model_stock": each(model_stock, matrices_only=False),
    "karcher": each(karcher, matrices_only=False),
    "emr": emr,
    "tall_mask": tall_mask,
}
SPECTRAL: dict[str, Callable[..., Any]] = {
    "tsv_m": each(tsv_m),
    "iso_c": each(iso_c),
    "iso_cts": each(iso_cts),
    "cart": each(cart),
    "star": each(star),
    "dc_merge": each(dc_merge),
    "wudi_closed": each(wudi_closed),
    "wudi": each(wudi),
}
