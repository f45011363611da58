"""Faults of names and metrics."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/ground/metrics.py",
        ("tests/bench/ground/test_metrics.py",),
        (
            "normalised accuracy is a ratio of means",
            "return fmean(merged[task] / reference[task] for task in sorted(merged))",
            "return fmean(merged.values()) / fmean(reference[task] for task in merged)",
        ),
        (
            "ties go to the larger coefficient",
            "return max(sorted(points), key",
            "return max(sorted(points, reverse=True), key",
        ),
        ("negation keeps what it should forget", "return min(allowed, key", "return max(allowed, key"),
        ("negation need not keep the control", "floor = keep * control[0.0] - 1e-12", "floor = 0.0"),
    ),
    *faults(
        "bench/ground/names.py",
        (
            "tests/bench/ground/test_names.py",
            "tests/bench/kinds/test_identity.py",
        ),
        ("published methods are unknown", "trained, _, family = name.partition(FAMILY)", 'trained, family = name, ""'),
    ),
    *faults(
        "bench/ground/names.py",
        ("tests/bench/ground/test_names.py",),
        (
            "published experts are compared with those trained here",
            'return Finetuning(self.method, "", self.family)',
            "return Finetuning(self.method)",
        ),
        ("a space is part of the operator's name", 're.split(r"(?=[~@])", plain)', 're.split(r"(?=[~])", plain)'),
        ("tasks of a row are one task", "return tuple(text.split(PLUS))", "return (text,)"),
    ),
]
