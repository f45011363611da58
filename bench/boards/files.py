"""`bench leaderboard build | check | diff | export`: a leaderboard is a function of the Parquet files, and nothing
else.

OUT/README.md                      tables of every suite
OUT/SUITE/results.parquet          the data: rows with counts and bits
OUT/SUITE/cells.parquet            the data: identity, metrics and provenance of every cell
OUT/SUITE/table.csv table.tex ...  rendered from the two
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.boards import boards, html, latex, pictures, plots, spreadsheet, text
from bench.errors import BenchError, UnknownName
from bench.store import results
from bench.store.store import Store

SUITE = re.compile(r"\w[\w.-]*")
"""What may become a folder's name: it comes from rows that somebody else may have written."""
PICTURES = ("accuracy.svg", "accuracy.png", "effect.svg", "subsets.svg", "lambda.svg")
Page = Mapping[str, Any]
Marked = str | Path | Sequence[str | Path] | None
"""Pages outside the leaderboards that show some of them between markers: the project's README, docs/results.md."""

_FILES: dict[str, Callable[[Page], str]] = {
    "table.csv": spreadsheet.table,
    "table.tex": latex.table,
    "numbers.tex": latex.numbers,
    "references.bib": latex.references,
    "index.html": html.page,
}
"""Rendered text files of a suite."""

_VIEWS: dict[str, tuple[str, Callable[[Page], str]]] = {
    "effect": ("effects", spreadsheet.effect),
    "subsets": ("subsets", spreadsheet.subsets),
    "lambda": ("strengths", spreadsheet.strengths),
}
"""Views with a CSV and a picture of their own, and the part of the page that they need results in."""


def build(source: Store | str | Path | None, suite: str | None, out: str | Path, readme: Marked = None) -> list[Path]:
    """Write leaderboards from a store (or results folder) to `out`; `source=None` renders what is already there again.

    One suite, or every suite of the source. `readme` names pages such as the project's README, whose sections between
    markers (`text.sections`) are replaced. Returns the files written. Raises BenchError when there are no results or
    such a page has no markers.
    """
    out = Path(out)
    if out.is_file():
        raise BenchError(f"{out} is a file; name a folder for the leaderboards")
    written: list[Path] = []
    if source is not None:
        rows, cells = results.load(source, suite)
        names = results.suites_in(rows)
        if not names:
            raise BenchError(
                f"no results{f' of suite {suite}' if suite else ''} in {_where(source)}; run `bench run` first"
            )
        for name in names:
            if not SUITE.fullmatch(name):
                raise BenchError(f"suite {name!r} in {_where(source)} cannot name a folder; correct the record")
            written += results.write(out / name, *results.of_suite(rows, cells, name))
    elif suite is not None and suite not in suites(out):
        raise UnknownName("suite with results", suite, suites(out))
    chosen = [suite] if suite else suites(out)
    pages = [_page(out, name) for name in suites(out)]
    for page in pages:
        if page["suite"] in chosen:
            written += _render(page, out / page["suite"])
    written.append(_put(out / "README.md", text.readme(pages)))
    return written + [_put(path, _marked(path, pages, out)) for path in _paths(readme)]


def check(out: str | Path, readme: Marked = None) -> list[str]:
    """What in `out` does not follow from its Parquet files, one line each; an empty list means everything does."""
    out = Path(out)
    if not suites(out):
        raise BenchError(f"no results under {out}; run `bench leaderboard build` first")
    problems = [f"{name}: {line}" for name in suites(out) for line in results.validate(out / name)]
    if problems:
        return problems
    pages = [_page(out, name) for name in suites(out)]
    with tempfile.TemporaryDirectory() as scratch:
        for page in pages:
            name = page["suite"]
            fresh = _render(page, Path(scratch) / name)
            problems += [line for f in fresh for line in _compare(out / name / f.name, f, f"{name}/{f.name}")]
            for view, (part, _) in _VIEWS.items():
                if not page[part]:
                    left = [p.name for p in (out / name / f"{view}.csv", out / name / f"{view}.svg") if p.exists()]
                    problems += [f"{name}/{file} has no results behind it" for file in left]
        problems += _compare(out / "README.md", _put(Path(scratch) / "README.md", text.readme(pages)), "README.md")
        for path in _paths(readme):
            expected = _put(Path(scratch) / "marked.md", _marked(path, pages, out))
            problems += _compare(path, expected, path.name)
    return problems


