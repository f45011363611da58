"""From stored rows to the lines of a leaderboard: which models were measured, on what, with how many right.

A line gathers the seeds of one (backbone, fine-tuning method, operator, options, board, protocol). Lines made with
different recipes never share a line: a tag made from the lineage keeps them apart. A line is complete when every one
of its seeds has every task; incomplete lines are shown, but have no mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError, UnknownName
from bench.ground import names
from bench.ground.metrics import mean_accuracy, normalised_accuracy
from bench.store.records import Cells
from bench.tables import frames, stats
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
    cells: Cells
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
        by_seed = []
        for seed in line.seeds if seeds is None else seeds:
            experts = self._reference(line, reference or line.finetuning, seed)
            if line.kind == "posthoc" and not reference:
                experts = {t: a for key in line.keys[seed] for t, a in self.linearised.get(key, {}).items()}
            if not set(line.tasks) <= set(experts) or min(experts.values(), default=0.0) <= 0:
                return None
            by_seed.append(normalised_accuracy(line.accuracies(seed), experts))
        return float(np.mean(by_seed))

    def seed_prior(self, line: Line, seeds: Sequence[int], *, paired: bool) -> stats.SeedPrior | None:
        """What merged models with these seeds say about the variance between them; of a negation, other negations."""
        comparable = (line.backbone, tuple(seeds), paired, line.kind == "negation")
        if comparable not in self._priors:
            rows = self.negation if line.kind == "negation" else self.addition  # seeds move negations far more
            beside = [x for x in rows if x.backbone == line.backbone and x.complete and set(seeds) <= set(x.seeds)]
            means = [[mean_accuracy(x.accuracies(seed)) for x in beside] for seed in seeds]
            self._priors[comparable] = stats.seed_prior(means, paired=paired) if beside else None
        return self._priors[comparable]

    def differences(self, pairs: Sequence[tuple[Line, Line]]) -> list[stats.Estimate | None]:
        """First minus second line of every pair, by image and seed, on joint resamples; None where that cannot be."""
        outcomes = [difference(a, b) for a, b in pairs]
        usable = [(a, *d) for (a, _), d in zip(pairs, outcomes, strict=True) if d is not None]
        priors = [self.seed_prior(a, seeds, paired=True) for a, _, seeds in usable]
        estimates = iter(stats.estimates([outcome for _, outcome, _ in usable], priors=priors))
        return [None if d is None else next(estimates) for d in outcomes]

    def _reference(self, line: Line, finetuning: str, seed: int) -> dict[str, float]:
        own: dict[str, float] = {}
        if finetuning == line.finetuning:
            own = {t: a for key in line.keys[seed] for t, a in self.made_from(key).items()}
        return own or self.experts_of(finetuning, line.backbone, seed)

    def experts_of(self, finetuning: str, backbone: str, seed: int) -> dict[str, float]:
        """{task: test accuracy} of a method's experts; nothing where there are none or several recipes of them."""
        same = [x for x in self.experts if (x.finetuning, x.backbone) == (finetuning, backbone) and seed in x.seeds]
        return same[0].accuracies(seed) if len(same) == 1 else {}

    def made_from(self, key: str) -> dict[str, float]:
        """{task: test accuracy} of the experts that a merge was made from."""
        return dict(self.by_key[expert] for expert in self.cells[key].needs if expert in self.by_key)

    def seconds(self, line: Line) -> float | None:
        """Seconds of the line's own cells, mean over seeds, as their provenance says; None where it does not."""
        return self._mean_seconds(line.keys.values())

    def seconds_of_experts(self, line: Line) -> float | None:
        """Seconds of fine-tuning the experts of the line, mean over seeds."""
        return self._mean_seconds({e for key in keys for e in self.cells[key].needs} for keys in line.keys.values())

    def _mean_seconds(self, by_seed: Iterable[set[str]]) -> float | None:
        totals = [self.cells.seconds(keys) if keys else None for keys in by_seed]
        return None if None in totals or not totals else float(np.mean(totals))  # type: ignore[arg-type]


