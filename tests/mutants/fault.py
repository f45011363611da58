"""What a planted fault is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One wrong edit of one file: `old` occurs exactly once in it (`tests/test_mutants.py` says where it no longer
    does), `new` takes its place. `why`: what would be wrong with the results.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """Files, or functions of them where others are slow (`FILE::NAME`), of which one must fail."""
    why: str


def faults(file: str, tests: tuple[str, ...], *edits: tuple[str, str, str]) -> list[Fault]:
    """Faults of one file that the same tests notice; of each `(why, old, new)`."""
    return [Fault(file, old, new, tests, why) for why, old, new in edits]
