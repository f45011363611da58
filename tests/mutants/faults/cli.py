"""Faults of the command line."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/cli/groups.py",
        ("tests/bench/cli/test_cli_values.py",),
        ("--seeds is ignored", "seeds=range(self.seeds)", "seeds=range(1)"),
        ("--operators is ignored", "operators=names(self.operators)", "operators=()"),
    ),
    *faults(
        "bench/cli/options.py",
        ("tests/bench/cli/test_cli_values.py",),
        ("names with blanks are unknown", "if (name := part.strip()))", "if (name := part))"),
    ),
    *faults(
        "bench/cli/run.py",
        ("tests/bench/cli/test_cli_values.py",),
        ("failures exit with 0", "return 1 if state.failed or state.blocked else 0", "return 0"),
    ),
    *faults(
        "bench/cli/search.py",
        ("tests/bench/cli/test_cli_values.py",),
        (
            "a search forgets its first stage",
            "chosen |= search.choose(outcomes[-len(trials) :])",
            "chosen = search.choose(outcomes[-len(trials) :])",
        ),
        (
            "strengths are not searched at the chosen rates",
            "search.strengths(chosen_suite, chosen, regularizer, own)",
            "search.strengths(chosen_suite, {m: {} for m in chosen}, regularizer, own)",
        ),
    ),
    *faults(
        "bench/cli/summary.py",
        ("tests/bench/cli/test_cli_values.py",),
        (
            "the best rows are told on validation",
            'rows.filter(pc.equal(rows["split"], "test"))',
            'rows.filter(pc.equal(rows["split"], "validation"))',
        ),
        ("experts are told among the best merges", "for cell in cells if cell.ranked)", "for cell in cells)"),
    ),
]
