"""From stored rows to the lines of a leaderboard: which models were measured, on what, with how many right.

A line gathers the seeds of one (backbone, fine-tuning method, operator, options, board, protocol). Lines made with
different recipes never share a line: a tag made from the lineage keeps them apart. A line is complete when every one
of its seeds has every task; incomplete lines are shown, but have no mean.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError, UnknownName
from bench.ground.metrics import accuracy, mean_accuracy, normalised_accuracy
from bench.store.results import needs, seconds
from bench.tables import stats
from bench.tables.line import IDENTITY, Line, difference, inapplicable, name

EXPERTS = ("expert", "imported")
"""Kinds of cells whose rows are experts: trained here, or published and read from a file."""


@dataclass
class Lines:
    """Everything that was measured, by kind, and the cells behind it."""

    suite: str
    tasks: tuple[str, ...]
    control: str
    addition: list[Line]
    negation: list[Line]
    posthoc: list[Line]
    """ordinary experts merged and evaluated as tangent models"""
    experts: list[Line]
    zeroshot: list[Line]
    inapplicable: list[Line]
    """additions and post-hoc linearisations that their operator could not do, each with its reason"""
    others: int
    """addition lines over other task sets than the suite's; they belong to the subset curves"""
    cells: dict[str, dict[str, Any]]
    """{key: {"identity", "metrics", "provenance"}}"""
    by_key: dict[str, tuple[str, float]]
    """{key of an expert: (task, test accuracy)}"""
    linearised: dict[str, dict[str, float]]
    """{key of a post-hoc cell: test accuracy of its experts by task, each linearised too}"""
    _priors: dict[Any, stats.SeedPrior | None] = field(default_factory=dict, repr=False)

    @property
    def all(self) -> list[Line]:
        """Every line that a name can mean, except negation, whose names would repeat."""
        unable = [line for line in self.inapplicable if line.kind == "addition"]
        return [*self.addition, *unable, *self.zeroshot, *self.experts]

    def find(self, name: str) -> Line:
        """The line of this name; raises UnknownName with the nearest one."""
        for line in self.all:
            if line.name == name:
                return line
        raise UnknownName("row", name, [line.name for line in self.all])

    def normalised(self, line: Line, reference: str = "", seeds: Sequence[int] | None = None) -> float | None:
        """Mean over seeds of normalised accuracy over the line's own experts, or over `reference`'s of the same
        seed; None where they are missing. The own experts of a post-hoc line are linearised as it is; those of a
        reference never are.
        """
        if not line.complete:
            return None
        found = []
        for seed in line.seeds if seeds is None else seeds:
            experts = self._reference(line, reference or line.finetuning, seed)
            if line.kind == "posthoc" and not reference:
                experts = {t: a for key in line.keys[seed] for t, a in self.linearised.get(key, {}).items()}
            if not set(line.tasks) <= set(experts) or min(experts.values(), default=0.0) <= 0:
                return None
            found.append(normalised_accuracy(line.accuracies(seed), experts))
        return float(np.mean(found))

    def seed_prior(self, line: Line, seeds: Sequence[int], *, paired: bool) -> stats.SeedPrior | None:
        """What merged models with these seeds say about the variance between them; of a negation, other negations."""
        known = (line.backbone, tuple(seeds), paired, line.kind == "negation")
        if known not in self._priors:
            rows = self.negation if line.kind == "negation" else self.addition  # seeds move negations far more
            beside = [x for x in rows if x.backbone == line.backbone and x.complete and set(seeds) <= set(x.seeds)]
            means = [[mean_accuracy(x.accuracies(seed)) for x in beside] for seed in seeds]
            self._priors[known] = stats.seed_prior(means, paired=paired) if beside else None
        return self._priors[known]

    def differences(self, pairs: Sequence[tuple[Line, Line]]) -> list[stats.Estimate | None]:
        """First minus second line of every pair, by image and seed, on joint resamples; None where that cannot be."""
        found = [difference(a, b) for a, b in pairs]
        usable = [(a, *d) for (a, _), d in zip(pairs, found, strict=True) if d is not None]
        priors = [self.seed_prior(a, seeds, paired=True) for a, _, seeds in usable]
        estimates = iter(stats.estimates([outcome for _, outcome, _ in usable], priors=priors))
        return [None if d is None else next(estimates) for d in found]

    def _reference(self, line: Line, finetuning: str, seed: int) -> dict[str, float]:
        if finetuning == line.finetuning:
            keys = [k for key in line.keys[seed] for k in self.upstream(key)]
            own = {self.by_key[key][0]: self.by_key[key][1] for key in keys if key in self.by_key}
            if own:
                return own
        return self.experts_of(finetuning, line.backbone, seed)

    def experts_of(self, finetuning: str, backbone: str, seed: int) -> dict[str, float]:
        """{task: test accuracy} of a method's experts; nothing where there are none or several recipes of them."""
        same = [x for x in self.experts if x.finetuning == finetuning and x.backbone == backbone and seed in x.counts]
        return same[0].accuracies(seed) if len(same) == 1 else {}

    def upstream(self, key: str) -> list[str]:
        """Keys of the cells that a cell was made from."""
        return needs(self.cells.get(key, {}).get("identity", {}))

    def seconds(self, line: Line) -> float | None:
        """Seconds of the line's own cells, mean over seeds, as their provenance says; None where it does not."""
        return _mean_seconds(self.cells, line.keys.values())

    def seconds_of_experts(self, line: Line) -> float | None:
        """Seconds of fine-tuning the experts of the line, mean over seeds."""
        keys = [{k for key in of_seed for k in self.upstream(key)} for of_seed in line.keys.values()]
        return _mean_seconds(self.cells, keys)


