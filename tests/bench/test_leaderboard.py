"""Boards by hand, byte stability, equality of values over all renderings, and the states in which little can be
shown.
"""

import csv
import io
import json
import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from samples import METHODS, OPERATORS, TASKS, Synthetic

from bench import leaderboard, results, tables
from bench.errors import BenchError, StoreError, UnknownName
from bench.leaderboard import boards, files, latex, pictures, plots, published, svg, text
from bench.records import CELLS, SCHEMA
from bench.store import Store

README = "# project\n\n<!-- leaderboard:begin -->\nold\n<!-- leaderboard:end -->\n\nend\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store, leaderboards built from it, and a project README."""
    root = tmp_path_factory.mktemp("built")
    Synthetic().fill(Store(root / "store"))
    (root / "README.md").write_text(README, encoding="utf-8")
    leaderboard.build(root / "store", None, root / "leaderboards", root / "README.md")
    return root


@pytest.fixture(scope="module")
def page():
    return boards.build(*Synthetic().tables())


def without(sample, key, task):
    """Tables of a sample without the test row of one task in one cell."""
    rows, cells = sample.tables()
    gone = pc.and_(pc.and_(pc.equal(rows["key"], key), pc.equal(rows["task"], task)), pc.equal(rows["split"], "test"))
    return rows.filter(pc.invert(gone)), cells


# --- boards


def test_rows_are_ranked_by_absolute_accuracy(page):
    (board,) = page["boards"]
    assert board["board"] == "validation-tuned"
    assert len(board["rows"]) == len(METHODS) * len(OPERATORS)
    values = [row["accuracy"] for row in board["rows"]]
    assert values == sorted(values, reverse=True)
    assert [row["rank"] for row in board["rows"]] == list(range(1, 13))


def test_the_first_row_leads_group_one_and_differences_are_to_it(page):
    first, *others = page["boards"][0]["rows"]
    assert (first["group"], first["difference"], first["p"]) == (1, None, None)
    for row in others:
        assert row["difference"] == pytest.approx(row["accuracy"] - first["accuracy"], abs=0.011)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert all((row["p"] < 0.05) == (row["group"] > 1) for row in others)


def test_every_row_lies_within_its_interval(page):
    rows = page["boards"][0]["rows"] + page["references"]
    assert len(rows) == 17
    assert all(row["low"] < row["accuracy"] < row["high"] for row in rows)


def test_boards_are_never_mixed():
    sample = Synthetic(operators=("ties",), negation=False)
    experts = {m: [f"expert-{m}-{t}-0" for t in TASKS] for m in METHODS}
    sample.addition("att", "emr", 0, experts["att"], 0.95, board="task-id")
    page = boards.build(*sample.tables())
    assert [(b["board"], len(b["rows"]), b["rows"][0]["rank"]) for b in page["boards"]] == [
        ("validation-tuned", 4, 1),
        ("task-id", 1, 1),
    ]
    assert page["boards"][1]["rows"][0]["accuracy"] > page["boards"][0]["rows"][0]["accuracy"]


def test_an_incomplete_row_is_shown_last_without_mean_or_rank():
    page = boards.build(*without(Synthetic(), "addition-att+orthoreg-ties-2", "birds"))
    rows = page["boards"][0]["rows"]
    assert len(rows) == 12
    last = rows[-1]
    assert (last["name"], last["complete"], last["rank"], last["group"]) == ("att+orthoreg/ties", "2/3", None, None)
    assert last["accuracy"] is last["normalised"] is last["low"] is None
    assert last["by_task"]["birds"] is None
    assert last["by_task"]["cars"] > 0
    assert any("1 incomplete rows" in note for note in page["notes"])
    table = text.board_table(rows)
    assert "| –   | –       | `att+orthoreg/ties`" in table
    assert "2/3" in table


def test_a_board_with_one_row_is_an_honest_board():
    page = boards.build(*Synthetic(methods=("att",), operators=("ties",), seeds=(0,)).tables())
    (row,) = page["boards"][0]["rows"]
    assert (row["rank"], row["group"], row["difference"]) == (1, 1, None)
    assert row["normalised_common"] is None
    assert page["effects"] == []


def test_experts_without_any_merge_are_references_without_a_board():
    page = boards.build(*Synthetic(operators=(), negation=False).tables())
    assert page["boards"] == []
    assert [row["name"] for row in page["references"]] == ["zero-shot", *(f"{m}/expert" for m in sorted(METHODS))]
    assert "No merged models have been measured yet." in page["notes"]


