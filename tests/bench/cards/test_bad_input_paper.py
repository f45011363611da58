"""Wrong data and weights of the paper's suite, through the command line: one line, exit code 2, nothing left behind."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from bench.cards import suites
from bench.cards.suites import Suite
from bench.cli.app import call
from bench.pixels import images
from bench.pixels.sources import decode
from bench.pixels.sources.hub import pattern
from bench.work import weights
from tests.bench import copies, paper

TASKS = ("mnist", "svhn", "eurosat")
RUN = ("run", "--grid", "paper", "--methods", "lora", "--operators", "average", "--local")


def install(root: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The miniature, with fewer steps than the recipe's warm-up has."""
    suite = paper.install("hub", root, monkeypatch, tasks=TASKS)
    few_steps = suite.model_copy(update={"recipe_defaults": suite.recipe_defaults | dict(paper.SHORT)})
    monkeypatch.setattr(suites, "load", lambda name: few_steps)
    return few_steps


def shard(suite: Suite, task: str, root: Path, part: str = "train") -> Path:
    (source,) = suite.card(task).sources
    name = pattern(source, part).replace("*", "00000-of-00001")  # type: ignore[arg-type]
    return root / "data" / source.repo / name  # type: ignore[union-attr]


def rewrite(
    suite: Suite,
    root: Path,
    change: Callable[[list[bytes], list[int]], object],
    names: int = 0,
    part: str = "train",
) -> None:
    """Write one of SVHN's shards again, with images and labels changed, or another number of class names."""
    path, card = shard(suite, "svhn", root, part), suite.card("svhn")
    table = pq.read_table(path)
    pictures, labels = ([row["bytes"] for row in table["image"].to_pylist()], table["label"].to_pylist())
    change(pictures, labels)
    classes = card.classes[:names] or card.classes
    copies.shard(path, pictures, labels, classes, row_group=16)


def few(pictures: list[bytes], labels: list[int]) -> None:
    del pictures[-1], labels[-1]


def damaged(pictures: list[bytes], labels: list[int]) -> None:
    pictures[7] = b"\x89PNG\r\n\x1a\nbroken"


def strange(pictures: list[bytes], labels: list[int]) -> None:
    labels[3] = 12


def untouched(pictures: list[bytes], labels: list[int]) -> None:
    pass


CASES: dict[str, tuple[Callable[[list[bytes], list[int]], None], int, str]] = {
    "count": (few, 0, "svhn: ufldl-stanford/svhn (train) has 49 rows, the card says 50: another version of the data"),
    "image": (damaged, 0, "cannot be decoded (cannot identify image file); replace the file"),
    "label": (strange, 0, "row train/3: label 12 is outside 0..9"),
    "classes": (untouched, 9, "has 9 classes, the card 10: another version of the data"),
}


@pytest.mark.parametrize(("change", "names", "words"), CASES.values(), ids=CASES)
def test_a_wrong_row_stops_a_run_before_its_first_cell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
    change: Callable[[list[bytes], list[int]], None],
    names: int,
    words: str,
) -> None:
    suite = install(tmp_path, monkeypatch)
    rewrite(suite, tmp_path, change, names)
    err = refused(*RUN, "--store", tmp_path / "store")
    assert words in err
    assert change is not damaged or "image svhn train/7:" in err
    assert not (tmp_path / "store").exists()
    assert not images.folder_of(suite.card("svhn"), "train", 224).exists()
    assert call(["data", "check", "svhn"]) == (1 if change is not damaged else 0)  # check does not decode
    assert call(["data", "fetch", "svhn,mnist", "--decode"]) == 2
    out, err = capsys.readouterr()
    assert "mnist test: " in out  # what is wrong with one does not stop the others
    assert err.startswith("bench data fetch: 1 of 2 data sets failed: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_pinned_hash_finds_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    suite = install(tmp_path, monkeypatch)
    assert call(["data", "check", "svhn"]) == 0
    said = capsys.readouterr().out
    first = (
        "svhn: train 45, validation 5, test 12 from hub; train+validation share 5 images (100 % of validation), "
        "train+test share 12 images (100 % of test), validation+test share 12 images (100 % of test)"
    )  # the miniature has two pictures in all
    assert said.splitlines()[0] == first
    assert "NOT VERIFIED: no row hash of train, validation, test is recorded" in said
    assert "run `bench data check svhn --pin`" in said
    assert call(["data", "check", "svhn", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert 'validation = "' + found["sha256"]["validation"] + '"' in said
    assert (found["verified"], "pinned" in found) == ([], False)

    assert call(["data", "check", "svhn", "--pin"]) == 0
    assert f"recorded in {tmp_path / 'data/hashes.json'}" in capsys.readouterr().out
    assert call(["data", "check", "svhn"]) == 0
    assert capsys.readouterr().out == first + "\n"

    swap = lambda pictures, labels: pictures.__setitem__(7, copies.png(copies.picture(123)))  # noqa: E731
    rewrite(suite, tmp_path, swap)
    assert call(["data", "check", "svhn"]) == 1
    assert "svhn: the train rows of source hub are not those that were recorded" in capsys.readouterr().out
    err = refused(*RUN, "--store", tmp_path / "store")
    assert "svhn: the train rows of hub are not those that were recorded" in err
    assert not (tmp_path / "store").exists()


def test_a_cache_of_another_preprocessing_and_changed_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    suite = install(tmp_path, monkeypatch)
    assert call(["data", "fetch", "svhn", "--decode"]) == 0
    folder = images.folder_of(suite.card("svhn"), "test", 224)
    pixels = bytearray((folder / "pixels.npy").read_bytes())
    pixels[-1] ^= 1
    (folder / "pixels.npy").write_bytes(pixels)
    capsys.readouterr()
    assert call(["data", "check", "svhn"]) == 1
    assert "pixels.npy is not as it was written" in capsys.readouterr().out
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"preprocessing": "0: shorter side to 256"}))
    err = refused(*RUN, "--store", tmp_path / "store")
    assert "were made with another preprocessing; run `bench data fetch svhn --force --decode`" in err
    assert call(["data", "fetch", "svhn", "--force", "--decode"]) == 0
    assert images.ready(suite.card("svhn"), "test", 224)


