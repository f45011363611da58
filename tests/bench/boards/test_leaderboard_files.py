"""Files: byte stability, check, and one value in every rendering."""

import csv
import io
import json
import re

import pyarrow.compute as pc
import pytest
from samples import OPERATORS, TASKS, Synthetic, without

from bench.boards import files, pictures, text
from bench.boards import files as leaderboard
from bench.errors import BenchError, StoreError, UnknownName
from bench.store import results
from bench.store.store import Store

README = "# project\n\n<!-- leaderboard:begin -->\nold\n<!-- leaderboard:end -->\n\nend\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store, leaderboards built from it, and a project README."""
    root = tmp_path_factory.mktemp("built")
    Synthetic().fill(Store(root / "store"))
    (root / "README.md").write_text(README, encoding="utf-8")
    leaderboard.build(root / "store", None, root / "leaderboards", root / "README.md")
    return root


def test_a_leaderboard_built_twice_is_byte_identical(built, tmp_path):
    again = leaderboard.build(built / "store", None, tmp_path / "leaderboards")
    assert len(again) == 12
    for path in again:
        assert path.read_bytes() == (built / path.relative_to(tmp_path)).read_bytes(), path.name
    for path in leaderboard.build(None, None, tmp_path / "leaderboards"):
        assert path.read_bytes() == (built / path.relative_to(tmp_path)).read_bytes(), path.name


def test_check_passes_on_what_build_wrote_and_names_what_was_touched(built):
    folder, readme = built / "leaderboards", built / "README.md"
    assert leaderboard.check(folder, readme) == []
    for name, said in (
        ("toy/table.csv", "toy/table.csv does not follow from the Parquet files, first at line 2"),
        ("README.md", "README.md does not follow"),
        ("toy/accuracy.png", "toy/accuracy.png shows other numbers"),
    ):
        path = folder / name
        before = path.read_bytes()
        changed = re.sub(rb"digest:.", b"digest:x", before) if name.endswith("png") else before.replace(b"9", b"8")
        path.write_bytes(changed)
        assert any(said in line for line in leaderboard.check(folder)), name
        path.unlink()
        assert f"{name} is missing" in leaderboard.check(folder)
        path.write_bytes(before)
    readme.write_text(readme.read_text(encoding="utf-8").replace("| 1 ", "| 9 "), encoding="utf-8")
    assert any(line.startswith("README.md does not follow") for line in leaderboard.check(folder, readme))
    leaderboard.build(None, None, folder, readme)
    assert leaderboard.check(folder, readme) == []


def test_a_picture_drawn_by_another_version_of_the_library_passes(built):
    path = built / "leaderboards" / "toy" / "accuracy.svg"
    before = path.read_bytes()
    path.write_bytes(before + b"<!-- other bytes, same numbers -->")
    assert leaderboard.check(built / "leaderboards") == []
    path.write_bytes(before)
    assert pictures.digest_in(before) == pictures.digest_in((path.parent / "accuracy.png").read_bytes()) != ""


def test_only_the_table_between_the_markers_changes(built):
    found = (built / "README.md").read_text(encoding="utf-8")
    assert found.startswith("# project\n\n<!-- leaderboard:begin -->\n")
    assert found.endswith("<!-- leaderboard:end -->\n\nend\n")
    assert "old" not in found
    assert "**toy, validation-tuned**, the first 5 of 12 rows:" in found
    assert len(re.findall(r"^\| \d ", found, re.M)) == 5
    assert "(leaderboards/README.md)" in found


def test_a_page_shows_the_sections_that_it_has_markers_for_and_links_from_where_it_lies(built, tmp_path):
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("<!-- effects:begin --><!-- effects:end -->\n<!-- extremes:begin --><!-- extremes:end -->\n")
    other = tmp_path / "README.md"
    other.write_text(README)
    results.write(tmp_path / "leaderboards" / "toy", *results.load(built / "store"))
    leaderboard.build(None, None, tmp_path / "leaderboards", [page, other])
    found = page.read_text(encoding="utf-8")
    assert "(../leaderboards/toy/effect.csv)" in found
    assert "leaderboard:begin" not in found
    assert leaderboard.check(tmp_path / "leaderboards", [page, other]) == []
    page.write_text(found.replace("better", "best"), encoding="utf-8")
    (problem,) = leaderboard.check(tmp_path / "leaderboards", [page, other])
    assert problem.startswith("results.md does not follow")


