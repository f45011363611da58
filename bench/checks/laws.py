"""The laws every merging operator obeys, as functions: the tests run them on the registry, `bench check` on a user's
file.

A law takes an operator and returns None, or one line that says what it did. An operator that lawfully differs says why
in `Operator.unlawful`. `broken(operator)` runs them all on tiny vectors in well under a second.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.errors import first_line, told
from bench.registry.declaration import misdeclared
from methods.operator import Operator
from methods.vectors import TaskVector, block, generator

Law = Callable[[Operator], str | None]
# One of each kind a tower has: 0-d, one entry, vector, wide, tall and square matrices, one row or column, convolution.
SHAPES: dict[str, tuple[int, ...]] = {
    "logit_scale": (),
    "one": (1,),
    "transformer.resblocks.0.attn.in_proj_bias": (18,),
    "transformer.resblocks.0.attn.in_proj_weight": (18, 6),
    "transformer.resblocks.0.mlp.c_fc.weight": (12, 6),
    "transformer.resblocks.1.mlp.c_proj.weight": (6, 12),
    "transformer.resblocks.1.attn.out_proj.weight": (6, 6),
    "positional_embedding": (5, 6),
    "row": (1, 7),
    "column": (7, 1),
    "entry": (1, 1),
    "conv1.weight": (6, 3, 4, 4),
}
SIZES = (1, 2, 3, 17)


def example(tasks: int = 3) -> list[TaskVector]:
    """Random task vectors in the shapes above, of a size that fine-tuning gives."""
    return [
        {name: 0.01 * torch.randn(shape, generator=generator(0, task, name)) for name, shape in SHAPES.items()}
        for task in range(tasks)
    ]


def supplied(operator: Operator, vectors: Sequence[TaskVector]) -> dict[str, Any]:
    """Something of the right form for each of the operator's needs, made from nothing but the vectors."""
    return {need: NEEDS[need](vectors) for need in operator.needs}


def _factors(vectors: Sequence[TaskVector]) -> list[dict[str, tuple[Tensor, Tensor]]]:
    return [
        {name: (x, torch.eye(x.shape[1], dtype=x.dtype)) for name, x in vector.items() if x.ndim == 2}
        for vector in vectors
    ]


def _grams(vectors: Sequence[TaskVector]) -> list[dict[str, Tensor]]:
    """A positive definite matrix for each layer's inputs that depends on the expert but not on its scale."""
    return [{name: _gram(x) for name, x in vector.items() if x.ndim == 2} for vector in vectors]


def _gram(x: Tensor) -> Tensor:
    wide = x.double()
    return wide.T @ wide / wide.square().sum().clamp(min=1e-30) + 0.1 * torch.eye(x.shape[1], dtype=torch.float64)


def _grams_of(vectors: Sequence[TaskVector]) -> Callable[[TaskVector, int, int], dict[str, Tensor]]:
    def grams_of(merged: TaskVector, task: int, number: int) -> dict[str, Tensor]:
        return {n: _gram(x) for n, x in vectors[task].items() if x.ndim == 2 and block(n) == number}

    return grams_of


def _fisher(vectors: Sequence[TaskVector]) -> list[dict[str, Tensor]]:
    return [
        {name: x.double().square() / x.double().square().mean().clamp(min=1e-30) for name, x in vector.items()}
        for vector in vectors
    ]


def _entropy(vectors: Sequence[TaskVector]) -> Callable[[TaskVector, int], Tensor]:
    """Least where the merged vector is the average, so that there is something to learn."""
    mean = {name: sum(v[name].float() for v in vectors) / len(vectors) for name in vectors[0]}
    return lambda merged, step: torch.stack([(x - mean[name]).square().sum() for name, x in merged.items()]).sum()


NEEDS: dict[str, Callable[[Sequence[TaskVector]], Any]] = {
    "factors": _factors,
    "grams": _grams,
    "grams_of": _grams_of,
    "fisher": _fisher,
    "entropy": _entropy,
}


