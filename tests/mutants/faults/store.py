"""Faults of records and stores."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/store/results.py",
        ("tests/bench/store/test_results.py",),
        ("merging stores takes contradictions", "    if conflicts:\n", "    if conflicts and False:\n"),
        (
            "other counts are no contradiction",
            "if dict(a[name]) != dict(b[name])]",
            'if a[name]["total"] != b[name]["total"]]',
        ),
        ("missing rows are no contradiction", "if set(a) != set(b):", "if False:"),
        (
            "task vectors stay behind",
            "for record in other.read_all(new):\n        if other.has_vector",
            "for record in other.read_all(new):\n        if False and other.has_vector",
        ),
        ("bits may contradict counts", "!= correct:\n", "!= correct and False:\n"),
        ("rows of one split may have other totals", 'if row["total_min"] != row["total_max"]:', "if False:"),
    ),
    *faults(
        "bench/store/store.py",
        (
            "tests/bench/store/test_store.py",
            "tests/bench/kinds/test_session_values.py",
        ),
        ("a success leaves the failure", "        if self.has_failure(record.key):\n", "        if False:\n"),
    ),
    *faults(
        "bench/store/store.py",
        ("tests/bench/store/test_store.py",),
        ("other images and other weights are mixed in one store", "        if recorded != value:", "        if False:"),
        ("stores of another version are read", 'about["version"] != SCHEMA_VERSION:', 'about["version"] == 0:'),
    ),
    *faults(
        "bench/store/records.py",
        ("tests/bench/store/test_store.py",),
        ("a tampered header is read", "hashlib.sha256(text).hexdigest().encode() != footer[CELL_SHA256]", "False"),
    ),
    *faults(
        "bench/store/records.py",
        ("tests/bench/store/test_results.py",),
        (
            "a pruned sweep hides a contradiction on test",
            'if row["split"] != "validation" or row["scaling"] not in named',
            'if row["scaling"] not in named',
        ),
    ),
    *faults(
        "bench/store/task_vectors.py",
        ("tests/bench/store/test_task_vectors.py",),
        ("LoRA factors are stored twice", "tensors[FACTOR_B + name] = b", "tensors[FACTOR_B + name] = a"),
    ),
]
