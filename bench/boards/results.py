"""`bench.results`: everything that was measured, as pandas DataFrames."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.boards import boards, columns
from bench.errors import UnknownName
from bench.ground import names
from bench.store import results as stored
from bench.store.records import Cells, Record, unpack_bits
from bench.store.store import Store
from bench.tables import collect, frames

Dtypes = Mapping[str, str]

ROWS: Dtypes = {
    **dict.fromkeys(("key", "kind", "suite", "backbone", "finetuning", "method", "regularizer"), "category"),
    **dict.fromkeys(("operator", "options", "board", "protocol", "tasks", "task", "split"), "category"),
    "seed": "int32",
    "scaling": "float64",
    "selected": "bool",
    "correct": "int32",
    "total": "int32",
    "accuracy": "float64",
}
CELLS: Dtypes = {
    **dict.fromkeys(("kind", "suite", "backbone", "finetuning", "method", "regularizer", "family"), "category"),
    **dict.fromkeys(("operator", "options", "board", "tasks"), "category"),
    "seed": "Int32",
    "version": "Int64",
    "lr": "float64",
    "steps": "Int64",
    "batch_size": "Int64",
    "strength": "float64",
    "seconds": "float64",
    "cpu_seconds": "float64",
    "peak_rss_mb": "float64",
    **dict.fromkeys(("device", "machine", "host", "commit", "reason"), "category"),
}
IMAGES: Dtypes = {
    **dict.fromkeys(("key", "name", "task"), "category"),
    "seed": "int32",
    "index": "int32",
    "correct": "bool",
}
EFFECTS: Dtypes = {
    **dict.fromkeys(("backbone", "regularizer", "method", "operator"), "category"),
    **dict.fromkeys(("difference", "low", "high", "p"), "float64"),
    "significant": "bool",
}
LEADERBOARD: Dtypes = {
    **{column.key: "float64" for column in columns.of(columns.BOARD, "csv")},
    **dict.fromkeys(("board", "backbone", "finetuning", "operator", "options", "protocol", "complete"), "category"),
    "rank": "Int64",
    "group": "Int64",
    **dict.fromkeys(("name", "seeds", "scaling", "reason"), "object"),
}
"""dtypes of the columns, in the order of the CSV, to which the accuracy of each task is added."""


class Results:
    """What a store or a results folder holds. Every DataFrame is made when it is asked for, once.

    Text columns are categories in the order of the alphabet; `""` means that there is nothing to say.

    `rows`, a row for each cell, task, split and scaling coefficient:
        key          the cell that measured it; kind: zeroshot, expert, addition, negation, ...
        suite, backbone, finetuning (`att+orthoreg`) and its parts method (`att`) and regularizer (`orthoreg`)
        operator     with modifiers and spaces; options: JSON; board; protocol: how the coefficient was chosen
        tasks, task  all tasks that were merged, joined by `+`; the one that this row is about
        split        validation or test; seed: -1 where nothing is random
        scaling      the coefficient; selected: whether validation chose it
        correct      images classified correctly, of total; accuracy: their ratio, in [0, 1]
    `cells`, a row for each cell, by key:
        the same names; family of published experts; tasks, of an expert its own; seed, missing where there is none
        version      of the method and the operator
        lr, steps, batch_size, strength: of an expert's recipe (strength also of a point of the grid `strength`)
        seconds, cpu_seconds: wall and CPU time; peak_rss_mb: memory; device, machine, host, commit: where it ran
        reason       why an operator could not take these experts
    `images`, a row for each test image of each evaluated model (`images_of`: of some of them):
        key; name of the row on the leaderboard (`att/ties`); task; seed
        index        place of the image in the test split of its task; correct: whether it was classified correctly
    `leaderboard()`, a row for each row of the boards, and the references; numbers as in table.csv:
        board, backbone, rank and group on it; name, finetuning, operator, options, protocol
        accuracy     percent, mean over tasks and seeds, with low and high, the ends of its 95 % interval
        normalised, normalised_common: percent of the own and of the plain `nonlinear` experts
        difference   points to the first row, with difference_low and difference_high; p: adjusted by Holm
        complete     measured tasks, `8/8`; seeds, joined by `+`; scaling, one or `0.3–0.5`; reason: if not applicable
        accuracy:TASK    percent
    `effects()`, a row for each operator and method that was measured with and without a regulariser:
        backbone, regularizer, method, operator
        difference   points: accuracy with minus without, with low and high, the ends of its 95 % interval
        p            adjusted by Holm over the backbone's differences; significant: p < 0.05
    """

    def __init__(self, rows: pa.Table, cells: pa.Table, suite: str | None = None) -> None:
        """Tables as `bench.store.results.load` gives them; `suite` is only needed where there are several."""
        self._rows, self._cells, self._suite = rows, cells, suite

    def __repr__(self) -> str:
        suites = ", ".join(stored.suites_in(self._rows)) or "nothing"
        return f"Results({suites}: {len(self._cells):,} cells, {len(self._rows):,} rows)"

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a cell, task, split and coefficient; see the class for the columns."""
        frame = frames.of_rows(self._rows)
        parsed = {name: names.finetuning(name) for name in frame["finetuning"].cat.categories}
        frame["method"] = frame["finetuning"].map({name: parsed[name].method for name in parsed})
        frame["regularizer"] = frame["finetuning"].map({name: parsed[name].regularizer for name in parsed})
        return frame[list(ROWS)].astype(ROWS)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell, by its key; see the class for the columns."""
        lines = {key: _line(cell) for key, cell in Cells(self._cells).items()}
        frame = pd.DataFrame.from_dict(lines, orient="index", columns=list(CELLS))
        texts = [name for name, dtype in CELLS.items() if dtype == "category"]
        return frame.fillna(dict.fromkeys(texts, "")).astype(CELLS).rename_axis("key")

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a test image of every model, 14 bytes each; see the class for the columns."""
        return self.images_of()

    def images_of(self, *which: str) -> pd.DataFrame:
        """The same of some rows, by name (`att/ties`, `zero-shot`, `att/expert`) or by a cell's key; of all by default.

        Raises UnknownName with the nearest one.
        """
        rows = self.rows.assign(name=self.rows["key"].map(self._names))
        rows = rows.loc[(rows["split"] == "test") & rows["selected"]]
        if unknown := sorted({*which} - {*rows["name"]} - {*rows["key"]}):
            raise UnknownName("row or cell", unknown[0], {*rows["name"].dropna()})
        if which:
            rows = rows[rows["name"].isin(which) | rows["key"].isin(which)]
        bits = self._rows["bits"].take(pa.array(rows.index)).to_pylist()
        rows = rows[[len(of_row) > 0 for of_row in bits]]
        right = [unpack_bits(b, n) for b, n in zip(filter(None, bits), rows["total"], strict=True)]
        index = np.concatenate([np.arange(len(of_row), dtype=np.int32) for of_row in [*right, []]])
        every = rows.loc[rows.index.repeat(rows["total"]), ["key", "name", "task", "seed"]].reset_index(drop=True)
        return every.assign(index=index, correct=np.concatenate([*right, np.empty(0, bool)])).astype(IMAGES)

    def leaderboard(self, board: str | None = None) -> pd.DataFrame:
        """Rows of every board and the references, or of one board; see the class for the columns."""
        page = self._page
        known = [*dict.fromkeys(b["board"] for b in page["boards"]), "reference"]
        if board is not None and board not in known:
            raise UnknownName("board", board, known)
        every = [row for b in page["boards"] for row in b["rows"]] + page["references"]
        plain = columns.of(columns.BOARD, "csv")
        lines = [
            {column.key: column.plain(row) for column in plain}
            | {f"accuracy:{task}": row["by_task"][task] for task in page["tasks"]}
            for row in every
            if board in (None, row["board"])
        ]
        dtypes = {**LEADERBOARD} | {f"accuracy:{task}": "float64" for task in page["tasks"]}
        return pd.DataFrame(lines, columns=list(dtypes)).astype(dtypes)

    def effects(self, regularizer: str = "orthoreg") -> pd.DataFrame:
        """What a regulariser adds, by method and operator; see the class for the columns."""
        maps = {effect["regulariser"]: effect for effect in self._page["effects"]}
        if maps and regularizer not in maps:
            raise UnknownName("regulariser", regularizer, maps)
        lines = [
            {"backbone": effect["backbone"], "regularizer": regularizer, **cell}
            for effect in self._page["effects"]
            if effect["regulariser"] == regularizer
            for cell in effect["cells"]
        ]
        return pd.DataFrame(lines, columns=list(EFFECTS)).astype(EFFECTS)

    @cached_property
    def _page(self) -> dict[str, Any]:
        return boards.build(self._rows, self._cells, self._suite)

    @cached_property
    def _names(self) -> dict[str, str]:
        lines = collect.collect(self._rows, self._cells, self._suite)
        every = (*lines.addition, *lines.posthoc, *lines.negation, *lines.experts, *lines.zeroshot)
        return {key: line.name for line in every for keys in line.keys.values() for key in keys}


def load(source: Store | str | Path, suite: str | None = None) -> Results:
    """The results of a store, a store's path or URL, a results folder, or a folder of several suites' results.

    Raises StoreError when there is nothing or a file is damaged, BenchError when there are several suites.
    """
    return Results(*stored.load(source, suite), suite)


def _line(cell: Record) -> dict[str, Any]:
    """One row of `Results.cells`."""
    own = {**cell.identity.get("recipe", {}), **cell.identity, **cell.provenance}
    if "method" in own:
        trained = names.Finetuning(own["method"], own.get("regularizer", ""), own.get("family", ""))
    else:
        trained = names.finetuning(own.get("finetuning", ""))
    parts = {"finetuning": str(trained), "method": trained.method, "regularizer": trained.regularizer}
    reason = cell.metrics.get("not_applicable", "")
    return {
        **own,
        **parts,
        "family": trained.family,
        "tasks": names.join_tasks(cell.tasks),
        "reason": reason,
        "seconds": cell.seconds,
    }
