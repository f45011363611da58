r"""LaTeX: booktabs tables to paste into a paper, and macros for every number.

`table.tex` holds one table per board, operators by fine-tuning methods, the whole top tie group bold, and one for task
negation. `numbers.tex` defines `\bench{att+orthoreg/ties}{accuracy}` for every row and value. `references.bib` holds
the entries that the tables cite.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.boards.columns import BOARD, NEGATION, Entry, number, of, variant
from bench.registry import bibliography, catalogue

BOLD = "Bold: the best row and all that cannot be told from it (paired test, Holm)."

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "≥": r"$\geq$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def table(page: Mapping[str, Any]) -> str:
    """`table.tex` of one suite."""
    parts = [
        "% Written by `bench leaderboard build`. Needs \\usepackage{booktabs}; cites references.bib.",
        *(_board(page, board) for board in page["boards"]),
    ]
    if page["negation"]:
        parts.append(_negation(page))
    return "\n\n".join(parts) + "\n"


def numbers(page: Mapping[str, Any]) -> str:
    r"""`numbers.tex`: `\bench{ROW}{VALUE}`; an unknown row or value is an error when the paper is compiled."""
    suite = page["suite"]
    values, forgetting = ([column.key for column in of(columns, "tex")] for columns in (BOARD, NEGATION))
    lines = [
        "% Written by `bench leaderboard build`. Usage: \\bench{att+orthoreg/ties}{accuracy}, in percent;",
        "% write `tsv_m:lines` for the operator tsv_m~lines.",
        f"% Values: {', '.join(values)}. Rows of task negation: {', '.join(forgetting)}.",
        "\\makeatletter",
        f"\\providecommand{{\\benchsuite}}{{{suite}}}",
        "\\providecommand{\\bench}[2]{\\@ifundefined{bench@\\benchsuite @#1@#2}%",
        "  {\\PackageError{bench}{no value #2 of row #1}{}}{\\@nameuse{bench@\\benchsuite @#1@#2}}}",
    ]
    for row in [r for board in page["boards"] for r in board["rows"]] + page["references"]:
        lines += _macros(suite, row, values)
    for row in page["negation"]:
        lines += _macros(suite, row, forgetting)
    return "\n".join([*lines, "\\makeatother"]) + "\n"


def references(page: Mapping[str, Any]) -> str:
    """`references.bib`: the entries that the tables of one suite cite, in the order of their keys."""
    cited = {key for name in _names(page) for key in bibliography.keys(name, catalogue.load())}
    chosen = [entry for key, entry in bibliography.entries().items() if key in cited]
    return "\n\n".join(["% Written by `bench leaderboard build`.", *chosen]) + "\n"


def cite(name: str) -> str:
    r"""`~\cite{...}` for a fine-tuning method or operator of the catalogue; nothing for others, like a user's own."""
    keys = bibliography.keys(name, catalogue.load())
    return f"~\\cite{{{','.join(keys)}}}" if keys else ""


def _names(page: Mapping[str, Any]) -> set[str]:
    rows = [row for board in page["boards"] for row in board["rows"]] + page["negation"]
    return {row["finetuning"] for row in rows} | {row["operator"] for row in rows}


def _board(page: Mapping[str, Any], board: Mapping[str, Any]) -> str:
    methods = list(dict.fromkeys(sorted(row["finetuning"] for row in board["rows"])))
    operators = list(dict.fromkeys(sorted(variant(row) for row in board["rows"])))
    at = {(row["finetuning"], variant(row)): row for row in board["rows"]}
    experts = {row["finetuning"]: row for row in page["references"] if row["backbone"] == board["backbone"]}
    lines = [_line([escape(o) + cite(o), *(_cell(at.get((m, o))) for m in methods)]) for o in operators]
    zero = [_cell(experts.get("")), *[""] * (len(methods) - 1)]
    footer = [
        _line(["zero-shot", *zero]),
        _line(["experts", *(_cell(experts.get(m)) for m in methods)]),
    ]
    caption = (
        f"Accuracy (\\%) on {escape(page['suite'])}, mean over {len(page['tasks'])} tasks and seeds; board: "
        f"{escape(board['title'])}. {BOLD}"
    )
    heads = ["operator", *(escape(m) + cite(m) for m in methods)]
    label = re.sub(r"[^a-z0-9]+", "-", f"{page['suite']}-{board['title']}".lower())
    return _float(caption, label, "l" + "r" * len(methods), heads, [*lines, "\\midrule", *footer])


def _negation(page: Mapping[str, Any]) -> str:
    first = page["negation"][0]
    lines = [
        _line([escape(r["finetuning"]) + cite(r["finetuning"]), _cell(r), number(r["control"])])
        for r in page["negation"]
    ]
    zero = _line(["zero-shot", number(first["target_zero_shot"]), number(first["control_zero_shot"])])
    caption = (
        f"Task negation on {escape(page['suite'])}: target accuracy (\\%, lower is better) while the control "
        f"{escape(page['control'])} keeps 95\\,\\% of its zero-shot accuracy on validation. {BOLD}"
    )
    heads = ["fine-tuning", "target", "control"]
    return _float(caption, f"{page['suite']}-negation", "lrr", heads, [zero, "\\midrule", *lines])


def _float(caption: str, label: str, columns: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    body = "\n".join(f"    {line}" for line in ["\\toprule", _line(heads), "\\midrule", *lines, "\\bottomrule"])
    return (
        f"\\begin{{table}}\n  \\centering\n  \\caption{{{caption}}}\n  \\label{{tab:{label}}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n{body}\n  \\end{{tabular}}\n\\end{{table}}"
    )


def _cell(row: Entry | None) -> str:
    if row is None:
        return "--"
    if row["accuracy"] is None:
        return row["complete"] if row["reason"] else f"({row['complete']})"
    return f"\\textbf{{{number(row['accuracy'])}}}" if row["group"] == 1 else number(row["accuracy"])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _macros(suite: str, row: Entry, values: Sequence[str]) -> list[str]:
    lines = []
    for value in values:
        content = row[value]
        text = number(content) if isinstance(content, float) and value != "p" else escape(str(content))
        if content is not None and content != "":
            name = row["name"].replace("~", ":")  # a tie is active in LaTeX and no part of a name
            lines.append(f"\\@namedef{{bench@{suite}@{name}@{value}}}{{{text}}}")
    return lines