def collect(rows: pa.Table, cells: pa.Table, suite: str | None = None) -> Lines:
    """All lines of one suite. Raises BenchError when there is nothing, or several suites and none was named."""
    suites = sorted(set(pc.unique(rows["suite"]).to_pylist()))
    if not suites:
        raise BenchError("no results here yet; run `bench run` first")
    if suite is None and len(suites) > 1:
        raise BenchError(f"results of {len(suites)} suites ({', '.join(suites)}); name one with --suite")
    suite = suite or suites[0]
    if suite not in suites:
        raise UnknownName("suite in these results", suite, suites)
    about = _parse(cells)
    test = rows.filter(pc.and_(pc.equal(rows["suite"], suite), pc.equal(rows["split"], "test")))
    found = test.filter(test["selected"]).to_pylist()
    sets = {tuple(r["tasks"].split("+")) for r in found if r["kind"] == "addition"}
    merged = sorted(sets, key=lambda t: (-len(t), t))
    expert_tasks = tuple(sorted({r["task"] for r in found if r["kind"] == "expert"}))
    zero_tasks = {r["task"] for r in found if r["kind"] == "zeroshot"}
    tasks = merged[0] if merged else expert_tasks or tuple(sorted(zero_tasks))
    control = next(iter(sorted({r["task"] for r in found if r["kind"] == "negation"} - set(tasks))), "")
    control = control or next(iter(sorted(zero_tasks - set(tasks) - set(expert_tasks))), "")
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        kinds[row["kind"]].append(row)
    addition, posthoc = ([r for r in kinds[k] if r["tasks"] == "+".join(tasks)] for k in ("addition", "posthoc"))
    linearised: dict[str, dict[str, float]] = defaultdict(dict)
    for row in kinds["posthoc"]:
        if not row["operator"]:
            linearised[row["key"]][row["task"]] = accuracy(row["correct"], row["total"])
    used = {k for key in {r["key"] for r in addition} for k in needs(about.get(key, {}).get("identity", {}))}
    experts = [r for r in kinds["expert"] if r["task"] in tasks and (not used or r["key"] in used)]
    wide = {r["key"] for r in kinds["zeroshot"] if set(tasks) <= _tasks_of(about, r["key"])}
    zeroshot = [r for r in kinds["zeroshot"] if not wide or r["key"] in wide]
    tags = _tags({r["key"] for r in (*addition, *posthoc, *experts, *zeroshot, *kinds["negation"])}, about)
    lines = Lines(
        suite=suite,
        tasks=tasks,
        control=control,
        addition=_lines(addition, tasks, control, tags, about),
        negation=_lines(kinds["negation"], tasks, control, tags, about),
        posthoc=_lines(posthoc, tasks, control, tags, about),
        experts=_lines(experts, tasks, control, tags, about),
        zeroshot=_lines(zeroshot, tasks, control, tags, about),
        inapplicable=inapplicable(about, suite, tasks),
        others=len({r["key"] for r in kinds["addition"]} - {r["key"] for r in addition}),
        cells=about,
        by_key={r["key"]: (r["task"], accuracy(r["correct"], r["total"])) for r in kinds["expert"]},
        linearised=linearised,
    )
    unable = {kind: [line for line in lines.inapplicable if line.kind == kind] for kind in ("addition", "posthoc")}
    rows = (lines.addition + unable["addition"], lines.posthoc + unable["posthoc"])
    for group in (*rows, lines.negation, lines.experts, lines.zeroshot):
        name(group)
    return lines


def _tasks_of(about: Mapping[str, Any], key: str) -> set[str]:
    tasks = about.get(key, {}).get("identity", {}).get("tasks", [])
    return {str(t[0]) if isinstance(t, list) and t else str(t) for t in (tasks if isinstance(tasks, list) else ())}


def percent(rate: float | None) -> float | None:
    """A rate as percent with two decimals."""
    return None if rate is None else round(100 * rate, 2) + 0.0