def test_what_a_regularizer_does_in_one_line_a_method_by_hand():
    cells = [
        {"method": "att", "operator": o, "difference": d, "significant": s}
        for o, d, s in (
            ("ties", 2.0, True), ("ace", -3.0, True), ("dare", 0.5, False), ("task_arithmetic", 1.0, True),
            ("emr", -0.25, False), ("average", -4.0, False),
        )
    ]  # fmt: skip
    cells.append({"method": "tta", "operator": "ties", "difference": 0.0, "significant": False})
    effect = {"methods": ["att", "tta"], "cells": cells}
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in text.effect_counts(effect).splitlines()]
    assert lines[2:] == [["`att`", "6", "2", "1", "3", "+0.12", "+1.00"], ["`tta`", "1", "0", "0", "1", "+0.00", "–"]]
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in text.effect_extremes(effect).splitlines()]
    assert lines[2] == [
        "`att`",
        "`ties` **+2.00**, `task_arithmetic` **+1.00**, `dare` +0.50",
        "`average` -4.00, `ace` **-3.00**, `emr` -0.25",
        "2 of 6",
    ]
    assert lines[3] == ["`tta`", "–", "–", "1 of 1"]


def test_the_short_board_counts_the_effect_map_of_the_page(built):
    page = leaderboard.table(built / "leaderboards", "toy")
    found = text.sections([page], "leaderboards")
    (effect,) = page["effects"]
    counts = re.findall(r"^\| `(\w+)` +\| (\d+) +\| (\d+) +\| (\d+) +\| (\d+) ", found["effects"], re.M)
    assert [method for method, *_ in counts] == effect["methods"]
    for method, *numbers in counts:
        cells = [cell for cell in effect["cells"] if cell["method"] == method]
        clear = sum(cell["significant"] for cell in cells)
        total, better, worse, unclear = map(int, numbers)
        assert (total, better + worse, unclear) == (len(cells), clear, len(cells) - clear)
    (board,) = page["boards"]
    for method in {row["finetuning"] for row in board["rows"]}:
        top = max((r for r in board["rows"] if r["finetuning"] == method), key=lambda row: row["accuracy"])
        assert re.search(
            rf"^\| `{re.escape(method)}` +\| `{top['operator']}` {top['accuracy']:.2f} ", found["best"], re.M
        )
    references = {row["name"]: row["accuracy"] for row in page["references"]}
    assert f"fine-tuning reaches {references['zero-shot']:.2f} %" in found["leaderboard"]
    assert f"not merged, reaches {references['nonlinear/expert']:.2f} %" in found["leaderboard"]
    assert set(text.sections([], "leaderboards").values()) == {"No results yet."}


def test_a_readme_without_markers_is_refused(built, tmp_path):
    (tmp_path / "README.md").write_text("# none\n", encoding="utf-8")
    with pytest.raises(BenchError, match="lacks the markers"):
        leaderboard.build(None, None, built / "leaderboards", tmp_path / "README.md")


def test_files_name_no_machine_path_and_no_clock(built):
    for path in (built / "leaderboards").rglob("*"):
        if path.suffix in (".md", ".csv", ".tex", ".html", ".svg"):
            content = path.read_text(encoding="utf-8")
            assert str(built) not in content
            assert not re.search(r"20\d\d-\d\d-\d\d", content), path.name


def test_an_empty_store_a_damaged_file_and_nothing_at_all(tmp_path):
    with pytest.raises(BenchError, match=r"no results in .*run `bench run` first"):
        leaderboard.build(Store(tmp_path / "empty"), None, tmp_path / "lb")
    with pytest.raises(BenchError, match="no results under"):
        leaderboard.check(tmp_path / "lb")
    results.write(tmp_path / "lb" / "toy", *Synthetic(seeds=(0,), methods=("att",)).tables())
    path = tmp_path / "lb" / "toy" / "results.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        leaderboard.check(tmp_path / "lb")
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        leaderboard.build(None, "tob", tmp_path / "lb")


def test_a_suite_of_which_only_zero_shot_was_measured_still_renders(tmp_path):
    leaderboard.build(Synthetic(methods=(), negation=False).fill(Store(tmp_path / "s")), None, tmp_path / "lb")
    assert "No merged models have been measured yet." in (tmp_path / "lb" / "README.md").read_text(encoding="utf-8")
    assert leaderboard.check(tmp_path / "lb") == []
    assert text.readme([]).endswith("No results yet. `bench run`, then `bench leaderboard build`.\n")


def test_diff_says_which_rows_changed_and_by_how_much(built, tmp_path):
    old = built / "leaderboards" / "toy"
    assert leaderboard.diff(old, old) == []
    rows, cells = results.load(old)
    kept = rows.filter(pc.not_equal(rows["finetuning"], "nonlinear"))
    results.write(tmp_path / "new", kept, cells)
    found = leaderboard.diff(old, tmp_path / "new")
    gone = [line["name"] for line in found if line["after"] is None]
    assert gone == [f"nonlinear/{o}" for o in sorted(OPERATORS)]
    results.write(tmp_path / "less", *without(Synthetic(), "addition-att-ties-0", "birds"))
    (changed,) = [line for line in leaderboard.diff(old, tmp_path / "less") if line["name"] == "att/ties"]
    assert changed["before"]["complete"] == "3/3"
    assert changed["after"] == {"accuracy": None, "rank": None, "complete": "2/3"}
    assert changed["change"] is None


