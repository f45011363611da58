"""Faults of plans and searches."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/planning/grid.py",
        ("tests/bench/planning/test_grid.py",),
        (
            "seeds are not passed, all experts are one",
            "replace(setting, finetuning=name, seed=seed)",
            "replace(setting, finetuning=name, seed=0)",
        ),
    ),
    *faults(
        "bench/planning/search.py",
        ("tests/bench/planning/test_search.py",),
        ("of two equal values a search takes the larger", 'key=lambda o: o["value"]', 'key=lambda o: -o["value"]'),
        ("searches choose what suits experts, not merges", 'key=lambda o: o["merged"]', 'key=lambda o: o["experts"]'),
        (
            "what was fixed overrides what is tried",
            "overrides = (*fixed, (trial.option, trial.value))",
            "overrides = ((trial.option, trial.value), *fixed)",
        ),
        ("strengths are searched at the suite's learning rate", "tuple(chosen[method].items())", "()"),
        ("a search has one seed whatever was asked", "seeds=(seed,)", "seeds=(0,)"),
        (
            "searches look at the test split",
            'r["split"] == "validation" and r["selected"]',
            'r["split"] == "test" and r["selected"]',
        ),
        (
            "a trial is judged by its mean over all coefficients",
            'r["split"] == "validation" and r["selected"]',
            'r["split"] == "validation"',
        ),
        ("the choice forgets what was fixed", '**best["fixed"], best["option"]', 'best["option"]'),
    ),
    *faults(
        "bench/planning/schedule.py",
        ("tests/bench/planning/test_schedule.py",),
        ("cells start before all that they need is done", "if not self._waits[dependant] and", "if"),
        ("blocked cells are not told", "self.blocked[dependant] = cause", "pass"),
    ),
    *faults(
        "bench/planning/selection.py",
        ("tests/bench/cli/test_cli_values.py",),
        ("the grid's recipe is lost", "recipe=(*chosen.recipe, *self.recipe)", "recipe=self.recipe"),
        (
            "the grid's recipe overrides the command line",
            "(*chosen.recipe, *self.recipe)",
            "(*self.recipe, *chosen.recipe)",
        ),
    ),
    *faults(
        "bench/planning/costs.py",
        ("tests/bench/checks/test_calibrate.py",),
        ("a step is priced as one image", "work.batch * costs.train[trained.method]", "costs.train[trained.method]"),
    ),
]
