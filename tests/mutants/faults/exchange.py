"""Faults of imports and exports."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/exchange/experts.py",
        ("tests/bench/exchange/test_exchange_values.py",),
        (
            "imports keep the hash of another file",
            '"vector_sha256": task_vectors.sha256(data)})',
            '"vector_sha256": expert.sha256})',
        ),
        ("all imported files are one cell", "sha256=expert.sha256,", 'sha256=weights.sha256(b""),'),
        ("imports do not name their card", "card=suite.card(task).fingerprint", 'card=""'),
        (
            "an exported negation adds",
            "session.vectors(key)[0], -scaling, tangent)",
            "session.vectors(key)[0], scaling, tangent)",
        ),
        ("exported models forget their coefficient", "chosen.scaling * t for", "t for"),
        (
            "exports take the first coefficient of the sweep, and their cards state validation accuracy",
            'if r["split"] == "test" and (r["operator"] or not merged)]',
            "if r['operator'] or not merged]",
        ),
        (
            "post-hoc linearisation is exported at the coefficient of its experts",
            'if r["split"] == "test" and (r["operator"] or not merged)]',
            'if r["split"] == "test"]',
        ),
        (
            "imported att experts hold more than attention",
            "        delta = _attention_only(delta, path)",
            "        pass",
        ),
        ("exports the first task's model", "merged[tasks.index(task)]", "merged[0]"),
        (
            "exports a model by another version than was measured",
            "    code.hold(session.registry, cell, record.provenance)\n",
            "",
        ),
    ),
]
