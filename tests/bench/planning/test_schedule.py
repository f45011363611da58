"""The schedule by hand: a diamond of four cells, failures, resumption, order."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from bench.kinds.base import Cell
from bench.planning.schedule import Counts, Schedule


@dataclass(frozen=True)
class Toy(Cell):
    """A cell with a name and hand-written needs; its key is its name."""

    kind: ClassVar[str] = "toy"
    name: str
    wants: tuple[str, ...] = ()

    @property
    def key(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def needs(self) -> tuple[str, ...]:
        return self.wants


def toy(name, *wants):
    return Toy("suite", "backbone", "print", name, wants)


DIAMOND = [toy("a"), toy("b", "a"), toy("c", "a"), toy("d", "b", "c")]


def drain(schedule):
    """Finish everything, one at a time; the order in which cells ran."""
    order = []
    while (cell := schedule.take()) is not None:
        order.append(cell.key)
        schedule.finish(cell.key)
    return order


def test_a_cell_waits_for_all_its_needs():
    s = Schedule(DIAMOND)
    assert s.take().key == "a"
    assert s.take() is None
    assert not s.over
    s.finish("a")
    assert [s.take().key, s.take().key, s.take()] == ["b", "c", None]
    s.finish("c")
    assert s.take() is None
    s.finish("b")
    assert s.take().key == "d"
    assert s.exhausted
    assert not s.over
    s.finish("d")
    assert s.over
    assert s.counts == Counts(done=4, running=0, failed=0, blocked=0, pending=0)


def test_ready_cells_come_in_the_order_of_the_plan():
    cells = [toy("e1"), toy("m1", "e1"), toy("e2"), toy("m2", "e2")]
    assert drain(Schedule(cells)) == ["e1", "m1", "e2", "m2"]


def test_failure_blocks_all_that_need_it_and_nothing_else():
    s = Schedule([*DIAMOND, toy("e")])
    s.take()
    s.finish("a")
    s.take(), s.take(), s.take()
    s.finish("c")
    assert [c.key for c in s.fail("b", "boom")] == ["d"]
    assert s.failed == {"b": "boom"}
    assert s.blocked == {"d": "b"}
    s.finish("e")
    assert s.over
    assert s.counts == Counts(done=3, running=0, failed=1, blocked=1, pending=0)
    assert s.counts.total == 5


def test_failure_at_the_root_blocks_the_whole_chain_once():
    s = Schedule(DIAMOND)
    s.take()
    assert {c.key for c in s.fail("a", "boom")} == {"b", "c", "d"}
    assert s.blocked == {"b": "a", "c": "a", "d": "a"}
    assert s.over


def test_a_blocked_cell_stays_blocked_when_its_other_need_finishes():
    s = Schedule([toy("a"), toy("b"), toy("c", "a", "b")])
    s.take(), s.take()
    s.fail("a", "boom")
    s.finish("b")
    assert s.take() is None
    assert s.blocked == {"c": "a"}


def test_done_cells_are_not_run_again_and_release_what_needs_them():
    s = Schedule(DIAMOND, done={"a", "b", "elsewhere"})
    assert s.before == 2
    assert drain(s) == ["c", "d"]


def test_a_need_that_is_done_but_not_planned_counts():
    assert drain(Schedule([toy("m", "old")], done={"old"})) == ["m"]


def test_a_need_that_nobody_computes_blocks_at_once():
    s = Schedule([toy("m", "nowhere"), toy("n", "m")])
    assert s.blocked == {"m": "nowhere", "n": "nowhere"}
    assert s.over


def test_equal_cells_run_once():
    assert drain(Schedule([toy("a"), toy("a")])) == ["a"]


def test_nothing_to_do_is_over():
    s = Schedule(DIAMOND, done={"a", "b", "c", "d"})
    assert s.over
    assert s.take() is None


def test_finishing_what_does_not_run_is_an_error():
    with pytest.raises(KeyError):
        Schedule(DIAMOND).finish("a")


@dataclass(frozen=True)
class Arithmetic(Toy):
    """A toy that runs no model."""

    runs_model: ClassVar[bool] = False


def test_cells_that_run_a_model_and_others_are_taken_apart_each_in_the_order_of_the_plan():
    a, b, c, d = toy("a"), Arithmetic("s", "b", "p", "b"), toy("c"), Arithmetic("s", "b", "p", "d", ("a",))
    s = Schedule([a, b, c, d])
    assert s.take(models=False) is b
    assert s.take(models=False) is None
    assert not s.exhausted
    assert s.take(models=True) is a
    s.finish("a")
    assert s.take() is c
    assert s.take(models=True) is None
    assert s.take() is d
    assert s.exhausted
    s = Schedule([a, b, c, d])
    assert [s.take().key for _ in range(3)] == ["a", "b", "c"]