def run(operator: Operator, vectors: Sequence[TaskVector], **inputs: Any) -> list[TaskVector]:
    """The merged vectors: one, or one per task."""
    few = {"iterations": 20} if "iterations" in operator.grid else {}  # laws hold at every step, so a few will do
    merged = operator.merge(vectors, **(supplied(operator, vectors) | few | inputs))
    return merged if operator.per_task else [merged]


def far(left: Sequence[TaskVector], right: Sequence[TaskVector], tolerance: float = 2e-4) -> str | None:
    """The first tensor in which two results differ by more than the tolerance (relative to its largest entry)."""
    for one, other in zip(left, right, strict=True):
        for name, x in one.items():
            size = max(float(x.abs().max()), float(other[name].abs().max())) if x.numel() else 0.0
            gap = float((x - other[name]).abs().max()) if x.numel() else 0.0
            if not gap <= tolerance * size + 1e-30:
                return f"{name!r} by {gap / max(size, 1e-30):.1e} of its largest entry"
    return None


def form(operator: Operator) -> str | None:
    """Same names, shapes and dtypes as the experts, in every precision; every entry finite; nothing shared with
    them."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        vectors = [{name: x.to(dtype) for name, x in vector.items()} for vector in example()]
        for merged in run(operator, vectors):
            if list(merged) != list(vectors[0]):
                return f"returns other names: {sorted(merged.keys() ^ vectors[0].keys())[:1] or 'another order'}"
            for name, x in merged.items():
                if x.shape != vectors[0][name].shape:
                    return f"{name!r} has shape {tuple(x.shape)} instead of {tuple(vectors[0][name].shape)}"
                if x.dtype != dtype:
                    return f"{name!r} has dtype {x.dtype} instead of {dtype}"
                if not torch.isfinite(x).all():
                    return f"{name!r} is not finite ({dtype})"
                if any(x.data_ptr() == vector[name].data_ptr() for vector in vectors):
                    return f"{name!r} shares memory with an expert"
    return None


def untouched(operator: Operator) -> str | None:
    """The experts are the same after the merge as before."""
    vectors, copies = example(), example()
    run(operator, vectors)
    for vector, copy in zip(vectors, copies, strict=True):
        for name in copy:
            if not torch.equal(vector[name], copy[name]):
                return f"changes {name!r} of an expert in place"
    return None


def zero(operator: Operator) -> str | None:
    """Zero in, zero out."""
    for tasks in (1, 3):
        if tasks < operator.minimum_tasks:
            continue
        vectors = [{name: torch.zeros(shape) for name, shape in SHAPES.items()} for _ in range(tasks)]
        for merged in run(operator, vectors):
            for name, x in merged.items():
                if not torch.equal(x, torch.zeros_like(x)):
                    return f"{tasks} zero vector(s) give {name!r} = {float(x.abs().max())}"
    return None


def one_zero(operator: Operator) -> str | None:
    """One expert that learnt nothing, or nothing in some tensors, leaves every entry finite."""
    vectors = example()
    vectors[1] = {name: torch.zeros_like(x) for name, x in vectors[1].items()}
    vectors[2]["transformer.resblocks.0.mlp.c_fc.weight"][:3] = 0  # zero rows
    for merged in run(operator, vectors):
        for name, x in merged.items():
            if not torch.isfinite(x).all():
                return f"{name!r} is not finite when one expert is zero"
    return None


def scale(operator: Operator) -> str | None:
    """Experts eight times as large give a result eight times as large."""
    vectors = example()
    larger = [{name: 8 * x for name, x in vector.items()} for vector in vectors]
    expected = [{name: 8 * x for name, x in merged.items()} for merged in run(operator, vectors)]
    gap = far(run(operator, larger), expected)
    return f"eight times the experts is not eight times the result: differs in {gap}" if gap else None


def order(operator: Operator) -> str | None:
    """The order of the tasks does not matter."""
    vectors = example()
    permutation = [2, 0, 1]
    first, second = run(operator, vectors), run(operator, [vectors[i] for i in permutation])
    gap = far([first[i] for i in permutation] if operator.per_task else first, second)
    return f"task order changes {gap}" if gap else None


def seed(operator: Operator) -> str | None:
    """Same seed, same bits; another seed, other bits; the global random state is neither read nor moved."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = run(operator, example(), seed=1)
    if not torch.equal(before, torch.get_rng_state()):
        return "draws from the global random state; use a private torch.Generator"
    torch.manual_seed(7)
    again = run(operator, example(), seed=1)
    if any(not torch.equal(a[n].nan_to_num(), b[n].nan_to_num()) for a, b in zip(first, again, strict=True) for n in a):
        return "the same seed gives other bits"
    if operator.random and far(first, run(operator, example(), seed=2)) is None:
        return "another seed gives the same result; is `seed` used?"
    return None