def diff(before: str | Path, after: str | Path, suite: str | None = None) -> list[dict[str, Any]]:
    """Rows whose accuracy or rank differs between two results, one dict each: name, board, before, after, change in
    points.
    """
    old, new = (
        {(r["backbone"], r["board"], r["name"]): r for b in table(s, suite)["boards"] for r in b["rows"]}
        for s in (before, after)
    )
    found = []
    for where in sorted(set(old) | set(new)):
        a, b = old.get(where), new.get(where)
        values = [r and {k: r[k] for k in ("accuracy", "rank", "complete")} for r in (a, b)]
        if values[0] != values[1]:
            both = a and b and a["accuracy"] is not None and b["accuracy"] is not None
            change = round(b["accuracy"] - a["accuracy"], 2) if a and b and both else None
            found.append(
                {
                    "name": where[2],
                    "board": where[1],
                    "backbone": where[0],
                    "before": values[0],
                    "after": values[1],
                    "change": change,
                }
            )
    return found


def table(source: Store | str | Path, suite: str | None = None) -> dict[str, Any]:
    """The boards as plain values: what `--json` prints."""
    return boards.build(*results.load(source, suite), suite)


def export(source: Store | str | Path, suite: str | None, form: str) -> str:
    """One suite's leaderboard as text: md, csv, tex, html or json."""
    known: dict[str, Callable[[Page], str]] = {
        "md": lambda page: "\n\n".join(text.suite(page)) + "\n",
        "csv": spreadsheet.table,
        "tex": latex.table,
        "html": html.page,
        "json": lambda page: json.dumps(page, indent=1, ensure_ascii=False) + "\n",
    }
    if form not in known:
        raise UnknownName("export format", form, known)
    return known[form](table(source, suite))


def plot(source: Store | str | Path, suite: str | None, what: str, path: str | Path) -> Path:
    """Draw one view (`plots.names()`) of a suite to an SVG, PDF or PNG file."""
    return plots.draw(table(source, suite), what, Path(path))


def suites(out: Path) -> list[str]:
    """Suites that have results under `out`."""
    return sorted(p.parent.name for p in out.glob(f"*/{results.ROWS_FILE}"))


def _page(out: Path, name: str) -> dict[str, Any]:
    return boards.build(*results.load(out / name), name)


def _render(page: Page, folder: Path) -> list[Path]:
    """Write the files of one suite. Files of a view that has no results are removed: they would show old ones."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_put(folder / name, make(page)) for name, make in _FILES.items()]
    written += pictures.accuracy(page, folder)
    for view, (part, make) in _VIEWS.items():
        table, picture = folder / f"{view}.csv", folder / f"{view}.svg"
        if page[part]:
            written += [_put(table, make(page)), plots.draw(page, view, picture)]
        else:
            table.unlink(missing_ok=True)
            picture.unlink(missing_ok=True)
    return written


def _put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def _paths(readme: Marked) -> list[Path]:
    return [Path(path) for path in ([readme] if isinstance(readme, str | Path) else readme or ())]


def _marked(page: Path, pages: list[dict[str, Any]], out: Path) -> str:
    if not page.exists():
        raise BenchError(f"{page} does not exist; name a page with markers, such as the project's README")
    folder = Path(os.path.relpath(out.resolve(), page.resolve().parent)).as_posix()
    changed = text.marked(page.read_text(encoding="utf-8"), text.sections(pages, folder))
    if changed is None:
        begin, end = text.markers()
        raise BenchError(f"{page} lacks the markers {begin} and {end}; put them where the table belongs")
    return changed


def _compare(committed: Path, fresh: Path, shown: str) -> list[str]:
    if not committed.exists():
        return [f"{shown} is missing"]
    old, new = committed.read_bytes(), fresh.read_bytes()
    same_picture = fresh.name in PICTURES and pictures.digest_in(old) == pictures.digest_in(new) != ""
    if old == new or same_picture:
        return []
    if fresh.name in PICTURES:
        return [f"{shown} shows other numbers than the Parquet files"]
    pairs = zip(old.decode(errors="replace").splitlines(), new.decode(errors="replace").splitlines(), strict=False)
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), "the end")
    return [f"{shown} does not follow from the Parquet files, first at line {line}"]


def _where(source: Store | str | Path) -> str:
    return source.url if isinstance(source, Store) else str(source)
