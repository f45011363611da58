"""`bench compare`: is one row better than another, and what does a regulariser do to an operator? Reads Parquet only.

Results are plain dicts of rounded numbers (accuracies and differences in percent and points), so what `--json`
prints is what the text says.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pyarrow as pa

from bench.errors import BenchError, UnknownName
from bench.ground import names
from bench.ground.metrics import COMMON_REFERENCE
from bench.registry import catalogue
from bench.tables import collect, frames, stats
from bench.tables.collect import Lines
from bench.tables.line import Line, difference

ALPHA = 1 - stats.CONFIDENCE
BASELINE = "task_arithmetic"


def compare(rows: pa.Table, cells: pa.Table, a: str, b: str, *, suite: str | None = None) -> dict[str, Any]:
    """Row `a` minus row `b`, paired by image and seed. Names are `FINETUNING/OPERATOR`, `zero-shot`,
    `FINETUNING/expert`.

    Keys: suite, a, b (name, accuracy, normalised, normalised_common), difference, low, high, p, detectable, seeds,
    verdict, sentence, tasks (per task: a, b, difference, won, lost, p of McNemar's exact test and p_holm over the
    tasks).
    """
    lines = collect.collect(rows, cells, suite)
    first, second = lines.find(a), lines.find(b)
    outcome, seeds = _paired(first, second)
    (estimate,) = filter(None, lines.differences([(first, second)]))
    return {
        "suite": lines.suite,
        "a": _side(lines, first, seeds),
        "b": _side(lines, second, seeds),
        **_numbers(estimate, estimate.p),
        "seeds": [s for s in seeds if s >= 0],
        "boards_differ": _boards_differ(first, second),
        "tasks": _by_task(first, second, outcome, seeds),
        **_verdict(first.name, second.name, estimate, estimate.p),
    }


def compare_regularizer(
    rows: pa.Table,
    cells: pa.Table,
    operator: str,
    regularizer: str = "orthoreg",
    *,
    baseline: str = BASELINE,
    suite: str | None = None,
) -> dict[str, Any]:
    """An operator next to a regulariser, on every fine-tuning method that was measured with and without it.

    For every method M three differences, Holm over all of them:
    `effect`   M+regulariser/operator - M/operator: what the regulariser adds to the operator;
    `instead`  M/operator - M+regulariser/baseline: the operator instead of the regulariser;
    `beside`   M+regulariser/operator - M+regulariser/baseline: the operator on top of the regulariser.
    The last two are left out where operator and baseline are the same or the baseline was not measured. `left_out`
    names the operator's rows without numbers on the methods that other operators were measured on, and why.
    """
    lines = collect.collect(rows, cells, suite)
    measured = {line.name: line for line in lines.addition if line.complete}
    merged = [line for line in lines.all if line.kind == "addition"]
    variants = {line.variant for line in merged}
    if operator not in variants:
        ways = sorted({line.variant for line in merged if line.operator == operator})
        if ways:
            raise BenchError(f"{operator} was measured in {len(ways)} ways ({', '.join(ways)}); name one of them")
        raise UnknownName("measured operator", operator, variants)
    regularizers = {names.finetuning(line.finetuning).regularizer for line in merged} - {""}
    regularizers |= catalogue.load().regularizers.keys()
    if regularizer not in regularizers:
        raise UnknownName("regulariser", regularizer, regularizers)
    methods = sorted({str(names.finetuning(line.finetuning).plain) for line in merged if line.variant == operator})
    pairs: list[tuple[str, str, Line, Line]] = []
    for method in methods:
        trained = replace(names.finetuning(method), regularizer=regularizer)
        plain, regular = measured.get(f"{method}/{operator}"), measured.get(f"{trained}/{operator}")
        rival = measured.get(f"{trained}/{baseline}") if baseline != operator else None
        for kind, one, other in (("effect", regular, plain), ("instead", plain, rival), ("beside", regular, rival)):
            if one is not None and other is not None:
                pairs.append((method, kind, one, other))
    left_out = _left_out(lines, merged, operator, regularizer)
    if not pairs:
        trained_with = sorted({x.finetuning for x in lines.addition if names.finetuning(x.finetuning).regularizer})
        first = f"; {left_out[0]['name']}: {left_out[0]['reason']}" if left_out else ""
        raise BenchError(
            f"{operator} has not been measured with and without {regularizer} on any fine-tuning method "
            f"(regularised methods here: {', '.join(trained_with) or 'none'}{first}); run both first"
        )
    return _family(lines, pairs, operator, regularizer, baseline) | {"left_out": left_out}


def _left_out(lines: Lines, merged: Sequence[Line], operator: str, regularizer: str) -> list[dict[str, str]]:
    mine = {line.finetuning: line for line in merged if line.variant == operator}
    every = {line.finetuning for line in lines.addition}
    methods = {name for name in every if names.finetuning(name).regularizer in ("", regularizer)}
    rows = []
    for method in sorted(methods | mine.keys()):
        line, others = mine.get(method), [x.name for x in merged if (x.finetuning, x.operator) == (method, operator)]
        if line is None:
            reason = f"only as {', '.join(others)}" if others else "not measured"
        elif line.complete:
            continue
        else:
            reason = f"not applicable, {line.reason}" if line.reason else _unfinished(line)
        rows.append({"name": f"{method}/{operator}", "reason": reason})
    return rows


def _family(
    lines: Lines, pairs: Sequence[tuple[str, str, Line, Line]], operator: str, regularizer: str, baseline: str
) -> dict[str, Any]:
    paired = [_paired(one, other) for _, _, one, other in pairs]
    estimates = [e for e in lines.differences([(one, other) for _, _, one, other in pairs]) if e is not None]
    adjusted = stats.holm([e.p for e in estimates])
    comparisons = []
    for (method, kind, one, other), (outcome, seeds), estimate, p in zip(
        pairs, paired, estimates, adjusted, strict=True
    ):
        comparisons.append(
            {
                "method": method,
                "kind": kind,
                "a": _side(lines, one, seeds),
                "b": _side(lines, other, seeds),
                **_numbers(estimate, p),
                "seeds": [s for s in seeds if s >= 0],
                "boards_differ": _boards_differ(one, other),
                "tasks": _by_task(one, other, outcome, seeds),
                **_verdict(one.name, other.name, estimate, p, len(pairs)),
            }
        )
    return {
        "suite": lines.suite,
        "operator": operator,
        "regulariser": regularizer,
        "baseline": baseline,
        "comparisons": comparisons,
        "sentence": _summary(comparisons, operator, regularizer, baseline),
    }


def _paired(a: Line, b: Line) -> tuple[stats.Outcome, tuple[int, ...]]:
    for line in (a, b):
        if line.reason:
            raise BenchError(f"row {line.name} does not exist: not applicable, {line.reason}")
        if not line.complete:
            raise BenchError(f"row {line.name} has {_unfinished(line)}; finish it with `bench run` first")
    found = difference(a, b)
    if found is None:
        raise BenchError(f"rows {a.name} and {b.name} share no seed or lack correctness bits; they cannot be paired")
    return found


def _boards_differ(a: Line, b: Line) -> bool:
    """Whether one row was allowed to see more than the other; experts and the pretrained model are on no board."""
    return a.board != b.board and "reference" not in (a.board, b.board)


def _unfinished(line: Line) -> str:
    return f"{line.measured}/{len(line.tasks)} tasks"


def _side(lines: Lines, line: Line, seeds: Sequence[int]) -> dict[str, Any]:
    """One row on the seeds of the comparison."""
    places = line.places(seeds)
    mean = fmean(fmean(line.rates[place]) for place in places)
    own = [line.seeds[place] for place in places]
    return {
        "name": line.name,
        "board": line.board,
        "accuracy": frames.percent(mean),
        "normalised": frames.percent(lines.normalised(line, "", own)),
        "normalised_common": frames.percent(lines.normalised(line, COMMON_REFERENCE, own)),
    }


def _numbers(estimate: stats.Estimate, p: float) -> dict[str, Any]:
    return {
        "difference": frames.percent(estimate.value),
        "low": frames.percent(estimate.low),
        "high": frames.percent(estimate.high),
        "p": round(p, 6),
        "detectable": frames.percent(estimate.detectable),
    }


def _by_task(a: Line, b: Line, outcome: stats.Outcome, seeds: Sequence[int]) -> list[dict[str, Any]]:
    tests = [stats.mcnemar(task) for task in outcome]
    adjusted = stats.holm([p for _, _, p in tests])
    found = []
    for task, values, (won, lost, p), p_holm in zip(a.tasks, outcome, tests, adjusted, strict=True):
        first, second = (fmean(x.rates[x.places(seeds), x.tasks.index(task)]) for x in (a, b))
        found.append(
            {
                "task": task,
                "a": frames.percent(first),
                "b": frames.percent(second),
                "difference": frames.percent(float(values.mean())),
                "won": won,
                "lost": lost,
                "p": round(p, 6),
                "p_holm": round(p_holm, 6),
            }
        )
    return found


def _verdict(a: str, b: str, estimate: stats.Estimate, p: float, family: int = 1) -> dict[str, str]:
    """better, worse or tied, and the sentence that says so with its size. `p` is adjusted for `family` comparisons."""
    among = f" (Holm over {family} comparisons)" if family > 1 else ""
    points = f"{100 * estimate.value:+.2f} points [{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}]"
    if p < ALPHA:
        word = "better" if estimate.value > 0 else "worse"
        return {"verdict": word, "sentence": f"{a} is {word} than {b}: {points}, p {p_text(p)}{among}."}
    within = 100 * max(abs(estimate.low), abs(estimate.high))
    sentence = f"{a} and {b} are tied within {within:.2f} points: {points}, p {p_text(p)}{among}."
    return {"verdict": "tied", "sentence": sentence}


def _summary(comparisons: Sequence[dict[str, Any]], operator: str, regularizer: str, baseline: str) -> str:
    parts = []
    for kind, asked in (
        ("effect", f"{regularizer} under {operator}"),
        ("instead", f"{operator} instead of {regularizer} (with {baseline})"),
        ("beside", f"{operator} on top of {regularizer} (instead of {baseline})"),
    ):
        verdicts = [c["verdict"] for c in comparisons if c["kind"] == kind]
        if verdicts:
            counts = ", ".join(
                f"{verdicts.count(word)} {word}" for word in ("better", "tied", "worse") if word in verdicts
            )
            parts.append(f"{asked}: {counts} of {len(verdicts)} fine-tuning methods")
    return "; ".join(parts) + "."


def p_text(p: float) -> str:
    """Three decimals with their sign of relation, or the bound below which they say nothing."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
