"""LaTeX, published figures, charts on the page and plots in files."""

import re

import pytest
from samples import TASKS, Synthetic

from bench.boards import boards, columns, html, latex, plots, published, svg, views
from bench.errors import BenchError, UnknownName
from bench.store.records import CELLS, SCHEMA


@pytest.fixture(scope="module")
def page():
    return boards.build(*Synthetic().tables())


def test_the_whole_top_group_is_bold(page):
    rows = [dict(row, group=1 if row["rank"] <= 3 else 2) for row in page["boards"][0]["rows"]]
    negation = [dict(row, group=1 if row["rank"] <= 2 else 2) for row in page["negation"]]
    crafted = {**page, "boards": [{**page["boards"][0], "rows": rows}], "negation": []}
    assert latex.table(crafted).count("\\textbf{") == 3
    assert latex.table({**crafted, "negation": negation}).count("\\textbf{") == 3 + 2
    assert views.table(rows, columns.BOARD).count("**") == 2 * 3
    assert views.table(negation, columns.NEGATION).count("**") == 2 * 2


def test_every_rendering_shows_the_interval_of_a_negation(page):
    first, second, *_ = page["negation"]
    span, name = f"[{first['low']:.2f}, {first['high']:.2f}]", first["name"]
    cells = [cell.strip() for cell in views.table(page["negation"], columns.NEGATION).splitlines()[2].split("|")]
    assert cells[1:7] == ["1", "1", f"`{name}`", f"**{first['target']:.2f}**", span, "–"]
    shown = html.page(page)
    assert shown.count(f'<td class="soft">{span}</td>') == 1
    assert f'<td data-value="{second["difference"]}">{second["difference"]:.2f}</td>' in shown
    numbers = latex.numbers(page)
    control = f"[{first['control_low']:.2f}, {first['control_high']:.2f}]"
    assert cells[8] == control
    assert f'<td class="soft">{control}</td>' in shown
    for value in ("target", "low", "high", "control", "control_low", "control_high"):
        assert f"\\@namedef{{bench@toy@{name}@{value}}}{{{first[value]:.2f}}}" in numbers


def test_latex_escapes_and_cites_only_what_it_has_an_entry_for():
    assert latex.escape("task_arithmetic 5%") == r"task\_arithmetic 5\%"
    assert latex.cite("ties") == r"~\cite{arXiv:2306.01708}"
    assert latex.cite("att+orthoreg") == r"~\cite{arXiv:2407.07089,arXiv:2604.17078}"
    assert latex.cite("my_own") == ""


def test_cited_entries_are_in_the_bibliography(page):
    cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", latex.table(page)) for key in keys.split(",")}
    assert len(cited) >= 4
    assert set(re.findall(r"@\w+\{([^,]+),", latex.references(page))) == cited


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


def test_names_are_escaped_on_the_page():
    sample = Synthetic(methods=("att",), operators=("<script>alert(1)</script>",), seeds=(0,))
    found = html.page(boards.build(*sample.tables()))
    assert "<script>alert" not in found
    assert "&lt;script&gt;alert(1)" in found


def test_charts_by_hand():
    assert svg._ticks((0.0, 1.0), 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg._ticks((-3.0, 3.0), 3) == [-2.0, 0.0, 2.0]
    assert svg._scale(5.0, (0.0, 10.0), 100, 200) == 150
    assert svg._scale(5.0, (5.0, 5.0), 100, 200) == 150
    assert svg._log_ticks((0.0, 2.0)) == [1, 2, 5, 10, 20, 50, 100]
    assert svg._log_ticks((0.5, 1.0)) == [4, 5, 6, 7, 8, 9, 10]
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


def test_every_view_can_be_drawn_to_a_file_without_a_date(tmp_path):
    sample = Synthetic(seeds=(0, 1))
    metrics = {"tasks": list(TASKS), "cosine": [[1.0, 0.1, 0.2], [0.1, 1.0, -0.3], [0.2, -0.3, 1.0]]}
    sample.add("geometry", [], metrics, kind="geometry", finetuning="att")
    square = {"tasks": list(TASKS[:2]), "coefficients": [0.0, 1.0], "error": [[0.0, 0.2], [0.4, 0.6]]}
    sample.add("pair", [], square, kind="disentangle", finetuning="att", mode="", seed=0)
    sample.strength("att+orthoreg", "ties", 0, 1.0, 0.5)
    sample.subset("att", "ties", 0, TASKS[:2], 0.6)
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
    for name, grid in (("lambda", "strength"), ("subsets", "subsets"), ("cosine", "geometry"), ("effect", "all")):
        with pytest.raises(BenchError, match=f"`bench run --grid {grid}` measures it"):
            plots.draw(page, name, tmp_path / "x.svg")
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        plots.draw(page, "cosin", tmp_path / "x.svg")
    with pytest.raises(BenchError, match=r"ends in \.svg, \.pdf, \.png"):
        plots.draw(page, "cosine", tmp_path / "x.gif")
