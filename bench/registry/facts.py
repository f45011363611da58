"""Everything to say about a method without running it, as JSON values. Imports `methods`, and so torch."""

from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from methods.finetuning.record import FineTuning
from methods.merging import MERGING
from methods.modifiers import resolve
from methods.operator import Operator
from methods.options import choices
from methods.regularizers.record import Regularizer


def operator_facts(op: Operator) -> dict[str, Any]:
    """Everything to say about an operator without running it, as JSON values."""
    plain = ("title", "paper", "citation", "formula", "version", "board", "random", "cost")
    more = ("per_task", "per_tensor", "non_matrices", "minimum_tasks")
    return {name: getattr(op, name) for name in (*plain, *more)} | {
        **options(op.grid),
        "coefficients": list(op.coefficients),
        "needs": list(op.needs),
    }


def composed(name: str, operators: Mapping[str, Operator] = MERGING) -> dict[str, Any]:
    """Facts of an operator with modifiers and space, such as `tsv_m~lines@core`; BenchError for an impossible one."""
    try:
        return operator_facts(resolve(name, operators))
    except ValueError as error:
        raise BenchError(str(error)) from error


def options(grid: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The values that a search tries, the default first, and every word that an option takes besides."""
    more = {option: [c for c in choices(option, values) if c not in values] for option, values in grid.items()}
    return {
        "grid": {option: list(values) for option, values in grid.items()},
        "choices": {option: words for option, words in more.items() if words},
    }


def trained(record: FineTuning | Regularizer) -> dict[str, Any]:
    """What fine-tuning methods and regularisers have in common."""
    return {**plain(record), **options(record.declared), "version": record.version}


def plain(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("title", "paper", "citation", "formula")}
