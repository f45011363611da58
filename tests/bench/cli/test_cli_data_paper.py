"""`bench data` over downloaded data sets, here tiny local copies: fetch, decode, check."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.app import call
from bench.pixels import images, sources
from tests.bench import miniature, paper

TASKS = ("mnist", "svhn", "eurosat")


def test_check_tells_hashes_and_fetch_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert call(["data", "check", "mnist", "--source", "hub", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    rows = [row.id for row in sources.rows(suite.card("mnist"), "test")]
    assert said["sha256"]["test"] == sources.row_hash(rows)
    assert (said["rows"]["test"], said["source"], said["problem"]) == (miniature.TEST, "hub", "")

    assert call(["data", "fetch", "mnist", "--decode"]) == 0
    out = capsys.readouterr().out
    assert "mnist: already here, source hub" in out
    folders = [images.folder_of(suite.card("mnist"), split, 224) for split in ("train", "validation", "test")]
    assert all(folder.is_dir() for folder in folders)
    assert call(["data", "fetch", "mnist", "--force"]) == 0
    assert not folders[0].exists()
    assert call(["data", "fetch", "mnist", "--decode"]) == 0
    assert all(folder.is_dir() for folder in folders)


def test_each_wrong_wish_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    for words, said in {
        ("fetch", "mnist,svhn", "--revision", "a" * 40): "--revision belongs to one data set",
        ("fetch", "mnist", "--source", "folder"): "mnist has no source 'folder'",
        ("fetch", "mnist", "--revision", "main"): "is not a 40-digit commit",
    }.items():
        assert said in refused("data", *words)