def test_images_in_another_order_never_meet_the_results_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    """Statistics pair images by their row: a second machine that reads another source must not add to the store."""
    suite = install(tmp_path, monkeypatch)
    where = ("--methods", "lora", "--local", "--store", str(tmp_path / "store"))
    assert call(["run", "--grid", "geometry", "--suite", "vision8", *where]) == 0
    kept = {p.stem: p.read_text() for p in (tmp_path / "store/inputs").iterdir()}
    assert set(kept) == {f"{task}-{split}" for task in suite.tasks for split in ("train", "validation", "test")} | {
        "weights-ViT-B-32", "eurosat-validation", "eurosat-test"
    }  # fmt: skip
    shutil.rmtree(tmp_path / "cache/images")

    def turned(pictures: list[bytes], labels: list[int]) -> None:
        pictures.reverse(), labels.reverse()

    rewrite(suite, tmp_path, turned, part="test")
    err = refused("run", "--grid", "negation", "--suite", "vision8", *where)
    assert "svhn-test on this machine" in err
    assert "another source of images" in err
    assert {p.stem: p.read_text() for p in (tmp_path / "store/inputs").iterdir()} == kept


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    install(tmp_path, monkeypatch)
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    err = refused(*RUN, "--store", tmp_path / "store")
    assert "cannot write the decoded images of " in err
    assert "free space or set BENCH_CACHE to another folder, then run again: it resumes" in err
    assert not (tmp_path / "store").exists()


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    from huggingface_hub import constants

    def unknown(*address: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("BENCH_CACHE", "BENCH_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    err = refused("data", "fetch", "dtd", "--source", "hub")
    assert "tanganke/dtd at d2afa97: no network (https://huggingface.co is unknown here)" in err
    err = refused("run", "--grid", "paper", "--store", tmp_path / "store")
    assert "12 thing(s) are missing: (1) weights of ViT-B-32: `hf download" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (
            {"visual.conv1.weight": (768, 3, 16, 16)},
            "visual.conv1.weight is [768, 3, 16, 16] instead of [768, 3, 32, 32]",
        ),
        (
            {"visual.transformer.resblocks.12.ln_1.weight": (768,)},
            "visual.transformer.resblocks.12.ln_1.weight is [768] instead of absent",
        ),
        ({"visual.proj": (768, 768)}, "visual.proj is [768, 768] instead of [768, 512]"),
        ({}, ""),
    ],
)
def test_a_weight_file_of_another_architecture(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
    shapes: dict[str, tuple[int, ...]],
    words: str,
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    card = suites.backbone("ViT-B-32")
    right = {"visual.conv1.weight": (768, 3, 32, 32), "visual.proj": (768, 512)}
    right |= {"visual.transformer.resblocks.11.ln_1.weight": (768,)}
    file = weights.weights_file(card)
    file.parent.mkdir()
    safetensors.torch.save_file({n: torch.zeros(size, dtype=torch.uint8) for n, size in (right | shapes).items()}, file)
    assert words in weights.misfit(card)
    assert (words == "") == (weights.misfit(card) == "")
    if words:
        err = refused("run", "--grid", "paper", "--backbones", "ViT-B-32", "--store", tmp_path / "store")
        assert f"weights of ViT-B-32: {file} is no file of ViT-B-32-quickgelu ({words})" in err
        assert not (tmp_path / "store").exists()


def test_architectures_that_are_no_plain_tower_are_left_to_open_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    for name in ("coca_ViT-B-32/laion2b_s13b_b90k", "ViT-B-16-SigLIP/webli", "RN50/openai"):
        file = weights.weights_file(suites.backbone(name))
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"whatever")
        assert weights.misfit(suites.backbone(name)) == ""


def test_a_weight_file_that_is_no_safetensors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    file = weights.weights_file(suites.backbone("ViT-B-32"))
    file.parent.mkdir()
    for content in (b"", b"PK\x03\x04" + bytes(100), b"\xff" * 64, (2).to_bytes(8, "little") + b"[]"):
        file.write_bytes(content)
        assert "not a safetensors file" in weights.misfit(suites.backbone("ViT-B-32"))
