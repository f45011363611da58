"""Every registered operator obeys every law, or says in its record why it lawfully does not."""

import importlib
import pkgutil

import pytest
import torch

import methods.merging
from bench.checks.laws import LAWS, example, run
from methods.merging import MERGING
from methods.operator import Operator


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", MERGING)
def test_law(name, law):
    operator = MERGING[name]
    problem = LAWS[law](operator)
    if law in operator.unlawful:
        assert problem or operator.random, f"{name} claims to break {law!r} ({operator.unlawful[law]}) but obeys it"
    else:
        assert problem is None, problem


@pytest.mark.parametrize("name", MERGING)
def test_tensors_without_entries_change_nothing(name):
    vectors, shapes = example(), {"nothing": (0,), "no_columns": (3, 0)}
    wider = [{**vector, **{n: torch.zeros(shape) for n, shape in shapes.items()}} for vector in vectors]
    for merged, plain in zip(run(MERGING[name], wider), run(MERGING[name], vectors), strict=True):
        assert {n: tuple(merged[n].shape) for n in shapes} == shapes
        assert all(torch.equal(merged[n], x) for n, x in plain.items())


def test_the_registry_is_the_whole_field():
    assert len([o for o in MERGING.values() if o.board == "data-free"]) >= 24


def test_every_file_is_registered_under_its_own_name():
    found = []
    for module in pkgutil.iter_modules(methods.merging.__path__):
        namespace = vars(importlib.import_module(f"methods.merging.{module.name}"))
        found += [value for value in namespace.values() if isinstance(value, Operator)]
    assert {operator.name for operator in found} == set(MERGING)
    assert all(MERGING[operator.name] is operator for operator in found)


@pytest.mark.parametrize("name", MERGING)
def test_every_record_is_complete(name):
    operator = MERGING[name]
    assert operator.title
    assert operator.formula
    assert "\n" not in operator.formula
    assert operator.paper.startswith(("arXiv:", "doi:")) or operator.citation.startswith("no paper: ")
    assert operator.non_matrices
    assert operator.coefficients
    assert set(operator.unlawful) <= set(LAWS)
    for option, values in operator.grid.items():
        assert len(values) >= 1
        for value in values:
            assert operator.options({option: value})[option] == value
