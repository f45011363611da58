"""Faults of what is said of methods."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/registry/catalogue.py",
        ("tests/bench/planning/test_grid.py",),
        ("a changed regulariser passes for the old one", "return method + 1000 * regularizer", "return method"),
    ),
    *faults(
        "bench/registry/facts.py",
        ("tests/bench/registry/test_facts.py",),
        ("operators that see data do not say so", '"needs": list(op.needs)', '"needs": []'),
    ),
    *faults(
        "bench/registry/source.py",
        ("tests/bench/face/test_face.py",),
        ("a constant of a notebook may change unnoticed", 'parts[f"{what} {label}"] = repr(used)', "pass"),
    ),
]
