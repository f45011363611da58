"""Faults of task addition and what is added to it."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/kinds/rows.py",
        ("tests/bench/kinds/test_kind_rows.py",),
        ("all seeds are one seed", 'f"{purpose}|{what}|{index}"', 'f"{purpose}|{what}"'),
        ("all tasks share their seeds", 'f"{purpose}|{what}|{index}"', 'f"{purpose}|{index}"'),
        (
            "correctness bits are kept for validation instead of test",
            'if split == "test" else b""',
            'if split != "test" else b""',
        ),
        ("rows say the defaults instead of what they are", "**usual, **more, **counts", "**more, **usual, **counts"),
    ),
    *faults(
        "bench/kinds/addition.py",
        ("tests/bench/kinds/test_kind_addition.py",),
        (
            "calibration on the images that choose the coefficient",
            'session.image_sets(cell, cell.tasks, "train")',
            'session.image_sets(cell, cell.tasks, "validation")',
        ),
        (
            "entropies of validation images under the protocol of test images",
            'lambda: session.image_sets(cell, cell.tasks, "test")',
            'lambda: session.image_sets(cell, cell.tasks, "validation")',
        ),
        (
            "the test split chooses the coefficient",
            'sweep(cell, session, merged, some, "validation", tangent)',
            'sweep(cell, session, merged, some, "test", tangent)',
        ),
        (
            "validation images pass for the test",
            'sweep(cell, session, vector, (chosen,), "test", tangent)',
            'sweep(cell, session, vector, (chosen,), "validation", tangent)',
        ),
        (
            "the choice of the coefficient sees the experts on test",
            'session.expert_accuracy(cell.experts, "validation")',
            'session.expert_accuracy(cell.experts, "test")',
        ),
        ("every validation row says it was chosen", '"selected": scaling == chosen', '"selected": True'),
        (
            "test rows name another coefficient than was tested",
            '"split": "test", "scaling": chosen',
            '"split": "test", "scaling": cell.coefficients[0]',
        ),
        ("rows on another board than was planned", '"board": cell.board', '"board": "data-free"'),
        (
            "a fixed coefficient is said to be chosen on validation",
            "coefficients.told(len(cell.coefficients) > 1",
            "coefficients.told(len(cell.coefficients) > 0",
        ),
        (
            "rows do not say what data the operator saw",
            '"; ".join([chosen, *(SAW[n] for n in needs if n in SAW)])',
            "chosen",
        ),
        (
            "random operators draw the same for every seed",
            'seed_of("merge", cell.operator, cell.seed)',
            'seed_of("merge", cell.operator, 0)',
        ),
        (
            "entropies of tangent experts are of ordinary models",
            "            tangent,\n            seed,",
            "            False,\n            seed,",
        ),
        (
            "vectors of an operator that knows the task go to other tasks",
            "zip(merged, sets, strict=True)",
            "zip(merged[::-1], sets, strict=True)",
        ),
        ("operators run with their defaults whatever the row says", "json.loads(cell.options)", "{}"),
    ),
    *faults(
        "bench/kinds/addition.py",
        (
            "tests/bench/kinds/test_kind_posthoc.py",
            "tests/bench/kinds/test_kind_addition.py",
        ),
        (
            "post-hoc linearisation is normalised by other experts than its own",
            "reference = reference or session",
            "reference = session",
        ),
    ),
    *faults(
        "bench/kinds/strength.py",
        (
            "tests/bench/kinds/test_kind_strength.py",
            "tests/bench/kinds/test_kind_posthoc.py",
        ),
        (
            "points over lambda lose the operator's options",
            '{**json.loads(r["options"]), "strength": strength}',
            '{"strength": strength}',
        ),
    ),
    *faults(
        "bench/kinds/addition.py",
        ("tests/bench/planning/test_grid.py",),
        (
            "searched operators stay on the data-free board",
            'facts["board"] == "data-free" and searched',
            'facts["board"] == "data-free" and not searched',
        ),
        (
            "a searched operator that sees data leaves its board",
            '"validation-tuned" if facts["board"] == "data-free" and searched',
            '"validation-tuned" if searched',
        ),
        ("options of the suite are ignored", "            | setting.suite.operators.get(operator, {})\n", ""),
        (
            "defaults come before the suite's options",
            (
                '{option: choices[0] for option, choices in facts["grid"].items()}\n            | '
                "setting.suite.operators.get(operator, {})"
            ),
            (
                "setting.suite.operators.get(operator, {})\n            | {option: choices[0] for option, choices "
                'in facts["grid"].items()}'
            ),
        ),
        (
            "operators run with the last of the values that a search tries",
            "choices[0] for option",
            "choices[-1] for option",
        ),
        (
            "fixed merges are renamed by how others are searched",
            "sweep=setting.sweep if searched else WHOLE",
            "sweep=setting.sweep",
        ),
        ("coarse grids are swept whole", "sweep=setting.sweep if searched else WHOLE", "sweep=WHOLE"),
        ("a changed operator passes for the old one", 'version=facts["version"]', "version=1"),
    ),
    *faults(
        "bench/kinds/posthoc.py",
        ("tests/bench/kinds/test_experiments.py",),
        ("tangent experts are linearised again", "return [] if setting.tangent else [", "return ["),
    ),
    *faults(
        "bench/kinds/base.py",
        ("tests/bench/kinds/test_experiments.py",),
        (
            "samples differ between methods and between runs",
            'key=lambda item: hashlib.sha256("+".join(name(item)).encode()).hexdigest()',
            "key=lambda item: hashlib.sha256(repr(id(item)).encode()).hexdigest()",
        ),
        (
            "samples are the first, all with the first task",
            'ranked = sorted(items, key=lambda item: hashlib.sha256("+".join(name(item)).encode()).hexdigest())',
            "ranked = list(items)",
        ),
    ),
    *faults(
        "bench/kinds/strength.py",
        ("tests/bench/kinds/test_experiments.py",),
        (
            "every point over lambda has the suite's strength",
            '{"recipe": replace(own.recipe, strength=strength)}',
            '{"recipe": own.recipe}',
        ),
    ),
    *faults(
        "bench/kinds/base.py",
        (
            "tests/bench/kinds/test_experiments.py",
            "tests/bench/planning/test_grid.py",
        ),
        (
            "merges of regularised experts pass for plain ones",
            '"finetuning": first.finetuning, "seed": first.seed',
            '"finetuning": first.method, "seed": first.seed',
        ),
        (
            "merges of two experts pass for merges of all",
            '"experts": tuple(e.key for e in experts)',
            '"experts": tuple(e.key for e in experts)[:2]',
        ),
    ),
    *faults(
        "bench/kinds/posthoc.py",
        ("tests/bench/kinds/test_session_values.py",),
        (
            "post-hoc linearisation is ordinary task addition",
            'Kind("posthoc", Posthoc, plan, run,',
            'Kind("posthoc", Posthoc, plan, addition.run,',
        ),
    ),
    *faults(
        "bench/kinds/strength.py",
        ("tests/bench/kinds/test_session_values.py",),
        ("experts of a search pass for a board's", "plan, run_expert, expert.cost", "plan, expert.run, expert.cost"),
    ),
    *faults(
        "bench/kinds/posthoc.py",
        ("tests/bench/kinds/test_kind_posthoc.py",),
        (
            "post-hoc linearisation chooses by its experts on test",
            'if r["split"] == "validation"}',
            'if r["split"] == "test"}',
        ),
        ("post-hoc experts are not linearised", "kind=cell.kind, tangent=True)", "kind=cell.kind, tangent=False)"),
    ),
    *faults(
        "bench/kinds/base.py",
        (
            "tests/bench/kinds/test_cells.py",
            "tests/bench/kinds/test_identity.py",
        ),
        ("cells of different kinds have one key", '{"kind": self.kind, "key_version"', '{"key_version"'),
    ),
    *faults(
        "bench/kinds/base.py",
        ("tests/bench/kinds/test_identity.py",),
        (
            "merges start before their experts are there",
            "        return self.experts",
            "        return self.experts[:1]",
        ),
    ),
    *faults(
        "bench/kinds/addition.py",
        ("tests/bench/checks/test_calibrate.py",),
        (
            "fixed merges are priced with a sweep",
            "coefficients.most(self.sweep, points) if points > 1 else 0",
            "coefficients.most(self.sweep, points)",
        ),
        (
            "coarse sweeps are priced as whole ones",
            "coefficients.most(self.sweep, points) if points > 1 else 0",
            "points if points > 1 else 0",
        ),
    ),
    *faults(
        "bench/kinds/posthoc.py",
        ("tests/bench/checks/test_calibrate.py",),
        (
            "experts of post-hoc linearisation cost nothing",
            "merge.differentiated + images_in(cell.reads)",
            "merge.differentiated",
        ),
    ),
    *faults(
        "bench/kinds/posthoc.py",
        ("tests/bench/kinds/test_kinds.py",),
        (
            "post-hoc linearisation competes on a board",
            "ranked: ClassVar[bool] = False",
            "ranked: ClassVar[bool] = True",
        ),
    ),
    *faults(
        "bench/kinds/subsets.py",
        ("tests/bench/kinds/test_experiments.py",),
        ("curves over sizes end before all tasks", "range(2, len(experts) + 1)", "range(2, len(experts))"),
    ),
]