def sweeps(rows: pa.Table, lines: Iterable[Line]) -> dict[str, dict[float, float]]:
    """{line name: {scaling: mean validation accuracy over tasks and seeds}} of the coefficients that every seed looked
    at on every task.
    """
    named = {key: line for line in lines for keys in line.keys.values() for key in keys}
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    wanted = pc.and_(
        pc.equal(rows["split"], "validation"), pc.is_in(rows["key"], value_set=pa.array(sorted(named), pa.string()))
    )
    columns = [rows.filter(wanted)[name].to_pylist() for name in ("key", "scaling", "task", "correct", "total")]
    for key, scaling, task, correct, total in zip(*columns, strict=True):
        if task in named[key].tasks:
            found[named[key].name][scaling].append(correct / total)
    return {
        line.name: {
            s: float(np.mean(v))
            for s, v in sorted(found[line.name].items())
            if len(v) == len(line.tasks) * len(line.seeds)
        }
        for line in named.values()
        if line.name in found
    }


def _lines(
    rows: Iterable[Mapping[str, Any]],
    tasks: tuple[str, ...],
    control: str,
    tags: Mapping[str, list[str]],
    about: Mapping[str, Any],
) -> list[Line]:
    grouped: dict[tuple[str, ...], Line] = {}
    for row in rows:
        identity = {name: row[name] for name in IDENTITY}
        version = about.get(row["key"], {}).get("identity", {}).get("version", 1)
        for tag in tags[row["key"]]:
            made = Line(recipe=tag, version=version, tasks=tasks, **identity)
            line = grouped.setdefault((*identity.values(), tag), made)
            _put(line, row, control)
    return [grouped[g] for g in sorted(grouped) if grouped[g].counts]


def _put(line: Line, row: Mapping[str, Any], control: str) -> None:
    """One stored row into its line."""
    key, task, seed, counts = row["key"], row["task"], row["seed"], (row["correct"], row["total"])
    target = row["tasks"] if row["kind"] == "negation" else task
    if row["kind"] in ("negation", "zeroshot") and task == control:
        line.control[seed][target] = counts
    elif task in line.tasks:
        if line.counts[seed].get(target, counts) != counts:
            raise BenchError(
                f"{line.kind} {line.finetuning}/{line.operator} on {task}, seed {seed}, was measured twice with other "
                f"numbers, last by {key}; delete the wrong record"
            )
        line.counts[seed][target] = counts
        line.bits[seed][target] = row["bits"]
        line.scaling[seed][target] = row["scaling"]
    line.keys[seed].add(key)


def _tags(keys: Iterable[str], about: Mapping[str, Any]) -> dict[str, list[str]]:
    """{key: tags}: hex digits of a lineage without its seeds, so that one tag is one way of getting results.

    An expert has the tags of the sets of experts it was merged in, because recipes may differ between the tasks of
    one set.
    """
    named = {key: about.get(key, {}).get("identity", {}) for key in keys}
    sets: dict[str, set[str]] = defaultdict(set)
    found: dict[str, list[str]] = {}
    for key, identity in named.items():
        if identity.get("kind") == "addition":
            experts = [about.get(k, {}).get("identity", {}) for k in needs(identity)]
            found[key], tag = [_tag([identity, *experts])], _tag(experts)
            for expert in needs(identity):
                sets[expert].add(tag)
    for key, identity in named.items():
        of_set = sorted({tag for k in (key, *needs(identity)) for tag in sets.get(k, ())}) or [""]
        own = "" if identity.get("kind") in EXPERTS else _tag([identity])
        found.setdefault(key, [own + tag for tag in of_set])
    return found


def _tag(identities: Sequence[Mapping[str, Any]]) -> str:
    leave = {"seed", "experts"}
    single = {"task", "card"}  # of a negation: one line gathers all targets
    kept = [leave if i.get("kind") in EXPERTS else leave | single for i in identities]
    parts = [{k: v for k, v in i.items() if k not in left} for i, left in zip(identities, kept, strict=True)]
    text = "\n".join(sorted(json.dumps(part, sort_keys=True) for part in parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parse(cells: pa.Table) -> dict[str, dict[str, Any]]:
    parts = ("identity", "metrics", "provenance")
    columns = [cells[name].to_pylist() for name in ("key", *parts)]
    return {
        key: {n: json.loads(t) for n, t in zip(parts, texts, strict=True)} for key, *texts in zip(*columns, strict=True)
    }


def _mean_seconds(cells: Mapping[str, Any], keys: Iterable[Iterable[str]]) -> float | None:
    totals = []
    for of_seed in keys:
        taken = [seconds(cells.get(key, {}).get("provenance", {})) for key in of_seed]
        if not taken or None in taken:
            return None
        totals.append(sum(filter(None, taken)))
    return float(np.mean(totals)) if totals else None