def test_export_knows_its_formats(built):
    folder = built / "leaderboards"
    assert leaderboard.export(folder, "toy", "csv") == (folder / "toy" / "table.csv").read_text(encoding="utf-8")
    assert leaderboard.export(folder, "toy", "tex") == (folder / "toy" / "table.tex").read_text(encoding="utf-8")
    assert json.loads(leaderboard.export(folder, "toy", "json")) == leaderboard.table(folder, "toy")
    with pytest.raises(UnknownName, match="export format"):
        leaderboard.export(folder, "toy", "xls")


def test_two_suites_share_one_readme(tmp_path):
    for suite in ("toy", "other"):
        results.write(tmp_path / suite, *Synthetic(suite=suite, seeds=(0,), methods=("att",)).tables())
    leaderboard.build(None, None, tmp_path)
    found = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", found, re.M) == ["other", "toy"]
    assert files.suites(tmp_path) == ["other", "toy"]


def test_values_are_equal_in_markdown_csv_latex_html_and_json(built):
    folder = built / "leaderboards"
    page = leaderboard.table(folder, "toy")
    rows = page["boards"][0]["rows"]
    read = {
        name: (folder / "toy" / name).read_text(encoding="utf-8")
        for name in ("table.csv", "table.tex", "numbers.tex", "index.html")
    }
    by_csv = {line["name"]: line for line in csv.DictReader(io.StringIO(read["table.csv"]))}
    by_markdown = {
        m[0]: m[1]
        for m in re.findall(r"`([^`]+)`\s*\|\s*\**([\d.]+)", (folder / "README.md").read_text(encoding="utf-8"))
    }
    by_macro = dict(re.findall(r"bench@toy@(.+)@accuracy\}\{([\d.]+)\}", read["numbers.tex"]))
    by_html = dict(
        re.findall(
            r'aria-expanded="false">([^<]+)</button></td><td class="accuracy" [^>]*>([\d.]+)<',
            read["index.html"].replace("<wbr>", ""),
        )
    )
    in_table = re.findall(r"& (?:\\textbf\{)?(\d+\.\d\d)", read["table.tex"].split("\\midrule")[1])
    assert len(rows) == 12
    assert sorted(in_table) == sorted(f"{row['accuracy']:.2f}" for row in rows)
    for row in rows + page["references"]:
        shown = f"{row['accuracy']:.2f}"
        found = {s[row["name"]] for s in (by_markdown, by_macro, by_html)} | {by_csv[row["name"]]["accuracy"]}
        assert found == {shown}, row["name"]
        for name in ("low", "high", "normalised", "normalised_common", "difference"):
            value = "" if row[name] is None else f"{row[name]:.2f}"
            assert by_csv[row["name"]][name] == value
            if value:
                assert f"bench@toy@{row['name']}@{name}}}{{{value}}}" in read["numbers.tex"]
                assert value in read["index.html"]


def test_every_task_has_its_column_in_the_csv(built):
    lines = list(
        csv.DictReader(io.StringIO((built / "leaderboards" / "toy" / "table.csv").read_text(encoding="utf-8")))
    )
    assert len(lines) == 17
    for line in lines:
        mean = sum(float(line[f"accuracy:{task}"]) for task in TASKS) / 3
        assert mean == pytest.approx(float(line["accuracy"]), abs=0.01)


def test_the_effect_map_is_a_file_too(built):
    folder = built / "leaderboards"
    (effect,) = leaderboard.table(folder, "toy")["effects"]
    lines = list(csv.DictReader(io.StringIO((folder / "toy" / "effect.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(effect["cells"]) == 2 * len(OPERATORS)
    for line, cell in zip(lines, effect["cells"], strict=True):
        assert (line["method"], line["operator"], line["p"]) == (cell["method"], cell["operator"], str(cell["p"]))
        assert [line[name] for name in ("difference", "low", "high")] == [
            f"{cell[name]:.2f}" for name in ("difference", "low", "high")
        ]


def test_published_figures_are_never_on_a_board(built):
    page = (built / "leaderboards" / "toy" / "index.html").read_text(encoding="utf-8")
    assert "RegMean++" in page.split('id="published"')[1]
    assert "RegMean++" not in page.split('id="published"')[0]


def test_the_page_asks_no_network_and_is_small(built):
    path = built / "leaderboards" / "toy" / "index.html"
    content = path.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#|data:)', content)
    assert "@import" not in content
    assert "url(" not in content
    assert path.stat().st_size < 3_000_000
