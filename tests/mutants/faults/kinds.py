"""Faults of the other kinds of cells."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/kinds/zero_shot.py",
        ("tests/bench/kinds/test_kind_zero_shot.py",),
        (
            "zero-shot validation is measured on test",
            "session.image_sets(cell, [(task, fingerprint)], split)",
            'session.image_sets(cell, [(task, fingerprint)], "test")',
        ),
        ("the pretrained model competes on a board", 'board="reference"', 'board="data-free"'),
    ),
    *faults(
        "bench/kinds/imported.py",
        ("tests/bench/kinds/test_kind_imported.py",),
        ("a damaged imported vector is evaluated", '!= about["vector_sha256"]', '== ""'),
        ("imported tangent models are evaluated as ordinary ones", "tangent=tangent), facts", "tangent=False), facts"),
        ("published experts are no experts of a board", "kind=expert.Finetune.kind", "kind=cell.kind"),
    ),
    *faults(
        "bench/kinds/expert.py",
        ("tests/bench/kinds/test_kind_strength.py",),
        (
            "methods see other batches, nothing is paired",
            'seed=seed_of("finetune", cell.task, cell.seed)',
            'seed=seed_of("finetune", cell.finetuning, cell.seed)',
        ),
        (
            "experts are trained on validation images",
            '[(cell.task, cell.card)], "train")',
            '[(cell.task, cell.card)], "validation")',
        ),
    ),
    *faults(
        "bench/kinds/expert.py",
        ("tests/bench/kinds/test_kind_expert_values.py",),
        (
            "regularised experts are plain ones",
            "session.registry.regularizers[cell.regularizer] if cell.regularizer else None",
            "None",
        ),
        ("an interrupted fine-tune begins again", "checkpoint=session.checkpoint(cell)", "checkpoint=None"),
        ("tangent experts are evaluated as ordinary models", "tangent=method.tangent)", "tangent=False)"),
        (
            "experts do not say which vector is theirs",
            '"vector_sha256": task_vectors.sha256(data)',
            '"vector_sha256": ""',
        ),
        (
            "LoRA experts lose their factors",
            "task_vectors.dump(expert.delta, expert.factors, about)",
            "task_vectors.dump(expert.delta, None, about)",
        ),
        (
            "experts are trained on other pixels than they are tested on",
            "train.labels, base.card.mean, base.card.std",
            "train.labels, base.card.std, base.card.std",
        ),
        ("experts have no test rows", "for split in SPLITS[1:]:", "for split in SPLITS[:2]:"),
    ),
    *faults(
        "bench/kinds/expert.py",
        ("tests/bench/planning/test_grid.py",),
        (
            "a changed regulariser passes for the old one in every expert",
            "for table, name in (own, added) if name",
            "for table, name in (own,) if name",
        ),
        (
            "the recipe of the grid and of the command line is lost",
            "catalogue.options, **setting.recipe)",
            "catalogue.options)",
        ),
    ),
    *faults(
        "bench/kinds/zero_shot.py",
        ("tests/bench/planning/test_grid.py",),
        ("zero-shot has no control", "(*setting.tasks, suite.control)", "setting.tasks"),
    ),
    *faults(
        "bench/kinds/imported.py",
        ("tests/bench/planning/test_grid.py",),
        ("published experts of another suite are merged", "if (c.suite, c.backbone", "if (suite.name, c.backbone"),
        (
            "published experts of another backbone are merged",
            "made != (backbone.fingerprint, suite.card(task).fingerprint)",
            "made[1] != suite.card(task).fingerprint",
        ),
    ),
    *faults(
        "bench/kinds/negation.py",
        ("tests/bench/kinds/test_experiments.py",),
        (
            "negation's control has the card of the target",
            "control=suite.control, control_card=control",
            "control=suite.control, control_card=e.card",
        ),
        ("negation depends on all experts", "experts=(e.key,)", "experts=tuple(x.key for x in setting.experts)"),
    ),
    *faults(
        "bench/kinds/session.py",
        ("tests/bench/kinds/test_session_values.py",),
        ("an edited card passes for the planned one", "if card.fingerprint != fingerprint:", "if False:"),
        (
            "another backbone passes for the planned one",
            "if evaluator.backbone.card.fingerprint != cell.backbone_fingerprint:",
            "if False:",
        ),
        ("all splits of a task are the first one that was read", "where = task, split, base", 'where = task, "", base'),
        ("every task has the first task's head", "base.heads[task]", "next(iter(base.heads.values()))"),
        ("the reference accuracy is always that of test", 'if r["split"] == split)', 'if r["split"] == "test")'),
        (
            "regularised tangent models are evaluated as ordinary ones",
            "[names.finetuning(finetuning).method].tangent",
            '[names.finetuning(finetuning).method].tangent and "+" not in finetuning',
        ),
        ("the control counts in the headline of a negation", ' and r["task"] in names.split_tasks(r["tasks"])', ""),
        ("there is no head of the control", "for task in (*suite.tasks, suite.control)]", "for task in suite.tasks]"),
        ("images in another order are paired by row", "if not card.drawn:  # two", "if False:  # two"),
        ("models run where geometry should", 'if cell.runs_model else "cpu"', 'if not cell.runs_model else "cpu"'),
    ),
    *faults(
        "bench/kinds/negation.py",
        ("tests/bench/kinds/test_kind_negation.py",),
        ("negation adds", "[-c for c in cell.coefficients]", "list(cell.coefficients)"),
        (
            "negation chooses on test",
            'session.image_sets(cell, pair, "validation")',
            'session.image_sets(cell, pair, "test")',
        ),
    ),
    *faults(
        "bench/kinds/disentanglement.py",
        ("tests/bench/kinds/test_kind_disentanglement.py",),
        (
            "disentanglement is measured on test",
            'session.image_sets(cell, cell.tasks, "validation")',
            'session.image_sets(cell, cell.tasks, "test")',
        ),
    ),
    *faults(
        "bench/kinds/__init__.py",
        ("tests/bench/kinds/test_identity.py",),
        (
            "a cell that was tampered with is run under the old key",
            "damaged = cell.key != key if key else False",
            "damaged = False",
        ),
    ),
    *faults(
        "bench/kinds/code.py",
        ("tests/bench/kinds/test_code.py",),
        ("results of an old version pass for the new one's", "if recorded not in (None, ours):", "if False:"),
        ("results of an edited file pass for the new text's", "if now and then and now != then:", "if False:"),
        (
            "verify takes any version of a regulariser",
            ("return joint_version(own, registry.regularizers[cell.regularizer].version) if cell.regularizer else own"),
            "return own",
        ),
    ),
    *faults(
        "bench/kinds/protocol.py",
        ("tests/bench/checks/test_calibrate.py",),
        (
            "post-hoc linearisation is priced as ordinary models",
            "tangent = cell.linearised or catalogue",
            "tangent = catalogue",
        ),
        (
            "sweeps of tangent models are priced point by point",
            "min(1, cell.looks) if tangent else cell.looks",
            "cell.looks",
        ),
    ),
    *faults(
        "bench/kinds/geometry.py",
        ("tests/bench/kinds/test_session_values.py",),
        ("geometry waits for a GPU", "runs_model: ClassVar[bool] = False", "runs_model: ClassVar[bool] = True"),
    ),
    *faults(
        "bench/kinds/__init__.py",
        ("tests/bench/kinds/test_kinds.py",),
        ("experts are an experiment", "if issubclass(kind.cell, OfExperts))", "if kind.cell)"),
    ),
]
