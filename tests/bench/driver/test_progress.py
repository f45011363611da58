"""What a run says: one line of state, time left by hand, failures at once, nothing on stdout."""

import io

import fakes
import pytest

from bench.driver.base import Drive
from bench.driver.progress import Progress, duration
from bench.kinds.protocol import Outcome
from bench.planning.schedule import Schedule


@pytest.fixture
def run():
    cells = fakes.smoke()[:5]  # zero-shot, two experts, two merges
    progress = Progress(io.StringIO())
    drive = Drive(Schedule(cells), progress)
    drive.workers = 2
    progress.begin(drive)
    yield cells, drive, progress
    progress.end()


def start(drive):
    cell = drive.state.take()
    drive.started(cell)
    return cell


def settle(drive, cell, status, seconds, error="", headline=None):
    drive.settle(Outcome(cell.key, status, seconds, error, headline or {}))


def test_line_counts_cells(run):
    _, drive, progress = run
    assert progress.line() == "0/5 cells done, 0 running"
    settle(drive, start(drive), "done", 4.0)
    start(drive)
    assert progress.line() == "1/5 cells done, 1 running, about 8 s left"


def test_time_left_is_mean_by_kind_times_what_is_left_over_workers(run):
    _, drive, _ = run
    assert drive.left() is None
    zero, first, second = (start(drive) for _ in range(3))
    settle(drive, zero, "done", 2.0)
    settle(drive, first, "done", 10.0)
    assert drive.left() == pytest.approx((10 + 2 * 6) / 2)  # an expert at 10 s, two merges at the mean of kinds, 6 s
    settle(drive, second, "done", 20.0)
    settle(drive, start(drive), "done", 1.0)
    assert drive.left() == pytest.approx(1 / 2)


def test_failure_is_said_at_once_with_what_it_blocks(run):
    cells, drive, progress = run
    start(drive)
    expert = start(drive)
    settle(drive, expert, "failed", 1.0, "out of luck")
    assert progress.stream.getvalue() == f"failed: {expert.label}: out of luck (blocks 2 more)\n"
    assert drive.state.counts.blocked == 2
    assert "1 failed, 2 blocked" in progress.line()
    assert cells[3].key in drive.state.blocked


def test_best_row_is_the_best_merge_not_the_best_expert(run):
    _, drive, progress = run
    for _ in range(3):
        headline = {"kind": "expert", "name": "nonlinear/expert", "accuracy": 0.99}
        settle(drive, start(drive), "done", 1.0, headline=headline)
    for accuracy, name in ((0.41, "nonlinear/ties"), (0.40, "nonlinear/average")):
        headline = {"kind": "addition", "name": name, "accuracy": accuracy}
        settle(drive, start(drive), "done", 1.0, headline=headline)
    assert progress.line() == "5/5 cells done, 0 running, best so far nonlinear/ties 41.00 %"


def test_plain_output_ends_with_the_state(run, capsys):
    _, drive, progress = run
    drive.note("starting")
    settle(drive, start(drive), "done", 1.0)
    progress.end()
    first, last = progress.stream.getvalue().splitlines()
    assert first == "starting"
    assert last.startswith("1/5 cells done, 0 running, about 2 s left, ")
    assert capsys.readouterr().out == ""


def test_terminal_gets_a_live_display():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    progress = Progress(Terminal())
    drive = Drive(Schedule(fakes.smoke()), progress)
    progress.begin(drive)
    start(drive)
    progress._live.refresh()
    shown = progress.stream.getvalue()
    progress.end()
    assert "0/9 cells done, 1 running" in shown
    assert "zero-shot 0 s" in shown


@pytest.mark.parametrize(("seconds", "text"), [(8.4, "8 s"), (75, "1:15"), (4000, "1:06:40"), (3600, "1:00:00")])
def test_duration(seconds, text):
    assert duration(seconds) == text
