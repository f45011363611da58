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
        ("tests/bench/face/test_face.py::test_the_digits_of_an_object_are_those_of_all_it_uses",),
        (
            "a constant of a notebook may change unnoticed",
            'parts[f"{what} {label}"] = _value(used, label, name)',
            "pass",
        ),
    ),
]
