"""Faults of the functions of `bench`."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/face/models.py",
        ("tests/bench/face/test_face.py::test_merge_by_hand_in_memory_and_in_files",),
        (
            "whole models are merged in place of their updates",
            "{n: t.float() - base[n].float() for",
            "{n: t.float() for",
        ),
        ("a merged vector forgets its coefficient", "{name: scaling * tensor for", "{name: tensor for"),
    ),
    *faults(
        "bench/face/running.py",
        ("tests/bench/face/test_face.py::test_each_method_is_planned_with_each_regularizer_as_well_as_alone",),
        ("with a regulariser nothing is planned without it", "dict.fromkeys([*trained, *both])", "dict.fromkeys(both)"),
    ),
    *faults(
        "bench/face/models.py",
        ("tests/bench/face/test_face_values.py",),
        (
            "a merge in memory forgets its coefficient",
            "p.float() + scaling * merged[n].float()",
            "p.float() + merged[n].float()",
        ),
        (
            "bench.evaluate measures every split on test",
            "(images.load(card, split, base.card.image_size)",
            '(images.load(card, "test", base.card.image_size)',
        ),
        ("bench.evaluate takes tangent models for ordinary ones", "sets, tangent=tangent)", "sets, tangent=False)"),
    ),
    *faults(
        "bench/face/running.py",
        ("tests/bench/face/test_face_values.py",),
        (
            "seeds=3 runs one",
            "return tuple(range(index(given)))",
            "return (0,)",
        ),
        ("failures are not told in Python", "for key, error in state.failed.items()}", "for key, error in ()}"),
    ),
    *faults(
        "bench/face/reading.py",
        ("tests/bench/face/test_face_values.py",),
        ("bench.compare turns the sign", "cells, a, b, suite=", "cells, b, a, suite="),
        ("bench.verify repeats all seeds", "recorded.keys(row, seeds)", "recorded.keys(row)"),
    ),
]