def collect(rows: pa.Table, cells: pa.Table, suite: str | None = None) -> Lines:
    """All lines of one suite. Raises BenchError when there is nothing, or several suites and none was named."""
    suite = _suite(rows, suite)
    stored = Cells(cells)
    test = pc.and_(pc.equal(rows["suite"], suite), pc.and_(pc.equal(rows["split"], "test"), rows["selected"]))
    frame = frames.of_rows(rows.filter(test), bits=True)
    kinds = frames.groups(frame, "kind")
    every = [kinds.get(kind, frame[:0]) for kind in ("addition", "posthoc", "negation", "expert", "zeroshot")]
    addition, posthoc, negation, expert, zeroshot = every
    tasks, control = _tasks(addition, negation, expert, zeroshot)
    whole = names.join_tasks(tasks)
    alone = posthoc[posthoc["operator"] == ""]
    linearised = {
        key: dict(zip(part["task"], part["accuracy"], strict=True)) for key, part in frames.groups(alone, "key").items()
    }
    others = addition.loc[addition["tasks"] != whole, "key"].nunique()
    addition, posthoc = (part[part["tasks"] == whole] for part in (addition, posthoc))
    used = {need for key in addition["key"].unique() for need in stored[key].needs}
    experts = expert[expert["task"].isin(tasks) & (expert["key"].isin(used) | (not used))]
    wide = [key for key in zeroshot["key"].unique() if set(tasks) <= set(stored[key].tasks)]
    zeroshot = zeroshot[zeroshot["key"].isin(wide) | (not wide)]
    groups = (addition, posthoc, negation, experts, zeroshot)
    tags = _tags({key for part in groups for key in part["key"].unique()}, stored)
    made = [_lines(part, tasks, control, tags, stored) for part in groups]
    lines = Lines(
        suite=suite,
        tasks=tasks,
        control=control,
        addition=made[0],
        posthoc=made[1],
        negation=made[2],
        experts=made[3],
        zeroshot=made[4],
        inapplicable=inapplicable(stored, suite, tasks),
        others=others,
        cells=stored,
        by_key={key: (t, a) for key, t, a in expert[["key", "task", "accuracy"]].itertuples(index=False)},
        linearised=linearised,
    )
    unable = {kind: [line for line in lines.inapplicable if line.kind == kind] for kind in ("addition", "posthoc")}
    together = (lines.addition + unable["addition"], lines.posthoc + unable["posthoc"])
    for group in (*together, lines.negation, lines.experts, lines.zeroshot):
        name(group)
    return lines


def _suite(rows: pa.Table, suite: str | None) -> str:
    suites = sorted(pc.unique(rows["suite"]).to_pylist())
    if not suites:
        raise BenchError("no results here yet; run `bench run` first")
    if suite is None and len(suites) > 1:
        raise BenchError(f"results of {len(suites)} suites ({', '.join(suites)}); name one with --suite")
    suite = suite or suites[0]
    if suite not in suites:
        raise UnknownName("suite in these results", suite, suites)
    return str(suite)


def _tasks(
    addition: pd.DataFrame, negation: pd.DataFrame, expert: pd.DataFrame, zeroshot: pd.DataFrame
) -> tuple[tuple[str, ...], str]:
    """The tasks of a suite, the most that were merged together; and the task that shows what forgetting costs."""
    merged = sorted(map(names.split_tasks, addition["tasks"].unique()), key=lambda tasks: (-len(tasks), tasks))
    trained, tested = sorted(expert["task"].unique()), sorted(zeroshot["task"].unique())
    tasks = merged[0] if merged else tuple(trained or tested)
    spare = [*sorted(set(negation["task"]) - set(tasks)), *(t for t in tested if t not in {*tasks, *trained})]
    return tasks, next(iter(spare), "")


def sweeps(rows: pa.Table, lines: Iterable[Line]) -> dict[str, dict[float, float]]:
    """{line name: {scaling: mean validation accuracy over tasks and seeds}} of the coefficients that every seed looked
    at on every task.
    """
    by_name = {line.name: line for line in lines}
    named = {key: line.name for line in by_name.values() for keys in line.keys.values() for key in keys}
    wanted = pc.and_(
        pc.equal(rows["split"], "validation"), pc.is_in(rows["key"], value_set=pa.array(named, pa.string()))
    )
    frame = frames.of_rows(rows.filter(wanted))
    frame["line"] = frame["key"].map(named).astype("category")
    curves: dict[str, dict[float, float]] = {}
    accuracies = frame["accuracy"].to_numpy()
    for (row, scaling), places in frames.places(frame, "line", "scaling").items():
        curve = curves.setdefault(row, {})
        if len(places) == len(by_name[row].tasks) * len(by_name[row].seeds):
            curve[scaling] = float(accuracies[places].mean())
    return curves


