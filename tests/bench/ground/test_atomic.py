from pathlib import Path

import pytest

from bench.ground import atomic


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text("old")
    with atomic.whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path
        assert atomic.NAMED.fullmatch(part.name)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        with atomic.whole(path) as part:
            part.write_text("half")
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        fill(tmp_path / "found.json")
    with pytest.raises(FileNotFoundError), atomic.whole(tmp_path / "found.json"):
        pass  # nothing was written
    assert list(tmp_path.iterdir()) == []


def test_two_writers_never_share_a_name(tmp_path: Path) -> None:
    assert atomic.hidden(tmp_path / "a") != atomic.hidden(tmp_path / "a")
