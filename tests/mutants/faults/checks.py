"""Faults of verify, garbage and the laws."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/checks/garbage.py",
        ("tests/bench/checks/test_garbage.py",),
        (
            "published experts are garbage",
            '"" if key in done or f"imports/{key}.json" in paths else VECTOR',
            '"" if key in done else VECTOR',
        ),
        (
            "files of a run that is alive are garbage",
            "min(time.time() - 3600 * hours, begun)",
            "time.time() - 3600 * hours",
        ),
    ),
    *faults(
        "bench/checks/verify.py",
        ("tests/bench/checks/test_verify.py::test_changes_by_hand",),
        ("verify sees counts and no images", "elif dict(a) != dict(b):", 'elif a["correct"] != b["correct"]:'),
    ),
    *faults(
        "bench/checks/verify.py",
        ("tests/bench/checks/test_verify.py::test_a_record_under_another_name_and_one_of_another_version",),
        (
            "verify takes results of another version for its own",
            "    code.hold(registry, cell, record.provenance)\n",
            "",
        ),
    ),
    *faults(
        "bench/checks/laws.py",
        ("tests/bench/checks/test_laws.py",),
        ("operators may write into the experts", 'return f"changes {name!r} of an expert in place"', "return None"),
    ),
]
