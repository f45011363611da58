"""Published experts into a store and models out of it, through the command line, on a tower nobody has to download."""

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor

from bench.cards import suites
from bench.cli.app import call
from bench.errors import BenchError
from bench.exchange import checkpoints, experts
from bench.pixels import images
from bench.registry import live
from bench.store import task_vectors
from bench.store.store import Store
from bench.work import merge, weights
from tests.bench import paper

TASKS = ("mnist", "svhn", "eurosat")
FAMILY = "nonlinear:task_vectors"


def original(root: Path, task: str) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint as released, and its image tower's parameters: the pretrained ones and noise of the task."""
    whole = safetensors.torch.load_file(weights.weights_file(suites.backbone("ViT-B-32")))
    torch.manual_seed(TASKS.index(task))
    for name in [n for n in whole if n.startswith("visual.")]:
        whole[name] += 0.05 * torch.randn_like(whole[name])
    path = root / f"{task.upper()}Val" / "finetuned.pt"
    path.parent.mkdir(parents=True)
    torch.save(whole, path)
    return path, {n.removeprefix("visual."): t for n, t in whole.items() if n.startswith("visual.")}


def bench(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = call([str(w) for w in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_every_file_has_a_task_given_or_told_by_its_path(tmp_path: Path) -> None:
    suite = suites.load("vision8")
    files = [tmp_path / "DTDVal" / "finetuned.pt", tmp_path / "clip-vit-base-patch32_stanford-cars", tmp_path / "x.pt"]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert experts.tasks_of(files[:2], (), suite) == ["dtd", "cars"]
    assert experts.tasks_of(files, ("mnist", "svhn", "sun397"), suite) == ["mnist", "svhn", "sun397"]
    for given, tasks, said in (
        (files, (), "x.pt: its path names no task of suite vision8; give --task"),
        (files, ("mnist",), "3 files for one task mnist; each expert has its own: give --task for each"),
        (files, ("mnist", "svhn"), "2 tasks given, files: 3; give --task once for each file, in their order"),
        (files[:1], ("mnist", "svhn"), "2 tasks given, files: 1; "),
        ([*files, tmp_path / "y.pt"], (), "cannot find .*y.pt; give the path of a checkpoint"),
    ):
        with pytest.raises(BenchError, match=said):
            experts.tasks_of(given, tasks, suite)


def test_a_file_that_is_not_there_is_said_before_anything_about_its_task(refused: Callable[..., str]) -> None:
    assert refused("import", "nothing.pt").startswith("bench import: cannot find nothing.pt; ")
    assert refused("import", "a.pt", "b.pt", "--task", "mnist").startswith("bench import: cannot find a.pt; ")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_published_experts_are_evaluated_merged_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    released = weights.weights_file(suites.backbone("ViT-B-32"))
    pretrained = safetensors.torch.load_file(released)
    base = {n.removeprefix("visual."): t for n, t in pretrained.items() if n.startswith("visual.")}
    made = {task: original(tmp_path / "release", task) for task in suite.tasks}
    store = tmp_path / "store"
    where = ("--store", store)

    files = [path for path, _ in made.values()]
    code, out, err = bench(capsys, "import", *files, "--family", "task_vectors", "--json", *where)
    assert (code, err) == (0, "")
    found = {said["task"]: said for said in json.loads(out)}
    assert list(found) == ["mnist", "svhn"]
    model = open_clip.create_model(paper.ARCHITECTURE, precision="fp32", load_weights=False).eval()
    for task, (path, params) in made.items():
        assert found[task]["sha256"] == checkpoints.file_hash(path)
        assert any("dtd/val" in note for note in found[task]["notes"])
        # The accuracy is that of the original module with the head that the text tower gives.
        model.visual.load_state_dict(params)
        test = images.load(suite.card(task), "test", 224)
        card = suites.backbone("ViT-B-32")
        shift, spread = (torch.tensor(x).view(1, 3, 1, 1) for x in (card.mean, card.std))
        heads = list((tmp_path / "cache/heads").glob(f"ViT-B-32-{task}-*.safetensors"))
        head = safetensors.torch.load_file(heads[0])["head"]
        with torch.no_grad():
            features = model.visual(images.normalise(torch.from_numpy(test.pixels.copy()), shift, spread))
        right = (features @ head.T).argmax(dim=1) == torch.from_numpy(test.labels.copy())
        assert found[task]["accuracy"] == pytest.approx(right.float().mean().item())

    grid = ("--grid", "paper", "--methods", FAMILY, "--operators", "average")
    code, out, err = bench(capsys, "run", *grid, "--local", "--json", *where)
    assert (code, json.loads(out)["failed"]) == (0, [])
    assert "nonlinear:task_vectors/average" in {row["row"] for row in json.loads(out)["rows"]}

    code, out, err = bench(capsys, "export", f"{FAMILY}/average", "--out", tmp_path / "merged.safetensors", *where)
    assert (code, err) == (0, "")
    expected = {n: (made["mnist"][1][n] + made["svhn"][1][n]) / 2 for n in base}
    loaded = open_clip.create_model(paper.ARCHITECTURE, pretrained=str(tmp_path / "merged.safetensors"))
    for name, parameter in loaded.visual.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loaded.text_projection.detach(), pretrained["text_projection"], rtol=0, atol=0)
    card_text = (tmp_path / "merged.safetensors.md").read_text()
    assert "| mnist |" in card_text
    assert f"sha256 {found['svhn']['sha256']}" in card_text

    key = found["mnist"]["key"]
    code, out, err = bench(capsys, "export", key[:8], "--format", "hf", "--out", tmp_path / "hf", *where)
    assert (code, err) == (0, "")
    again = checkpoints.import_expert(tmp_path / "hf")
    for name, tensor in made["mnist"][1].items():
        torch.testing.assert_close(again.params[name], tensor, rtol=1e-5, atol=1e-6)
    assert json.loads((tmp_path / "hf/config.json").read_text())["hidden_act"] == "quick_gelu"

    wrong = {
        ("export", "nonlinear:task_vectors/avrage", "--out", "x"): "did you mean 'nonlinear:task_vectors/average'",
        ("export", f"{FAMILY}/expert", "--out", "x"): "means 2 cells",
        ("export", key, "--out", tmp_path / "hf"): "exists; name another place",
        ("export", key, "--out", "x", "--format", "onnx"): "'onnx' is not one of",
        ("export", "ffff00", "--out", "x"): "means nothing in",
        ("import", files[0], "--sha256", "0" * 64): "damaged or another file",
        ("import", files[0], "--family", "fusionbrench"): "did you mean 'fusionbench'",
        ("import", files[0], "--task", "mnits"): "did you mean 'mnist'",
        ("import", files[0], "--finetuning", "nonlinaer"): "did you mean 'nonlinear'",
        ("import", released): "give --task",
        (
            "import",
            released,
            "--task",
            "mnist",
        ): "pretrained weights themselves",
        ("import", tmp_path / "nothing.pt", "--task", "mnist"): "cannot find",
        ("import", *files, "--task", "mnist"): "give --task for each",
        ("run", "--grid", "paper", "--methods", "nonlinear:knots"): "no imported expert nonlinear:knots of mnist",
    }
    done = Store(store).done()
    for words, said in wrong.items():
        assert said in refused(*words, *where), words
    assert Store(store).done() == done
    assert not Path("x").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_published_adapters_keep_their_factors_and_merge_in_the_space_of_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    where = ("--store", tmp_path / "store")
    names = [f"transformer.resblocks.{layer}.attn" for layer in range(2)]
    made: dict[str, dict[str, Tensor]] = {}
    for task in TASKS[:2]:
        tensors = {f"base_model.model.{name}.lora_A.weight": torch.randn(4, 64) for name in names}
        tensors |= {f"base_model.model.{name}.lora_B.weight": torch.randn(192, 4) for name in names}
        folder = tmp_path / task
        folder.mkdir()
        safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 2}))
        made[task] = tensors

    code, out, err = bench(capsys, "import", tmp_path / "mnist", tmp_path / "svhn", "--json", *where)
    assert (code, err) == (0, "")
    for said in json.loads(out):
        assert (said["finetuning"], said["format"], said["error"]) == ("lora:peft", "peft", "")
        delta, factors = task_vectors.load(Store(str(tmp_path / "store")).read_vector(said["key"]), "")
        for name in names:
            b, a = (made[said["task"]][f"base_model.model.{name}.lora_{half}.weight"] for half in "BA")
            torch.testing.assert_close(delta[f"{name}.in_proj_weight"], 0.5 * b @ a, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(factors[f"{name}.in_proj_weight"][0], 0.5 * b)
        assert set(delta) == {f"{name}.in_proj_weight" for name in names}

    opened = Store(str(tmp_path / "store"))
    operator = live.load(()).operator("average@core")
    merged = merge.merge(operator, {}, merge.Vectors(opened), [said["key"] for said in json.loads(out)], seed=0)
    for name in names:
        products = [
            t[f"base_model.model.{name}.lora_B.weight"] @ t[f"base_model.model.{name}.lora_A.weight"]
            for t in made.values()
        ]
        torch.testing.assert_close(merged[f"{name}.in_proj_weight"], sum(products) / 4, rtol=1e-4, atol=1e-4)

    for words, said in {
        ("--finetuning", "nonlinear"): "is a LoRA adapter, which nonlinear does not fit",
        ("--lora-alpha", "8"): "alpha is in its adapter_config.json",
    }.items():
        assert said in refused("import", tmp_path / "mnist", *words, *where), words


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_att_experts_are_only_what_att_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    where = ("--store", tmp_path / "store", "--finetuning", "att", "--json")
    whole = safetensors.torch.load_file(weights.weights_file(suites.backbone("ViT-B-32")))
    trained = [n for n in whole if n.startswith("visual.") and n.endswith(("in_proj_weight", "out_proj.weight"))]
    file = tmp_path / "mnist.pt"
    torch.save(whole | {n: whole[n] + 0.1 for n in trained}, file)
    code, out, err = bench(capsys, "import", file, *where)
    assert (code, err) == (0, "")
    (said,) = json.loads(out)
    delta, _ = task_vectors.load(Store(str(tmp_path / "store")).read_vector(said["key"]), "")
    assert set(delta) == {n.removeprefix("visual.") for n in trained}
    torch.save(whole | {n: whole[n] + 0.1 for n in (*trained, "visual.ln_pre.bias")}, file)
    err = refused("import", file, *where)
    assert "was not fine-tuned by att: 1 other tensors have moved, first ln_pre.bias" in err