def test_rows_without_bits_have_no_interval_and_cannot_be_told_apart():
    rows, cells = Synthetic(methods=("att", "att+orthoreg"), operators=("ties",), seeds=(0,)).tables()
    blank = rows.set_column(
        rows.schema.get_field_index("bits"), SCHEMA.field("bits"), pa.array([b""] * len(rows), pa.binary())
    )
    page = boards.build(blank, cells)
    assert page["effects"] == []
    found = page["boards"][0]["rows"]
    assert [(row["low"], row["group"], row["p"]) for row in found] == [(None, 1, None)] * 2


def test_negation_rows_have_their_own_table(page):
    sample = Synthetic()
    by_hand = {}
    for record in sample.records:
        for row in record.rows:
            if row["kind"] == "negation" and row["finetuning"] == "att":
                by_hand.setdefault(row["task"] == "shapes", []).append(row["correct"] / row["total"])
    assert [len(v) for v in by_hand.values()] == [9, 9]
    found = next(row for row in page["negation"] if row["name"] == "att/negation")
    assert found["target"] == tables.percent(sum(by_hand[False]) / 9)
    assert found["control"] == tables.percent(sum(by_hand[True]) / 9)
    targets = [row["target"] for row in page["negation"]]
    assert targets == sorted(targets)
    assert found["target_zero_shot"] == next(r for r in page["references"] if r["name"] == "zero-shot")["accuracy"]


def test_the_effect_of_a_regulariser_is_with_minus_without(page):
    (effect,) = page["effects"]
    assert (effect["regulariser"], effect["methods"], effect["operators"]) == (
        "orthoreg",
        ["att", "nonlinear"],
        sorted(OPERATORS),
    )
    accuracy = {row["name"]: row["accuracy"] for row in page["boards"][0]["rows"]}
    assert len(effect["cells"]) == 6
    for cell in effect["cells"]:
        plain, regular = f"{cell['method']}/{cell['operator']}", f"{cell['method']}+orthoreg/{cell['operator']}"
        assert cell["difference"] == pytest.approx(accuracy[regular] - accuracy[plain], abs=0.011)
        assert cell["significant"] == (cell["p"] < 0.05)


def test_curves_subsets_and_geometry_stand_beside_the_boards():
    sample = Synthetic(seeds=(0, 1), methods=("att",), operators=("ties",))
    for seed in (0, 1):
        cosine = [[1.0, 0.1 + seed * 0.2, 0.0], [0.1 + seed * 0.2, 1.0, -0.3], [0.0, -0.3, 1.0]]
        metrics = {"tasks": list(TASKS), "cosine": cosine, "norms": [1.0, 2.0, 3.0]}
        sample.add(f"geometry-{seed}", [], metrics, kind="geometry", finetuning="att", seed=seed)
        common = {"finetuning": "att", "operator": "ties", "seed": seed, "tasks": "apples+birds"}
        rows = [sample.row("addition", t, 0.6, **common) for t in TASKS[:2]]
        sample.add(
            f"subset-{seed}",
            rows,
            finetuning="att",
            operator="ties",
            experts=[f"expert-att-{t}-{seed}" for t in TASKS[:2]],
        )
    page = boards.build(*sample.tables())
    (heat,) = page["geometry"]
    assert heat["cosine"][0] == [1.0, 0.2, 0.0]
    assert heat["mean"] == pytest.approx((0.2 + 0.0 + 0.3) / 3, abs=0.001)
    (curve,) = page["subsets"]
    assert [(p["tasks"], p["merges"]) for p in curve["points"]] == [(2, 2), (3, 2)]
    row = page["boards"][0]["rows"][0]
    assert (curve["points"][1]["accuracy"], curve["points"][1]["normalised"]) == (row["accuracy"], row["normalised"])
    assert [x for x, _ in page["curves"][0]["curves"]["att"]] == [0.0, 0.25, 0.5]
    assert any("2 further results merge fewer tasks" in note for note in page["notes"])


