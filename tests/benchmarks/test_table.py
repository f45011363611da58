"""docs/speed.md shows what benchmarks/results/*.json hold."""

import copy
import re
from pathlib import Path

import pytest

from benchmarks import _table as table


@pytest.mark.parametrize("path", table.FILES, ids=lambda path: path.name)
def test_committed_tables_are_those_of_the_committed_results(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert table.filled(text, table.load()) == text, "run python -m benchmarks._table"


def test_every_table_stands_somewhere() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in table.FILES)
    assert {name for _, name, _ in table.MARKED.findall(said)} == set(table.TABLES)
    assert said.count("<!-- benchmarks:") == said.count("<!-- /benchmarks -->") == len(table.TABLES)


def test_a_figure_follows_its_measurement() -> None:
    found = copy.deepcopy(table.load())
    found["merging"]["rows"]["ties"]["times_faster"] = 12.34
    found["steps"]["mini, batch 32"]["tangent"]["times_plain"] = 7.7
    end = "<!-- /benchmarks -->"
    text = f"<!-- benchmarks:operators -->\nold\n{end}\nkept\n<!-- benchmarks:summary -->\n{end}"
    made = table.filled(text, found)
    assert re.search(r"^\| TIES mean \| 12 \|", made, re.MULTILINE)
    assert "7.7 against" in made
    assert "old" not in made
    assert "\nkept\n" in made
    assert table.filled(made, found) == made


def test_peers_that_were_not_there_have_no_figures() -> None:
    found = copy.deepcopy(table.load())
    rows = found["merging"]["rows"]
    found["merging"]["rows"] = {name: row for name, row in rows.items() if "(" not in name}
    assert "mergekit" not in table.summary(found)
    assert re.search(r"^\| TIES mean \| \S+ \| – \| – \|", table.operators(found), re.MULTILINE)


@pytest.mark.parametrize(
    ("x", "said"),
    [(None, "–"), (1.0, "1"), (0.3333, "0.33"), (12.6, "13"), (99.6, "100"), (424.4, "424"), (1220, "1220")],
)
def test_numbers_have_the_digits_that_they_deserve(x: float | None, said: str) -> None:
    assert table.number(x) == said