def _lines(
    rows: pd.DataFrame, tasks: tuple[str, ...], control: str, tags: Mapping[str, list[str]], cells: Cells
) -> list[Line]:
    """Lines of one kind: a group of rows each, as arrays over seeds and tasks."""
    if rows.empty:
        return []
    negation = rows["kind"].iloc[0] == "negation"
    rows = rows.assign(recipe=rows["key"].astype(object).map(tags), target=rows["tasks" if negation else "task"])
    rows = rows.explode("recipe", ignore_index=True)
    rows["line"] = rows.groupby([*IDENTITY, "recipe"], observed=True).ngroup()
    beside = (rows["task"] == control) & rows["kind"].isin(("negation", "zeroshot"))
    own = _once(rows[rows["task"].isin(tasks) & ~beside])
    images = own.groupby("task", observed=True)["total"].max()
    wide: Any = own.set_index(["line", "seed", "target"])[["accuracy", "scaling", "bits"]].unstack("target")
    rates, scaling, bits = (wide[value].reindex(columns=tasks).to_numpy() for value in ("accuracy", "scaling", "bits"))
    identities: Any = rows.drop_duplicates("line").set_index("line")[[*IDENTITY, "recipe", "key"]].to_dict("index")
    controls = frames.groups(rows[beside], "line")
    lines: dict[int, Line] = {}
    for number, places in frames.places(wide, "line").items():
        version = cells[identities[number].pop("key")].identity.get("version", 1)
        lines[number] = Line(
            **identities[number],
            version=version,
            tasks=tasks,
            seeds=tuple(map(int, wide.index[places].get_level_values("seed"))),
            rates=rates[places],
            scaling=scaling[places],
            bits=bits[places],
            images=tuple(int(images.get(task, 0)) for task in tasks),
            control=controls.get(number, rows[:0]),
        )
    for number, seed, key in rows[["line", "seed", "key"]].drop_duplicates().itertuples(index=False):
        if number in lines:
            lines[number].keys[seed].add(key)
    return list(lines.values())


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for every line, seed and target; BenchError where there are several with other counts."""
    where = ["line", "seed", "target"]
    unequal = rows.drop_duplicates([*where, "correct", "total"])
    for row in unequal[unequal.duplicated(where)].to_dict("records"):
        raise BenchError(
            f"{row['kind']} {row['finetuning']}/{row['operator']} on {row['task']}, seed {row['seed']}, was measured "
            f"twice with other numbers, last by {row['key']}; delete the wrong record"
        )
    return rows.drop_duplicates(where, keep="last")


def _tags(keys: Iterable[str], cells: Cells) -> dict[str, list[str]]:
    """{key: tags}: hex digits of a lineage without its seeds, so that one tag is one way of getting results.

    An expert has the tags of the sets of experts it was merged in, because recipes may differ between the tasks of
    one set.
    """
    text: dict[str, str] = {}

    def tag(*of: str) -> str:
        for key in of:
            if key not in text:
                identity = cells[key].identity
                one_line = () if identity.get("kind") in EXPERTS else ("task", "card")  # one gathers all targets
                text[key] = frames.without(identity, "seed", "experts", *one_line)
        return frames.tag(text[key] for key in of)[:16]

    merges = [key for key in keys if cells[key].identity.get("kind") == "addition"]
    tags = {key: [tag(key, *cells[key].needs)] for key in merges}
    sets: dict[str, set[str]] = {}
    for experts in {tuple(cells[key].needs) for key in merges}:
        for expert in experts:
            sets.setdefault(expert, set()).add(tag(*experts))
    for key in keys:
        of_set = sorted({t for k in (key, *cells[key].needs) for t in sets.get(k, ())}) or [""]
        own = "" if cells[key].identity.get("kind") in EXPERTS else tag(key)
        tags.setdefault(key, [own + t for t in of_set])
    return tags
