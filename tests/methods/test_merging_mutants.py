"""Planted bugs, each of which a law must catch: tests of the laws, and of what `bench check` tells a user."""

import pytest
import torch

from bench.checks.laws import broken
from methods.operator import Operator


def mean(vectors):
    return {name: sum(v[name] for v in vectors) / len(vectors) for name in vectors[0]}


def in_place(vectors):
    out = dict(vectors[0])
    for vector in vectors[1:]:
        for name in out:
            out[name] += vector[name]
    return out


def small_tensors_erased(vectors):
    def trim(x):
        order = x.abs().flatten().argsort()
        keep = torch.zeros(x.numel())
        n = int(0.1 * x.numel())
        keep[order[n : x.numel() - n if n else -n or 0]] = 1  # the empty slice [a:-0]
        return x * keep.view(x.shape)

    return {name: trim(x) for name, x in mean(vectors).items()}


def unit_norm(vectors):
    return {name: x / x.norm() for name, x in mean(vectors).items()}


def global_noise(vectors, seed):
    return {name: x * (torch.rand(x.shape) < 0.5) * 2 for name, x in mean(vectors).items()}


def constant_noise(vectors, seed):
    g = torch.Generator().manual_seed(0)
    return {name: x * (torch.rand(x.shape, generator=g) < 0.9) for name, x in mean(vectors).items()}


def whole_norm(vectors):
    size = sum(float(x.abs().sum()) for x in mean(vectors).values())
    return {name: x * size / max(size, 1e-30) ** 1.5 for name, x in mean(vectors).items()}


def drop_last(vectors):
    out = mean(vectors)
    out.popitem()
    return out


MUTANTS = {
    "drops a tensor": (drop_last, {}, "form"),
    "flattens": (lambda v: {n: x.flatten() for n, x in mean(v).items()}, {}, "form"),
    "hands an expert on": (lambda v: {n: v[0][n] for n in v[0]}, {}, "form"),
    "adds in place": (in_place, {}, "untouched"),
    "divides zero by zero": (unit_norm, {}, "zero"),
    "adds a constant": (lambda v: {n: x + 1e-3 for n, x in mean(v).items()}, {}, "zero"),
    "weighs by inverse size": (
        lambda v: {n: sum(x[n] / x[n].norm() for x in v) / sum(1 / x[n].norm() for x in v) for n in v[0]},
        {},
        "one_zero",
    ),
    "has an absolute threshold": (lambda v: {n: x * (x.abs() > 1e-2) for n, x in mean(v).items()}, {}, "scale"),
    "lets the last task win": (lambda v: {n: x.clone() for n, x in v[-1].items()}, {}, "order"),
    "uses the global generator": (global_noise, {"random": True}, "seed"),
    "ignores its seed": (constant_noise, {"random": True}, "seed"),
    "erases small tensors": (small_tensors_erased, {}, "agreement"),
    "adds where it means to average": (lambda v: {n: 2 * x for n, x in mean(v).items()}, {}, "identity"),
    "claims to be per tensor": (whole_norm, {"per_tensor": True}, "streaming"),
    "computes in half precision": (
        lambda v: {n: x.bfloat16().float() for n, x in mean(v).items()},
        {},
        "identity",
    ),
    "raises": (lambda v: 1 / 0, {}, "form"),
}


def test_a_sound_operator_breaks_nothing():
    assert broken(Operator("mean", mean, per_tensor=True)) == []


@pytest.mark.parametrize("bug", MUTANTS)
def test_the_law_catches_the_bug_and_names_itself(bug):
    function, about, law = MUTANTS[bug]
    lines = broken(Operator("mine", function, **about))
    assert any(line.startswith(f"mine: law '{law}' broken: ") for line in lines), lines
    assert all("\n" not in line for line in lines)


def test_an_exemption_must_name_a_law():
    operator = Operator("mine", mean, unlawful={"gravity": "it is only a model"})
    assert broken(operator) == ["mine: `unlawful` names no law 'gravity'"]
