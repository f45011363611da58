"""Faults of cards, suites and recipes."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/cards/suites.py",
        ("tests/bench/planning/test_search.py",),
        (
            "what a search chose overrides the command line",
            'layers.append(("", overrides))',
            'layers.insert(0, ("", overrides))',
        ),
        (
            "regularised methods take the search of the plain one",
            ".get(str(Finetuning(method, regularizer)), {})",
            ".get(method, {})",
        ),
    ),
    *faults(
        "bench/cards/suites.py",
        (
            "tests/bench/planning/test_search.py",
            "tests/bench/planning/test_grid.py",
        ),
        ("the suite's own values for a method are ignored", "self.methods.get(method, {})", "{}"),
    ),
    *faults(
        "bench/cards/suites.py",
        ("tests/bench/planning/test_grid.py",),
        (
            "epochs drop their last batch",
            'math.ceil(card.splits["train"].rows / batch)',
            '(card.splits["train"].rows // batch)',
        ),
    ),
    *faults(
        "bench/cards/recipes.py",
        ("tests/bench/kinds/test_identity.py",),
        (
            "other recipes have the same key",
            "if value != DEFAULTS.get(name)}",
            'if name in ("steps", "batch_size", "lr")}',
        ),
    ),
    *faults(
        "bench/cards/suites.py",
        ("tests/bench/kinds/test_identity.py",),
        (
            "experts without a regulariser are renamed by its strength",
            "        if not regularizer:\n",
            "        if False:\n",
        ),
        (
            "other weights, the same backbone",
            "{self.architecture}/{self.sha256[:16] or self.weights}/{self.image_size}",
            "{self.architecture}/{self.weights}/{self.image_size}",
        ),
        (
            "other image sizes, the same backbone",
            "{self.sha256[:16] or self.weights}/{self.image_size}",
            "{self.sha256[:16] or self.weights}",
        ),
    ),
    *faults(
        "bench/cards/recipes.py",
        (
            "tests/bench/cards/test_recipe_options.py",
            "tests/bench/kinds/test_identity.py",
        ),
        ("options of a method are neither in the key nor trained with", "if value != grid[0]:", "if False:"),
    ),
    *faults(
        "bench/cards/suites.py",
        (
            "tests/bench/kinds/test_identity.py",
            "tests/bench/cards/test_recipe_options.py",
        ),
        (
            "options of a regulariser never reach it",
            "owners.append(Owner.regularizer(regularizer, known.get(regularizer, {})))",
            "pass",
        ),
    ),
    *faults(
        "bench/cards/datasets.py",
        ("tests/bench/kinds/test_identity.py",),
        (
            "other prompts, the same card",
            'include={"name", "classes", "templates", "splits"}',
            'include={"name", "classes", "splits"}',
        ),
        (
            "other images, the same card",
            'include={"name", "classes", "templates", "splits"}',
            'include={"name", "classes", "templates"}',
        ),
    ),
    *faults(
        "bench/cards/recipes.py",
        ("tests/bench/cards/test_recipe_options.py",),
        (
            "rank 4 and rank 4.0 are two experts",
            "value = _like(grid[0], found[owner.qualified(option)])",
            "value = found[owner.qualified(option)]",
        ),
        (
            "an option takes the place of the loop's number of its name",
            "shared = option in LOOP or",
            "shared = option in () or",
        ),
    ),
]
