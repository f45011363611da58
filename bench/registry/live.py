"""The live registries: built-in methods, entry points and `--include` files. `bench.registry.catalogue` needs no torch.

`python -m bench.registry.live` writes `bench/assets/catalogue.json`.
"""

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UnknownName, told
from bench.registry import catalogue, facts
from bench.registry.catalogue import Catalogue
from bench.registry.declaration import NAME, misdeclared, mistyped
from bench.registry.source import Own, fingerprint
from methods.finetuning import FINETUNING
from methods.finetuning.record import FineTuning
from methods.merging import MERGING
from methods.modifiers import MODIFIERS, resolve
from methods.operator import Operator
from methods.regularizers import REGULARIZERS, Regularizer
from methods.spaces import SPACES

Method = Operator | FineTuning | Regularizer


@dataclass(frozen=True)
class Registry:
    """Every method that this process knows: built in, from entry points, and one's own."""

    operators: dict[str, Operator]
    finetuning: dict[str, FineTuning]
    regularizers: dict[str, Regularizer] = field(default_factory=lambda: dict(REGULARIZERS))
    sources: Mapping[str, str] = field(default_factory=dict)
    """{name of a method of one's own: `fingerprint` of the file that it is from, or of the object}"""

    def knows(self, name: str) -> bool:
        """Whether the operator of a name is here, whatever modifiers and space come behind it."""
        return re.split(r"[~@]", name)[0] in self.operators

    def operator(self, name: str) -> Operator:
        """An operator by name, with modifiers and space (`tsv_m~lines`)."""
        if not self.knows(name):
            raise UnknownName("merging operator", name, self.operators)
        return resolve(name, self.operators)


def load(include: Iterable[str | Own] = ()) -> Registry:
    """The registries with entry points, and methods of one's own from files or as objects; a name that comes twice is
    an error.
    """
    sources: dict[str, str] = {}
    registry = Registry(dict(MERGING), dict(FINETUNING), sources=sources)
    for group, kind in (("bench.merging", Operator), ("bench.finetuning", FineTuning)):
        for point in entry_points(group=group):
            _add(registry, point.load(), kind, f"entry point {point.value}")
    for given in include:
        if isinstance(given, Own):
            _add(registry, given.record, Method, "the object")
            sources[given.record.name] = given.source
            continue
        for method in _methods_in(given):
            _add(registry, method, Method, given)
            sources[method.name] = fingerprint(Path(given).read_bytes())
    return registry


def is_built_in(method: Method) -> bool:
    """Whether this very record is one of `methods`."""
    return any(method is built_in for table in (MERGING, FINETUNING, REGULARIZERS) for built_in in table.values())


def _methods_in(path: str) -> list[Method]:
    values = vars(_module(path)).values()
    own = [value for value in values if isinstance(value, Method) and not is_built_in(value)]  # imported to build upon
    if not own:
        raise BenchError(f"--include {path}: no Operator, FineTuning or Regularizer in it; assign one at module level")
    return own


def _module(path: str) -> Any:
    if not Path(path).is_file():
        raise BenchError(f"--include {path}: no such file; give the path of a Python file")
    if Path(path).suffix != ".py":
        raise BenchError(f"--include {path}: its name does not end in .py; give the path of a Python file")
    spec = importlib.util.spec_from_file_location(f"bench_include_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise BenchError(f"--include {path}: {error}; install it, or move what it holds into the file") from error
    except (Exception, SystemExit) as error:
        raise BenchError(f"--include {path}: {told(error)}; mend the file") from error
    return module


def _add(registry: Registry, method: Any, kind: Any, where: str) -> None:
    if not isinstance(method, kind):
        wanted = getattr(kind, "__name__", "method")
        raise BenchError(f"{where}: {method!r} is not a {wanted}; see docs/extending.md")
    table: dict[str, Any] = (
        registry.operators
        if isinstance(method, Operator)
        else registry.finetuning
        if isinstance(method, FineTuning)
        else registry.regularizers
    )
    wrong = mistyped(method)
    if not wrong and not NAME.fullmatch(method.name):
        wrong = f"the name {method.name!r} is not made of letters, digits, _, - and dots; rename it"
    if not wrong and isinstance(method, Operator):
        wrong = misdeclared(method)
    if wrong:
        raise BenchError(f"{where}: {method.name}: {wrong}")
    owners = registry.regularizers if isinstance(method, FineTuning) else registry.finetuning
    shared = not isinstance(method, Operator) and method.name in owners  # options are told apart by their owner's name
    if shared or (method.name in table and table[method.name] is not method):
        built_in = any(method.name in names for names in (MERGING, FINETUNING, REGULARIZERS))
        raise BenchError(f"{where}: the name {method.name!r} is taken{' by a built-in' * built_in}; rename your method")
    table[method.name] = method


COMPOSED = (
    "task_arithmetic~norm_match",
    "ties~norm_match",
    "tsv_m~norm_match",
    "task_arithmetic~lines",
    "tsv_m~lines",
    "task_arithmetic~isotropise",
    "task_arithmetic~svc",
    "iso_c~svc",
    "tsv_m@split_qkv",
    "iso_c@split_qkv",
    "tsv_m@core",
    "iso_c@core",
    "ties@knots",
)
"""Operators with a modifier or in a space that the grid `compositions` runs; any other one can be asked for."""


def catalogue_of(registry: Registry) -> Catalogue:
    """Everything in the registries that can be said without running it, as JSON values."""
    operators = {name: facts.operator_facts(op) for name, op in registry.operators.items()}
    composed = {name: facts.operator_facts(registry.operator(name)) for name in COMPOSED}
    finetuning = {n: {**facts.trained(m), "tangent": m.tangent} for n, m in registry.finetuning.items()}
    regularizers = {n: facts.trained(r) for n, r in registry.regularizers.items()}
    modifiers = {n: {**facts.plain(m), "when": m.when, **facts.options(m.grid)} for n, m in MODIFIERS.items()}
    spaces = {n: facts.plain(s) for n, s in SPACES.items()}
    own = partial(facts.composed, operators=registry.operators)
    return Catalogue(operators, composed, finetuning, regularizers, modifiers, spaces, compose=own)


def text(known: Catalogue) -> str:
    """The content of catalogue.json."""
    return json.dumps({name: getattr(known, name) for name in catalogue.KINDS}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    catalogue.PATH.write_text(text(catalogue_of(Registry(dict(MERGING), dict(FINETUNING)))), encoding="utf-8")
