"""What coarse-to-fine sweeps would have chosen where the whole curves are known, and what that loses on validation.

    python -m benchmarks.coefficients SOURCE [--suite mini8]         seconds, no model; prints JSON

SOURCE is a store, or leaderboards, with whole sweeps (`bench run --sweep whole`). Every merge's stored curve is swept
again by `bench.work.coefficients.search`. `same`: the share that chooses the same coefficient. `lost_mean` and
`lost_most`: by how many points of mean normalised validation accuracy the choice is worse. `looked`: the share of
coefficients that were looked at, without 0, where the pretrained model's answers are known. `worst`: the merges that
lose most.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow as pa

from bench.errors import BenchError
from bench.ground.metrics import accuracy, best_scaling, normalised_accuracy
from bench.kinds import from_identity
from bench.kinds.addition import Addition
from bench.store import results
from bench.work.coefficients import COARSE, WHOLE, search

Curve = dict[float, dict[str, float]]
"""{coefficient: {task: validation accuracy}}"""


class Replayed(NamedTuple):
    """One sweep, whole and coarse to fine."""

    whole: float
    coarse: float
    lost: float
    looked: float


def replay(curve: Curve, reference: Mapping[str, float]) -> Replayed:
    """The choice of both sweeps on one curve, points lost by the coarse one, and the share of it that was looked at."""
    found, _ = search(
        COARSE, curve, lambda some, _: {c: curve[c] for c in some}, lambda found: best_scaling(found, reference)
    )
    whole, coarse = (best_scaling(points, reference) for points in (curve, found))
    value = {c: normalised_accuracy(curve[c], reference) for c in (whole, coarse)}
    return Replayed(whole, coarse, 100 * (value[whole] - value[coarse]), len({*found} - {0}) / len({*curve} - {0}))


def curves(rows: pa.Table, cells: pa.Table) -> dict[Addition, tuple[Curve, dict[str, float]]]:
    """The stored curve of every merge whose sweep was whole, with its experts' validation accuracy by task."""
    points: dict[str, Curve] = defaultdict(lambda: defaultdict(dict))
    for row in rows.select(["key", "split", "scaling", "task", "correct", "total"]).to_pylist():
        if row["split"] == "validation":
            points[row["key"]][row["scaling"]][row["task"]] = accuracy(row["correct"], row["total"])
    found = {}
    for key, identity in zip(cells["key"].to_pylist(), cells["identity"].to_pylist(), strict=True):
        cell = from_identity(json.loads(identity), key)
        if type(cell) is Addition and cell.sweep == WHOLE and len(points.get(key, ())) > 1:
            experts = {task: points[e][1.0][task] for (task, _), e in zip(cell.tasks, cell.experts, strict=True)}
            found[cell] = dict(points[key]), experts
    return found


def measure(rows: pa.Table, cells: pa.Table) -> dict[str, Any]:
    """What is printed; see above."""
    replayed = {cell: replay(*known) for cell, known in curves(rows, cells).items()}
    if not replayed:
        raise BenchError("no whole sweep there; make some with `bench run --sweep whole`")
    worst = sorted(replayed, key=lambda cell: -replayed[cell].lost)[:5]
    each = replayed.values()
    return {
        "sweeps": len(replayed),
        "same": fmean(r.whole == r.coarse for r in each),
        "lost_mean": fmean(r.lost for r in each),
        "lost_most": max(r.lost for r in each),
        "looked": fmean(r.looked for r in each),
        "worst": {cell.label: replayed[cell]._asdict() for cell in worst if replayed[cell].lost},
    }


def main() -> None:
    """Read SOURCE and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--suite", default="mini8")
    given = parser.parse_args()
    try:
        print(json.dumps(measure(*results.load(given.source, given.suite)), indent=1))
    except BenchError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
