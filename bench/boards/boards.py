"""The one model behind every rendering: boards of rows with rounded numbers.

Markdown, CSV, LaTeX, HTML and `--json` all print from these rows, so their values cannot differ. Accuracies are in
percent with two decimals. Boards are never mixed: a rank is a place among rows that were allowed to see the same.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bench.boards import extras
from bench.ground.metrics import COMMON_REFERENCE
from bench.tables import collect, frames, stats, subsets
from bench.tables.collect import Lines
from bench.tables.disentanglement import disentanglement
from bench.tables.line import Line, difference
from bench.work.coefficients import WHOLE, sweep_of

Entry = dict[str, Any]

BOARDS = ("data-free", "validation-tuned", "calibration", "unlabelled-test", "task-id")
"""Order of the boards, from the least seen to the most."""

_TAG = re.compile(r"\[[0-9a-f]{4,}\]$")
"""What `bench.tables.line.name` adds where only the recipes of two rows differ."""

WHY_TWO = (
    "Normalised accuracy divides by the accuracy of a row's own experts and therefore rises when these experts get "
    "worse; the common reference divides every row by the plain `nonlinear` experts of the same seed, so both stand "
    "side by side and rows are ranked by absolute accuracy."
)

POSTHOC = (
    "Ordinary experts, merged and evaluated as tangent models that they were not trained as; normalised (own) divides "
    "by these experts linearised alone, normalised (common) by the plain `nonlinear` experts as they are."
)


def build(rows: pa.Table, cells: pa.Table, suite: str | None = None) -> dict[str, Any]:
    """Everything a leaderboard shows about one suite, as plain values.

    Keys: suite, tasks, control, boards (each with board, backbone, rows), references, negation, posthoc, effects,
    curves, subsets, geometry, disentanglement, strengths, notes, sources, explanation.
    """
    lines = collect.collect(rows, cells, suite)
    by_board: dict[tuple[str, str], list[Line]] = defaultdict(list)
    unable = {kind: [line for line in lines.inapplicable if line.kind == kind] for kind in ("addition", "posthoc")}
    for line in lines.addition + unable["addition"]:
        by_board[line.backbone, line.board].append(line)
    boards = [
        {"backbone": backbone, "board": board, "title": _title(board, backbone, lines), "rows": _rank(lines, members)}
        for (backbone, board), members in sorted(
            by_board.items(), key=lambda kv: (kv[0][0], _place(kv[0][1]), kv[0][1])
        )
    ]
    return {
        "suite": lines.suite,
        "tasks": list(lines.tasks),
        "control": lines.control,
        "boards": boards,
        "references": [_entry(lines, line, e) for line, e in _measured(lines, lines.zeroshot + lines.experts)],
        "negation": _negation(lines),
        "posthoc": _posthoc(lines, lines.posthoc + unable["posthoc"]),
        "effects": extras.effects(lines),
        "curves": extras.curves(rows, lines),
        "subsets": subsets.subsets(rows, lines),
        "geometry": extras.geometry(lines),
        "disentanglement": [e for e in disentanglement(lines.cells) if e["suite"] == lines.suite],
        "strengths": extras.strengths(rows, lines),
        "notes": _notes(lines, boards),
        "sources": _sources(lines),
        "explanation": WHY_TWO,
    }


def _rank(lines: Lines, members: Sequence[Line], best: int = 1) -> list[Entry]:
    """Rows of one board: complete ones ranked by accuracy with tie groups, then the incomplete ones by name, then those
    that do not exist because the operator cannot take the experts. `best=-1`: the lowest accuracy comes first.
    """
    complete = sorted((x for x in members if x.complete), key=lambda x: (-best * (x.accuracy or 0.0), x.name))
    measured = _measured(lines, complete)
    entries = [_entry(lines, line, estimate) for line, estimate in measured]
    if complete:
        to_first = lines.differences([(line, complete[0]) for line in complete[1:]])
        differences = {i: d for i, d in enumerate(to_first, 1) if d is not None}
        adjusted = dict(zip(differences, stats.holm([d.p for d in differences.values()]), strict=True))
        groups = _groups(lines, complete, best)
        for i, entry in enumerate(entries):
            entry["rank"], entry["group"] = i + 1, groups[i]
            if i in differences:
                d = differences[i]
                entry["difference"] = frames.percent(d.value)
                entry["difference_low"], entry["difference_high"] = frames.percent(d.low), frames.percent(d.high)
                entry["p"] = round(adjusted[i], 4)
    rest = sorted((x for x in members if not x.complete), key=lambda x: (x.reason != "", x.name))
    return entries + [_entry(lines, line, None) for line in rest]


def _groups(lines: Lines, complete: Sequence[Line], best: int) -> list[int]:
    def p_of(leader: int, others: Sequence[int]) -> list[float]:
        first, values = complete[leader], []
        for found in (difference(first, complete[i]) for i in others):
            prior = found and lines.seed_prior(first, found[1], paired=True)
            values.append(stats.p_value(found[0], prior) if found else 1.0)
        return values

    return stats.tie_groups([best * (line.accuracy or 0.0) for line in complete], p_of)


def _measured(lines: Lines, rows: Sequence[Line]) -> list[tuple[Line, stats.Estimate | None]]:
    """Lines with the interval of their accuracy; lines without bits have none."""
    outcomes = {id(line): o for line in rows if (o := line.outcome()) is not None}
    priors = [lines.seed_prior(line, line.seeds, paired=False) for line in rows if id(line) in outcomes]
    estimates = dict(zip(outcomes, stats.estimates(list(outcomes.values()), priors=priors), strict=True))
    return [(line, estimates.get(id(line))) for line in rows]


def _entry(lines: Lines, line: Line, estimate: stats.Estimate | None) -> Entry:
    return {
        "rank": None,
        "group": None,
        "name": line.name,
        "finetuning": line.finetuning,
        "operator": line.operator,
        "options": line.options,
        "board": line.board,
        "protocol": line.protocol,
        "backbone": line.backbone,
        "accuracy": frames.percent(line.accuracy),
        "low": frames.percent(estimate.low) if estimate else None,
        "high": frames.percent(estimate.high) if estimate else None,
        "normalised": frames.percent(lines.normalised(line)),
        "normalised_common": frames.percent(lines.normalised(line, COMMON_REFERENCE)),
        "difference": None,
        "difference_low": None,
        "difference_high": None,
        "p": None,
        "complete": "n/a" if line.reason else f"{line.measured}/{len(line.tasks)}",
        "reason": line.reason,
        "seeds": [s for s in (sorted(line.keys) if line.reason else line.seeds) if s >= 0],
        "scaling": _scaling(line),
        "by_task": {task: frames.percent(line.task_accuracy(task)) for task in line.tasks},
        "by_task_interval": {task: _wilson(line, task) for task in line.tasks},
        "by_seed": {
            str(seed): frames.percent(float(of_seed.mean()))
            for seed, of_seed in zip(line.seeds, line.rates, strict=True)
            if line.complete
        },
        "seconds": _seconds(lines.seconds(line)),
        "expert_seconds": _seconds(lines.seconds_of_experts(line)),
        "keys": sorted(key for keys in line.keys.values() for key in keys),
        "experts": sorted({k for keys in line.keys.values() for key in keys for k in lines.cells[key].needs}),
        "where": _where(lines, line),
        "command": _command(lines, line),
    }


def _negation(lines: Lines) -> list[Entry]:
    """One row per fine-tuning method: target accuracy, by which rows of one backbone are ranked, the lowest first, and
    control accuracy, means over targets and seeds. Interval, group, difference and p are the target's; the control's
    interval is Wilson's over its images, which every target and seed shares.
    """
    pretrained = {line.backbone: line for line in lines.zeroshot}
    named = {(line.backbone, line.name): line for line in lines.negation}
    ranked = [
        _rank(lines, [x for x in lines.negation if x.backbone == b], best=-1) for b in sorted({b for b, _ in named})
    ]
    entries = []
    for entry in itertools.chain(*ranked):
        line, zero = named[entry["backbone"], entry["name"]], pretrained.get(entry["backbone"])
        control = line.control["accuracy"]
        whole = line.complete and len(control) == len(line.tasks) * len(line.seeds)
        images = int(line.control["total"].max()) if whole else 0
        low, high = stats.wilson(float(np.mean(control)) * images, images) if whole else (None, None)
        entry |= {
            "target": frames.percent(line.accuracy),
            "control": frames.percent(float(np.mean(control))) if whole else None,
            "control_low": frames.percent(low),
            "control_high": frames.percent(high),
            "control_zero_shot": next(map(frames.percent, zero.control["accuracy"]), None) if zero else None,
            "target_zero_shot": frames.percent(zero.accuracy) if zero else None,
        }
        entries.append(entry)
    return entries


def _posthoc(lines: Lines, merges: Sequence[Line]) -> list[Entry]:
    """Rows of post-hoc linearisation, each beside the accuracy of the same merge as it is."""

    def same(key: str) -> str:
        return frames.without(lines.cells[key].identity, "kind")

    plain = {same(key): line for line in lines.addition for keys in line.keys.values() for key in keys}
    entries = []
    for line, estimate in _measured(lines, merges):
        twins = {id(t): t for keys in line.keys.values() for key in keys if (t := plain.get(same(key))) is not None}
        (twin,) = twins.values() if len(twins) == 1 else (None,)
        entries.append(_entry(lines, line, estimate) | {"as_it_is": frames.percent(twin.accuracy) if twin else None})
    return entries


def _notes(lines: Lines, boards: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    incomplete = sum(row["rank"] is None and not row["reason"] for board in boards for row in board["rows"])
    if incomplete:
        notes.append(
            f"{incomplete} incomplete rows lack results of some tasks; they are shown, neither averaged nor ranked."
        )
    if lines.others:
        notes.append(f"{lines.others} further results merge fewer tasks; they are not rows of this table.")
    counts = sorted({len(row["seeds"]) for board in boards for row in board["rows"] if not row["reason"]})
    if len(counts) > 1:
        notes.append(
            f"Rows have {counts[0]} to {counts[-1]} seeds; differences are taken on the seeds that both rows have."
        )
    if counts and 0 < counts[0] < stats.OUTER_SEEDS:
        notes.append(
            f"Where fewer than {stats.OUTER_SEEDS} seeds were run, intervals and p-values speak of these very models: "
            "the variance between seeds is not in them."
        )
    if any(_TAG.search(line.name) for line in lines.addition + lines.experts):
        notes.append(
            "Rows whose names end in hex digits have experts of other recipes, as `bench search` leaves them; of "
            f"several recipes of the plain `{COMMON_REFERENCE}` experts none is the common reference."
        )
    if not lines.addition:
        notes.append("No merged models have been measured yet.")
    return notes


def _sources(lines: Lines) -> list[str]:
    """Machines, devices, versions and commits the results came from, as their provenance says."""
    return _machines(cell.provenance for cell in lines.cells.values())


def _where(lines: Lines, line: Line) -> str:
    """The same for one line."""
    keys = {key for keys in line.keys.values() for key in keys}
    return "; ".join(_machines(lines.cells[key].provenance for key in keys))


def _machines(provenances: Iterable[Mapping[str, Any]]) -> list[str]:
    commits: dict[str, set[str]] = defaultdict(set)
    for noted in provenances:
        parts = [str(noted[n]) for n in ("host", "machine", "device") if noted.get(n)]
        where = ", ".join(parts + [f"{n} {noted[n]}" for n in ("bench", "torch", "python") if noted.get(n)])
        commits[where].add(str(noted.get("commit", "")))
    machines = []
    for where in sorted(set(commits) - {""}):
        named = sorted(commits[where] - {""})
        machines.append(f"{where}, commit{'s' * (len(named) > 1)} {' '.join(named)}" if named else where)
    return machines


def _title(board: str, backbone: str, lines: Lines) -> str:
    several = len({line.backbone for line in lines.addition}) > 1
    return f"{board}, {backbone}" if several else board


def _place(board: str) -> int:
    return BOARDS.index(board) if board in BOARDS else len(BOARDS)


def _wilson(line: Line, task: str) -> list[float | None] | None:
    """Wilson interval of one task's accuracy: its images count once, however many seeds saw them."""
    rate = line.task_accuracy(task)
    if rate is None:
        return None
    total = line.images[line.tasks.index(task)]
    return [frames.percent(v) for v in stats.wilson(rate * total, total)]


def _scaling(line: Line) -> str:
    """The chosen coefficients: one number, or a range over seeds (and targets)."""
    chosen = sorted({round(float(s), 6) for s in line.scaling.flat if s == s})
    if not chosen:
        return ""
    return f"{chosen[0]:g}" if len(chosen) == 1 else f"{chosen[0]:g}–{chosen[-1]:g}"


def _command(lines: Lines, line: Line) -> str:
    """The command that measures the row again; empty where no grid does."""
    if line.kind != "addition":
        return ""
    seeds = max(line.keys, default=0) + 1
    chosen = f"--methods {line.finetuning} --operators {line.operator} --seeds {seeds}"
    return f"bench run --grid all --suite {lines.suite} {chosen}" + (
        f" --sweep {WHOLE}" if sweep_of(line.protocol) == WHOLE else ""
    )


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