def test_post_hoc_disentanglement_and_strengths_have_their_own_views():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    experts = [f"expert-att-{task}-0" for task in TASKS]
    merged = {"finetuning": "att", "operator": "ties", "seed": 0, "tasks": "+".join(TASKS), "scaling": 0.3}
    alone = [sample.row("posthoc", task, 0.8, finetuning="att", seed=0, scaling=1.0) for task in TASKS]
    linear = [sample.row("posthoc", task, 0.6, **merged) for task in TASKS]
    sample.add("posthoc", alone + linear, finetuning="att", operator="ties", experts=experts)
    for pair, error in enumerate(([[0.0, 0.2], [0.4, 0.6]], [[0.0, 0.4], [0.0, 1.0]])):
        metrics = {"tasks": list(TASKS[:2]), "coefficients": [0.0, 1.0], "error": error}
        sample.add(
            f"pair-{pair}", [], metrics, kind="disentangle", finetuning="att", mode="", seed=pair, experts=experts[:2]
        )
    for strength, skill in ((0.1, 0.4), (1.0, 0.7)):
        common = {**merged, "options": json.dumps({"strength": strength})}
        rows = [sample.row("strength", t, skill, split=s, **common) for t in TASKS for s in ("validation", "test")]
        sample.add(f"strength-{strength}", rows, finetuning="att", operator="ties", experts=[])
    page = boards.build(*sample.tables())
    (row,) = page["posthoc"]
    mean = sum(r["correct"] / r["total"] for r in linear) / 3
    assert (row["name"], row["accuracy"]) == ("att/ties", tables.percent(mean))
    (square,) = page["disentanglement"]
    assert (square["error"], square["searched_error"]) == ([[0.0, 0.3], [0.2, 0.8]], 0.325)
    (curve,) = page["strengths"]
    assert [p["strength"] for p in curve["curve"]] == [0.1, 1.0]
    assert curve["chosen"] == 1.0
    assert curve["curve"][0]["test"] < curve["curve"][1]["test"]
    from bench.leaderboard import html

    found = html.page(page)
    for name in ("posthoc", "disentanglement", "lambda"):
        assert found.count(f'id="{name}"') == 1


def test_sources_name_machine_and_commits_once():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    for place, record in enumerate(sample.records):
        record.provenance["commit"] = f"c{place % 2}"
    assert boards.build(*sample.tables())["sources"] == ["nowhere, cpu, bench 0.0, commits c0 c1"]


def test_what_an_operator_cannot_do_is_said():
    sample = Synthetic(methods=("att",), operators=("ties",), seeds=(0,))
    sample.add(
        "unable", [], {"not_applicable": "needs factors"}, kind="addition", finetuning="att", operator="knots", tasks=[]
    )
    assert "Not applicable: att/knots." in boards.build(*sample.tables())["notes"]


# --- files


def test_a_leaderboard_built_twice_is_byte_identical(built, tmp_path):
    again = leaderboard.build(built / "store", None, tmp_path / "leaderboards")
    assert len(again) == 10
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
    assert "first 10 of 12 rows" in found
    assert "[leaderboards/README.md](leaderboards/README.md)" in found


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


# --- one value everywhere


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
            r'aria-expanded="false">([^<]+)</button></td><td class="accuracy" [^>]*>([\d.]+)<', read["index.html"]
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


# --- LaTeX, published figures, charts


def test_the_whole_top_group_is_bold(page):
    rows = [dict(row, group=1 if row["rank"] <= 3 else 2) for row in page["boards"][0]["rows"]]
    crafted = {**page, "boards": [{**page["boards"][0], "rows": rows}]}
    assert latex.table(crafted).count("\\textbf{") == 3
    assert text.board_table(rows).count("**") == 2 * 3


def test_latex_escapes_and_cites_only_what_it_has_an_entry_for():
    assert latex.escape("task_arithmetic 5%") == r"task\_arithmetic 5\%"
    assert latex.cite("ties") == r"~\cite{arXiv:2306.01708}"
    assert latex.cite("att+orthoreg") == r"~\cite{arXiv:2407.07089,arXiv:2604.17078}"
    assert latex.cite("my_own") == ""


def test_cited_entries_are_in_the_bibliography(page):
    cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", latex.table(page)) for key in keys.split(",")}
    assert len(cited) >= 4
    assert set(re.findall(r"@misc\{([^,]+),", latex.references(page))) == cited


def test_latex_braces_and_environments_close(page):
    for content in (latex.table(page), latex.numbers(page)):
        plain = content.replace("\\{", "").replace("\\}", "")
        assert plain.count("{") == plain.count("}")
        assert content.count("\\begin{") == content.count("\\end{")


def test_published_figures_name_source_family_evidence_and_defects():
    found = published.load()
    assert len(found["rows"]) > 80
    assert {row["family"] for row in found["rows"]} == set(found["families"])
    for row in found["rows"]:
        assert row["source"]
        assert set(row["accuracy"]) <= set(found["backbones"])
        assert all(0 < value < 100 for value in row["accuracy"].values())
    leaked = [d for f in found["families"].values() for d in f["defects"] if "leaked" in d]
    assert len(leaked) == 1
    names = [(row["name"], row["family"], row["source"]) for row in found["rows"]]
    assert len(names) == len(set(names))


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


