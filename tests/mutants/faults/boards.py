"""Faults of boards and their renderings."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/boards/boards.py",
        ("tests/bench/boards/test_leaderboard_values.py",),
        (
            "p values without Holm",
            "stats.holm([d.p for d in differences.values()])",
            "[d.p for d in differences.values()]",
        ),
        (
            "differences have the wrong sign",
            "[(line, complete[0]) for line in complete[1:]]",
            "[(complete[0], line) for line in complete[1:]]",
        ),
        (
            "the common reference is everybody's own",
            "lines.normalised(line, COMMON_REFERENCE)",
            "lines.normalised(line)",
        ),
        ("boards are mixed", "by_board[line.backbone, line.board]", 'by_board[line.backbone, "data-free"]'),
        (
            "boards come from the most seen to the least",
            "return BOARDS.index(board) if",
            "return -BOARDS.index(board) if",
        ),
        (
            "rows do not name their experts",
            "sorted({k for keys in line.keys.values() for key in keys for k in lines.cells[key].needs})",
            "[]",
        ),
    ),
    *faults(
        "bench/boards/boards.py",
        ("tests/bench/boards/test_leaderboard.py",),
        (
            "incomplete rows are ranked",
            "sorted((x for x in members if x.complete), key",
            "sorted((x for x in members if x.measured), key",
        ),
    ),
    *faults(
        "bench/boards/extras.py",
        ("tests/bench/boards/test_leaderboard_values.py",),
        (
            "effects of a regulariser without Holm",
            'stats.holm([e.p for e in usable["estimate"]])',
            '[e.p for e in usable["estimate"]]',
        ),
    ),
    *faults(
        "bench/boards/extras.py",
        ("tests/bench/boards/test_leaderboard.py",),
        (
            "the effect of a regulariser is without minus with",
            'zip(pairs["line"], pairs["line_plain"], strict=True)',
            'zip(pairs["line_plain"], pairs["line"], strict=True)',
        ),
    ),
    *faults(
        "bench/boards/columns.py",
        ("tests/bench/boards/test_columns.py",),
        (
            "intervals begin with their upper end",
            "return lambda row: interval(row[low], row[high])",
            "return lambda row: interval(row[high], row[low])",
        ),
        (
            "of a tie group only the first is bold",
            'column.mark == "bold" and row["group"] == 1',
            'column.mark == "bold" and row["rank"] == 1',
        ),
        ("people read one decimal", 'f"{value:.{digits}f}"', 'f"{value:.1f}"'),
        ("rows without a rank have columns of ranks", "(ranked or not column.ranked)", "True"),
        ("the CSV says how many seeds, not which", '"+".join(map(str, row["seeds"]))', "str(_count(row))"),
    ),
    *faults(
        "bench/boards/results.py",
        ("tests/bench/boards/test_frames.py",),
        ("one board has the rows of all", 'if board in (None, row["board"])', "if True"),
        (
            "rows name the method as their regulariser",
            "map({name: parsed[name].regularizer for",
            "map({name: parsed[name].method for",
        ),
    ),
]
