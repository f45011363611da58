"""Names that somebody else chose lead nowhere: not out of a folder, not into a page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from samples import Synthetic

from bench.boards import boards, files, html, svg
from bench.cards import datasets, suites
from bench.errors import BenchError
from bench.store import results
from bench.store.records import Record
from bench.store.store import Store

OUTSIDE = ("../../escape", "/etc/passwd", "a/../../b", "..", ".hidden", "", "a\\b", "a\0b")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_key_never_leaves_its_store(tmp_path: Path, name: str) -> None:
    """Keys are also read from inside records (`experts`), and become paths."""
    store = Store(tmp_path / "store")
    for use in (
        lambda: store.read(name),
        lambda: store.read_vector(name),
        lambda: store.read_failure(name),
        lambda: store.read_import(name),
        lambda: store.write(Record(name, {"kind": "expert"})),
        lambda: store.write_vector(name, b"data"),
        lambda: store.write_failure(name, {"error": "boom"}),
        lambda: store.write_import(name, {}),
    ):
        with pytest.raises(BenchError, match="cannot be a file of store"):
            use()
    assert [p.name for p in tmp_path.rglob("*")] == ["store", "bench-store.json"]


@pytest.mark.parametrize("suite", ["../../escape", "/tmp/escape", ".git", "a/b", "a\\b"])
def test_a_suite_never_becomes_a_path_outside_the_leaderboards(tmp_path: Path, suite: str) -> None:
    store = Synthetic(methods=("att",), operators=("ties",), seeds=(0,), suite=suite).fill(Store(tmp_path / "store"))
    with pytest.raises(BenchError, match="cannot name a folder"):
        files.build(store, None, tmp_path / "a" / "b" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


@pytest.mark.parametrize("name", ["../digits", "digits/../digits", "/etc/passwd", "..", ""])
def test_cards_suites_and_backbones_are_names_not_paths(name: str) -> None:
    for load in (datasets.load, suites.load, suites.backbone):
        with pytest.raises(BenchError, match=r"no (dataset|suite|backbone|open_clip architecture) named"):
            load(name)


@pytest.mark.parametrize(
    ("field", "value"),
    [("repo", "../.."), ("repo", "a/../b"), ("repo", "a/.."), ("config", ".."), ("train", "../train"), ("test", "/x"),
     ("validation", "../v"), ("files", "../{part}.parquet"), ("files", "/etc/*"), ("files", "a/../*.parquet")],
)  # fmt: skip
def test_a_card_names_no_path_outside_its_folder(field: str, value: str) -> None:
    good = {"kind": "hub", "repo": "owner/name"}
    datasets.Hub.model_validate(good)
    with pytest.raises(ValueError, match=field):
        datasets.Hub.model_validate(good | {field: value})


EVIL = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"


def test_every_outside_string_is_escaped_on_the_page(tmp_path: Path) -> None:
    """Names in rows, in identities, in metrics and in provenance: all of them hostile at once."""
    tasks = tuple(f"{EVIL}{i}" for i in range(2))
    sample = Synthetic(
        methods=(f"att{EVIL}", f"att{EVIL}+orthoreg"), operators=(f"ties{EVIL}",), seeds=(0, 1), negation=False,
        tasks=("apples", "birds"),
    )  # fmt: skip

    def poison(value):
        if isinstance(value, dict):
            return {k: poison(v) if k not in ("kind", "experts") else v for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v) for v in value]
        return value + EVIL if isinstance(value, str) else value

    for i, record in enumerate(sample.records):
        rows = []
        for row in record.rows:
            name = {"apples": tasks[0], "birds": tasks[1], "shapes": f"shapes{EVIL}"}
            joined = "+".join(name[t] for t in row["tasks"].split("+"))
            rows.append(
                {**row, "suite": EVIL, "backbone": EVIL, "board": f"{row['board']}{EVIL}", "protocol": EVIL,
                 "task": name[row["task"]], "tasks": joined, "options": json.dumps({EVIL: EVIL})}
            )  # fmt: skip
        sample.records[i] = replace(
            record, rows=tuple(rows), identity=poison(record.identity), provenance=poison(record.provenance)
        )
    sample.suite = EVIL
    rows, cells = sample.tables()
    results.check(rows, cells, "here")
    page = html.page(boards.build(rows, cells, EVIL))
    assert "<img" not in page
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script")
    assert page.count("&lt;img src=x") > 20, "the hostile names are shown, as text"


def test_every_string_of_a_chart_is_escaped() -> None:
    matrix = [[1.0, 0.5], [0.5, 1.0]]
    drawn = [
        svg.curves({EVIL: [(0.0, 1.0), (1.0, 2.0)]}, {EVIL: EVIL}, EVIL, EVIL),
        svg.scatter([(EVIL, 1.0, 2.0, EVIL, 0, True)], EVIL, EVIL, EVIL),
        svg.heat(matrix, [EVIL, EVIL], EVIL, 1.0),
        svg.square(matrix, [0.0, 1.0], EVIL, 1.0),
    ]
    for chart in drawn:
        assert chart
        assert "<img" not in chart
        assert "<script" not in chart
        assert "&lt;img" in chart
