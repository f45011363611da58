"""Merging files: the same bits as in memory, little memory, whole files or none, errors that name file and tensor."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch.testing import assert_close

from bench.checks.laws import example
from bench.cli.app import call
from bench.errors import BenchError
from bench.exchange.merge_files import merge_files
from bench.store import task_vectors
from methods.merging import MERGING
from methods.modifiers import resolve

FILES = [name for name, op in MERGING.items() if not op.needs and not op.per_task]


def save(folder, vectors, factors=None):
    paths = []
    for i, vector in enumerate(vectors):
        path = folder / f"expert{i}.safetensors"
        path.write_bytes(task_vectors.dump(vector, factors[i] if factors else None, {}))
        paths.append(path)
    return paths


@pytest.mark.parametrize("name", FILES)
def test_files_give_the_same_bits_as_memory(tmp_path, name):
    few = {"iterations": 5} if "iterations" in MERGING[name].grid else {}
    vectors = example()
    out = merge_files(name, few, save(tmp_path, vectors), tmp_path / "merged.safetensors", seed=3)
    merged, factors = task_vectors.load(out.read_bytes(), "merged")
    expected = MERGING[name].merge(vectors, seed=3, **few)
    assert factors == {}
    assert set(merged) == set(expected)
    assert all(torch.equal(merged[n], expected[n]) for n in expected)


@pytest.mark.parametrize("name", ["task_arithmetic~lines", "iso_c@split_qkv", "ties~norm_match"])
def test_composed_operators_merge_files(tmp_path, name):
    vectors = example()
    out = merge_files(name, {}, save(tmp_path, vectors), tmp_path / "merged.safetensors", scaling=0.5)
    merged, _ = task_vectors.load(out.read_bytes(), "merged")
    expected = resolve(name).merge(vectors)
    assert_close(merged, {n: 0.5 * x for n, x in expected.items()})


@pytest.mark.parametrize("name", ["ties@core", "tsv_m@core", "ties@knots"])
def test_lora_factors_travel_in_the_files(tmp_path, name):
    factors = [{"w": (torch.randn(6, 2), torch.randn(2, 5))} for _ in range(3)]
    vectors = [{"w": b @ a} for b, a in (f["w"] for f in factors)]
    out = merge_files(name, {}, save(tmp_path, vectors, factors), tmp_path / "merged.safetensors")
    merged, left = task_vectors.load(out.read_bytes(), "merged")
    assert left == {}
    assert_close(merged, resolve(name).merge(vectors, factors=factors))


def test_with_pretrained_the_output_is_a_model_under_its_own_names(tmp_path):
    vectors = [{"proj": torch.full((2, 2), v)} for v in (1.0, 3.0)]
    model = {
        "visual.proj": torch.full((2, 2), 10.0, dtype=torch.float16),
        "visual.ln.bias": torch.ones(2),
        "text.w": torch.ones(3),
        "steps": torch.tensor(7),
    }
    safetensors.torch.save_file(model, tmp_path / "clip.safetensors")
    out = merge_files(
        "task_arithmetic",
        {},
        save(tmp_path, vectors),
        tmp_path / "merged.safetensors",
        pretrained=tmp_path / "clip.safetensors",
        scaling=0.5,
    )
    loaded = safetensors.torch.load_file(out)
    assert_close(loaded, {**model, "visual.proj": torch.full((2, 2), 12.0, dtype=torch.float16)})
    about = json.loads(safetensors.safe_open(out, "pt").metadata()["about"])
    assert about["operator"] == "task_arithmetic"
    assert about["experts"] == ["expert0.safetensors", "expert1.safetensors"]
    assert about["scaling"] == 0.5
    assert str(tmp_path) not in json.dumps(about)


def test_a_text_tower_that_shares_names_with_the_image_tower_stays_as_it_is(tmp_path):
    """Both towers of CLIP have a `transformer` and a `positional_embedding`; only `visual.` tells them apart."""
    base = {"w": torch.full((4,), 100.0), "visual.w": torch.ones(4), "p": torch.ones(3, 2), "visual.p": torch.zeros(5)}
    safetensors.torch.save_file(base, tmp_path / "clip.safetensors")
    for i, moved in enumerate((2.0, 4.0)):
        expert = {**base, "visual.w": base["visual.w"] + moved, "visual.p": base["visual.p"] - moved}
        safetensors.torch.save_file(expert, tmp_path / f"expert{i}.safetensors")
    experts = [tmp_path / "expert0.safetensors", tmp_path / "expert1.safetensors"]
    (tmp_path / "v").mkdir()
    vectors = save(tmp_path / "v", [{"w": torch.full((4,), v), "p": torch.full((5,), -v)} for v in (2.0, 4.0)])
    for files in (experts, vectors):
        out = merge_files("average", {}, files, tmp_path / "m.safetensors", pretrained=tmp_path / "clip.safetensors")
        expected = {**base, "visual.w": torch.full((4,), 4.0), "visual.p": torch.full((5,), -3.0)}
        assert_close(safetensors.torch.load_file(out), expected)


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    experts = save(tmp_path, [{"w": torch.ones(2)}] * 2)
    with pytest.raises(BenchError, match="pipe: it is a device or a pipe, not a file"):
        merge_files("average", {}, experts, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expert0.safetensors", "expert1.safetensors", "pipe"]


def test_experts_may_stand_apart_by_spaces_or_commas(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b, c = (p.name for p in save(tmp_path, [{"w": torch.full((2,), v)} for v in (1.0, 2.0, 6.0)]))
    for words in (["--experts", a, b, c], ["--experts", f"{a},{b}", c], ["--experts", a, "--experts", f"{b},{c}"]):
        assert call(["merge", "--operator", "average", *words, "--out", "m.safetensors"]) == 0
        assert_close(safetensors.torch.load_file("m.safetensors")["w"], torch.full((2,), 3.0))
        assert capsys.readouterr().out == "m.safetensors\n"


def test_whole_checkpoints_merge_by_their_image_tower(tmp_path):
    base = {"visual.w": torch.ones(4), "token_embedding.weight": torch.ones(50)}
    safetensors.torch.save_file(base, tmp_path / "clip.safetensors")
    for i, delta in enumerate(([4.0, -3.0, 1.0, 0.0], [2.0, 5.0, -0.5, 0.0])):
        (tmp_path / f"task{i}").mkdir()
        expert = {**base, "visual.w": base["visual.w"] + torch.tensor(delta)}
        safetensors.torch.save_file(expert, tmp_path / f"task{i}" / "model.safetensors")
    folders = [tmp_path / "task0", tmp_path / "task1"]  # a folder with one file in it
    out = merge_files(
        "ties", {"density": 0.5}, folders, tmp_path / "m.safetensors", pretrained=tmp_path / "clip.safetensors"
    )
    # Half of the tower's four entries; half of all 54 would have kept every entry.
    assert_close(safetensors.torch.load_file(out)["visual.w"], torch.tensor([4.0, 6.0, 1.0, 1.0]))
    with pytest.raises(BenchError, match="a checkpoint and not a task vector of bench; give --pretrained"):
        merge_files("ties", {}, folders, tmp_path / "m2.safetensors")


def test_half_precision_files_stay_half_precision(tmp_path):
    vectors = [{"w": torch.randn(4, 4).bfloat16()} for _ in range(2)]
    out = merge_files("average", {}, save(tmp_path, vectors), tmp_path / "merged.safetensors")
    merged, _ = task_vectors.load(out.read_bytes(), "merged")
    assert torch.equal(merged["w"], MERGING["average"].merge(vectors)["w"])
    assert merged["w"].dtype == torch.bfloat16


def spoil(path, content):
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("operator", "options", "damage", "message"),
    [
        ("tise", {}, None, "no merging operator named 'tise'; did you mean 'ties'"),
        ("ties", {"densty": 1}, None, "no option 'densty'"),
        ("ties", {"density": 20}, None, r"density=20 is outside \(0, 1\]"),
        ("regmean", {}, None, "not applicable to files, it needs 'grams'"),
        ("emr", {}, None, "merges to one model per task"),
        ("ties@core", {}, None, "not applicable, it needs the LoRA factors"),
        ("ties", {}, lambda p: spoil(p, p.read_bytes()[:-5]), "expert1.safetensors: truncated"),
        ("ties", {}, lambda p: spoil(p, pickle.dumps({})), "expert1.safetensors: a pickle"),
        (
            "ties",
            {},
            lambda p: spoil(p, b"\x10" + bytes(7) + b"not json at all!"),
            "expert1.safetensors: corrupt header",
        ),
        ("ties", {}, lambda p: p.unlink(), "expert1.safetensors: cannot be read"),
        (
            "average",
            {},
            lambda p: spoil(p, task_vectors.dump({"v": torch.ones(3)}, None, {})),
            "has no tensor 'v' that",
        ),
        (
            "average",
            {},
            lambda p: spoil(p, task_vectors.dump({"w": torch.ones(4)}, None, {})),
            r"'w' is \(3,\) in .*expert0.safetensors and \(4,\) in .*expert1.safetensors",
        ),
        (
            "average",
            {},
            lambda p: spoil(p, task_vectors.dump({"w": torch.tensor([1, float("nan"), 2])}, None, {})),
            "'w' of .*expert1.safetensors holds NaN",
        ),
        (
            "ties",
            {},
            lambda p: spoil(p, task_vectors.dump({"w": torch.tensor([1, float("inf"), 2])}, None, {})),
            "'w' of .*expert1.safetensors holds NaN or infinity",
        ),
    ],
)
def test_errors_name_file_and_tensor_and_leave_nothing_behind(tmp_path, operator, options, damage, message):
    paths = save(tmp_path, [{"w": torch.ones(3)}, {"w": torch.ones(3)}])
    if damage:
        damage(paths[1])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BenchError, match=message) as caught:
        merge_files(operator, options, paths, tmp_path / "merged.safetensors")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_too_few_experts_and_other_backbones(tmp_path):
    paths = save(tmp_path, [{"w": torch.ones(3)}])
    with pytest.raises(BenchError, match="needs at least 1 experts, got 0"):
        merge_files("ties", {}, [], tmp_path / "merged.safetensors")
    safetensors.torch.save_file({"w": torch.ones(4)}, tmp_path / "other.safetensors")
    with pytest.raises(BenchError, match=r"'w' is \(3,\) in .*expert0.* and \(4,\) in .*other"):
        merge_files("ties", {}, paths, tmp_path / "m.safetensors", pretrained=tmp_path / "other.safetensors")
    with pytest.raises(BenchError, match="2 safetensors files in this folder; name one file"):
        merge_files("ties", {}, [tmp_path], tmp_path / "m.safetensors")


def checkpoint(path, w):
    safetensors.torch.save_file({"w": torch.tensor(w)}, path)
    return path


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"expert": [1.0, 2.0, 3.0, 4.0]}, r"'w' is \(3,\) in .*first.* and \(4,\) in .*expert"),
        ({"pretrained": [1.0, 2.0]}, r"'w' is \(3,\) in .*first.* and \(2,\) in .*pretrained"),
        ({"pretrained": [1.0, float("nan"), 2.0]}, "pretrained.safetensors: 'w' holds NaN or infinity"),
        ({"expert": [1.0, float("nan"), 2.0]}, "'w' of .*expert.safetensors holds NaN or infinity"),
        ({"scaling": float("nan")}, "scaling nan is not a finite number"),
        ({"out": "expert"}, "expert.safetensors is one of the files to merge"),
        ({"out": "pretrained"}, "pretrained.safetensors is one of the files to merge"),
        ({"out": "."}, "is a folder; name the file to write"),
    ],
)
def test_checkpoints_that_cannot_be_merged_are_one_line_too(tmp_path, spoilt, message):
    whole = {"first": [3.0, 2.0, 1.0], "expert": [1.0, 1.0, 1.0], "pretrained": [1.0, 2.0, 3.0]}
    files = {name: checkpoint(tmp_path / f"{name}.safetensors", spoilt.get(name, w)) for name, w in whole.items()}
    out = {**files, ".": tmp_path}.get(spoilt.get("out", ""), tmp_path / "merged.safetensors")
    before = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    with pytest.raises(BenchError, match=message) as caught:
        merge_files(
            "average",
            {},
            [files["first"], files["expert"]],
            out,
            pretrained=files["pretrained"],
            scaling=spoilt.get("scaling", 1.0),
        )
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in sorted(tmp_path.iterdir())} == before


def test_one_expert_for_an_operator_that_needs_two(tmp_path):
    two = MERGING["average"].with_(name="two", minimum_tasks=2)
    with pytest.raises(BenchError, match="two: needs at least 2 experts, got 1"):
        merge_files(two, {}, save(tmp_path, [{"w": torch.ones(3)}]), tmp_path / "merged.safetensors")


MEASURE = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from bench.exchange.merge_files import merge_files
folder, operator = Path(sys.argv[1]), sys.argv[2]
paths = sorted(folder.glob("expert*"))
merge_files("average", {}, [paths[-1]] * 2, folder / "warm.out")  # touch all code first
def status(field):
    return int(next(l for l in open("/proc/self/status") if l.startswith(field)).split()[1]) * 1024
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
merge_files(operator, {}, paths[:-1], folder / "merged.out")
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("operator", "models"), [("task_arithmetic", 0.5), ("magmax", 1.0), ("ties", 3.0), ("pcb", 3.0)]
)
def test_peak_memory(tmp_path, operator, models):
    # Eight experts of 40 tensors of 1 MiB: a model is 40 MiB, one tensor of every expert 8 MiB.
    g = torch.Generator().manual_seed(0)
    save(tmp_path, [{f"{i}": torch.randn(512, 512, generator=g) for i in range(40)} for _ in range(8)])
    (tmp_path / "expert9.safetensors").write_bytes(task_vectors.dump({"0": torch.ones(4)}, None, {}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), operator], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= models * 40 * 2**20, f"{int(done.stdout) / 2**20:.0f} MiB"
