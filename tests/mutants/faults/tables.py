"""Faults of lines, comparisons and statistics."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/tables/subsets.py",
        ("tests/bench/boards/test_leaderboard_curves.py",),
        ("points of curves are means over other subsets", "if measured == wanted:", "if measured:"),
    ),
    *faults(
        "bench/tables/collect.py",
        ("tests/bench/boards/test_leaderboard_values.py",),
        (
            "leaderboards show validation",
            'pc.equal(rows["split"], "test"), rows["selected"]',
            'pc.equal(rows["split"], "validation"), rows["selected"]',
        ),
        (
            "rows are normalised by the experts of the first seed",
            "self._reference(line, reference or line.finetuning, seed)",
            "self._reference(line, reference or line.finetuning, line.seeds[0])",
        ),
        ("the control of zero-shot is lost", '.isin(("negation", "zeroshot"))', '.isin(("negation",))'),
        (
            "coefficient curves are drawn from test",
            'pc.equal(rows["split"], "validation"), pc',
            'pc.equal(rows["split"], "test"), pc',
        ),
    ),
    *faults(
        "bench/tables/collect.py",
        ("tests/bench/tables/test_collect.py",),
        ("experts nobody merged are references", ' & (expert["key"].isin(used) | (not used))', ""),
        (
            "of two contradictory measurements the last one counts",
            'for row in unequal[unequal.duplicated(where)].to_dict("records"):',
            "for row in []:",
        ),
        (
            "results of two recipes share a line",
            'frames.without(identity, "seed", "experts", *one_line)',
            'frames.without(identity, "seed", "experts", "recipe", *one_line)',
        ),
    ),
    *faults(
        "bench/tables/collect.py",
        ("tests/bench/boards/test_leaderboard.py",),
        (
            "post-hoc rows are normalised by experts as they are",
            "{t: a for key in line.keys[seed] for t, a in self.linearised.get(key, {}).items()}",
            "experts",
        ),
    ),
    *faults(
        "bench/tables/line.py",
        (
            "tests/bench/tables/test_collect.py",
            "tests/bench/boards/test_leaderboard_values.py",
        ),
        (
            "differences turn around",
            "return [x - y for x, y in zip(first, second, strict=True)], seeds",
            "return [y - x for x, y in zip(first, second, strict=True)], seeds",
        ),
    ),
    *faults(
        "bench/tables/line.py",
        ("tests/bench/tables/test_collect.py",),
        ("means over some of the tasks", "return self.measured == len(self.tasks) > 0", "return self.measured > 0"),
    ),
    *faults(
        "bench/tables/compare.py",
        ("tests/bench/tables/test_compare.py",),
        (
            "a family of comparisons without Holm",
            "adjusted = stats.holm([e.p for e in estimates])",
            "adjusted = [e.p for e in estimates]",
        ),
    ),
    *faults(
        "bench/tables/strength.py",
        ("tests/bench/tables/test_strength.py",),
        ("lambda is chosen on test", '{s: whole.loc[s, "validation"].to_dict()', '{s: whole.loc[s, "test"].to_dict()'),
        (
            "of two equal strengths the larger is chosen",
            "return max(sorted(points), key",
            "return max(sorted(points, reverse=True), key",
        ),
    ),
    *faults(
        "bench/tables/disentanglement.py",
        ("tests/bench/tables/test_disentanglement.py",),
        (
            "the mean error is over more than task arithmetic searches",
            "SEARCHED = (0.0, 1.0)",
            "SEARCHED = (-1.0, 1.0)",
        ),
    ),
    *faults(
        "bench/tables/stats.py",
        ("tests/bench/tables/test_stats.py",),
        ("Holm is Bonferroni", "(len(p_values) - rank) * p_values[index]", "len(p_values) * p_values[index]"),
        ("Holm's values are not in the order of p", "largest = max(largest, min(1.0,", "largest = max(0.0, min(1.0,"),
        (
            "McNemar's test is one-sided",
            "min(1.0, 2 * float(special.bdtr(min(won, lost), won + lost, 0.5)))",
            "float(special.bdtr(min(won, lost), won + lost, 0.5))",
        ),
        (
            "the variance between seeds is too small",
            "variance = float(per_seed.var(ddof=1))",
            "variance = float(per_seed.var())",
        ),
        ("errors of a mean over tasks are too large", "share = 1 / (tasks * tasks * n)", "share = 1 / (tasks * n)"),
        ("rows that differ are tied", "strict=True) if p >= alpha}", "strict=True) if p < alpha}"),
    ),
    *faults(
        "bench/tables/frames.py",
        ("tests/bench/tables/test_collect.py",),
        ("boards are rounded to one decimal", "round(100 * rate, 2) + 0.0", "round(100 * rate, 1) + 0.0"),
        (
            "tasks weigh by their sizes",
            'return frame["correct"] / frame["total"]',
            'return frame["correct"] / frame["total"].max()',
        ),
        ("ways are told apart by what they may differ in", "if name not in names}", "if name in names}"),
    ),
]
