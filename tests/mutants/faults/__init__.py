"""Faults that were planted by hand, by room, each with the tests that must notice it."""

from tests.mutants.fault import Fault
from tests.mutants.faults import (
    addition,
    boards,
    cards,
    checks,
    cli,
    driver,
    exchange,
    face,
    ground,
    kinds,
    methods,
    pixels,
    planning,
    registry,
    store,
    tables,
    work,
)

ROOMS = (
    addition,
    cards,
    checks,
    cli,
    driver,
    exchange,
    face,
    ground,
    kinds,
    boards,
    methods,
    pixels,
    planning,
    registry,
    store,
    tables,
    work,
)
FAULTS: list[Fault] = [fault for room in ROOMS for fault in room.FAULTS]