def test_names_are_escaped_on_the_page():
    sample = Synthetic(methods=("att",), operators=("<script>alert(1)</script>",), seeds=(0,))
    from bench.leaderboard import html

    found = html.page(boards.build(*sample.tables()))
    assert "<script>alert" not in found
    assert "&lt;script&gt;alert(1)" in found


def test_charts_by_hand():
    assert svg._ticks((0.0, 1.0), 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg._ticks((-3.0, 3.0), 3) == [-2.0, 0.0, 2.0]
    assert svg._scale(5.0, (0.0, 10.0), 100, 200) == 150
    assert svg._scale(5.0, (5.0, 5.0), 100, 200) == 150
    assert svg.whisker(None, None, None, (0, 1)) == ""
    assert 'cx="50.0"' in svg.whisker(50.0, 40.0, 60.0, (0, 100))
    assert svg.curves({}, {}, "t", "x") == svg.scatter([], "t", "x", "y") == ""
    drawn = svg.curves({"a<b": [(0.0, 1.0), (1.0, 3.0)]}, {"a<b": "s0"}, "t", "x")
    assert "a&lt;b" in drawn
    assert svg._short(-0.001) == ".00"
    assert [svg._short(v) for v in (0.126, -0.5, 1.0)] == [".13", "-.50", "1"]


def test_empty_tables_are_refused_in_one_line():
    with pytest.raises(BenchError, match="no results here yet"):
        boards.build(SCHEMA.empty_table(), CELLS.empty_table())


# --- plots


def test_every_view_can_be_drawn_to_a_file_without_a_date(tmp_path):
    sample = Synthetic(seeds=(0, 1))
    metrics = {"tasks": list(TASKS), "cosine": [[1.0, 0.1, 0.2], [0.1, 1.0, -0.3], [0.2, -0.3, 1.0]]}
    sample.add("geometry", [], metrics, kind="geometry", finetuning="att")
    square = {"tasks": list(TASKS[:2]), "coefficients": [0.0, 1.0], "error": [[0.0, 0.2], [0.4, 0.6]]}
    sample.add("pair", [], square, kind="disentangle", finetuning="att", mode="", seed=0)
    merged = {"finetuning": "att", "operator": "ties", "seed": 0, "tasks": "+".join(TASKS)}
    rows = [
        sample.row("strength", t, 0.5, options='{"strength":1.0}', split=s, **merged)
        for t in TASKS
        for s in ("validation", "test")
    ]
    sample.add("strength", rows, finetuning="att", operator="ties", experts=[])
    few = {"finetuning": "att", "operator": "ties", "seed": 0, "tasks": "apples+birds"}
    experts = [f"expert-att-{t}-0" for t in TASKS[:2]]
    sample.add(
        "subset",
        [sample.row("addition", t, 0.6, **few) for t in TASKS[:2]],
        finetuning="att",
        operator="ties",
        experts=experts,
    )
    page = boards.build(*sample.tables())
    assert plots.names() == [
        "accuracy",
        "coefficients",
        "cosine",
        "cost",
        "disentanglement",
        "effect",
        "lambda",
        "subsets",
    ]
    for name in plots.names():
        drawn = plots.draw(page, name, tmp_path / f"{name}.svg").read_bytes()
        assert len(drawn) > 3000
        assert not re.search(rb"20\d\d-\d\d-\d\d", drawn)
    again = plots.draw(page, "cost", tmp_path / "again.svg").read_bytes()
    assert again == (tmp_path / "cost.svg").read_bytes()
    assert plots.draw(page, "effect", tmp_path / "effect.pdf").read_bytes().startswith(b"%PDF")


def test_a_plot_of_nothing_or_to_nowhere_is_refused(tmp_path):
    page = boards.build(*Synthetic(operators=(), negation=False).tables())
    for name in plots.names():
        with pytest.raises(BenchError, match=f"nothing to plot as {name}"):
            plots.draw(page, name, tmp_path / "x.svg")
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        plots.draw(page, "cosin", tmp_path / "x.svg")
    with pytest.raises(BenchError, match=r"ends in \.svg, \.pdf, \.png"):
        plots.draw(page, "cosine", tmp_path / "x.gif")