def agreement(operator: Operator) -> str | None:
    """What all tasks agree on is never erased, however small the tensor."""
    for size in SIZES:
        for shape in ((size,), (size, size)):
            if "factors" in operator.needs and len(shape) < 2:
                continue  # LoRA updates are matrices
            x = torch.randn(shape, generator=generator(0, size)) + 3
            tasks = max(2, operator.minimum_tasks)
            for merged in run(operator, [{"w": x}] * tasks):
                if not merged["w"].any():
                    return f"erases a tensor of shape {shape} on which all tasks agree"
    return None


def identity(operator: Operator) -> str | None:
    """One task alone is returned as it is."""
    if operator.minimum_tasks > 1:
        return None
    vectors = example(tasks=1)
    gap = far(run(operator, vectors), vectors, 1e-3)
    return f"one task is not returned as it is: differs in {gap}" if gap else None


def streaming(operator: Operator) -> str | None:
    """A per-tensor operator gives the same bits tensor by tensor."""
    if not operator.per_tensor or operator.needs:
        return None
    vectors = example()
    whole = run(operator, vectors)
    for name in vectors[0]:
        parts = run(operator, [{name: vector[name]} for vector in vectors])
        for merged, part in zip(whole, parts, strict=True):
            if not torch.equal(merged[name], part[name]):
                return f"per_tensor is set, but {name!r} alone gives another result"
    return None


LAWS: dict[str, Law] = {
    law.__name__: law for law in (form, untouched, seed, zero, one_zero, agreement, scale, order, identity, streaming)
}


COMPARING = ("scale", "order", "identity", "streaming")
"""Laws that compare two merges; they say nothing where equal inputs give other bits or do not stay equal."""


def broken(operator: Operator) -> list[str]:
    """One line per law the operator breaks without saying so; what follows from another line is left out.

    A record that does not fit its function is all there is to say. An exception breaks the first law that meets it.
    """
    lines = [f"`unlawful` names no law {name!r}" for name in operator.unlawful if name not in LAWS]
    wrong = misdeclared(operator)
    if wrong:
        return [f"{operator.name}: {line}" for line in (*lines, wrong)]
    violations: dict[str, str] = {}
    raised = False
    for name, law in LAWS.items():
        if name in operator.unlawful or (name in COMPARING and {"untouched", "seed"} & violations.keys()):
            continue
        try:
            problem = law(operator)
        except (Exception, SystemExit) as error:  # a user's operator may raise anything; the line names it
            problem = None if raised else _raised(operator, error)
            raised = True
        if problem:
            violations[name] = problem
    lines = [*(f"law {name!r} broken: {problem}" for name, problem in violations.items()), *lines]
    return [f"{operator.name}: {line}" for line in lines]


def _raised(operator: Operator, error: BaseException) -> str:
    """The exception in one line, with the first tensor of a tower that it comes from, if not from all."""
    text = first_line(error)
    if isinstance(error, ValueError) and text.startswith(f"{operator.name}: "):
        return text.removeprefix(f"{operator.name}: ")
    raises = f"raises {told(error)}"
    if "does not support item assignment" in text:
        return f"{raises}; experts are read-only, return a new dict of tensors"
    odd = [name for name in SHAPES if _raises(operator, name, type(error))]
    return raises + (f"; so it does on {odd[0]!r} of shape {SHAPES[odd[0]]}" if 0 < len(odd) < len(SHAPES) else "")


def _raises(operator: Operator, name: str, kind: type[BaseException]) -> bool:
    try:
        run(operator, [{name: vector[name]} for vector in example()])
    except (Exception, SystemExit) as error:
        return type(error) is kind
    return False
