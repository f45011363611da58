"""Weights of backbones: whose they are, which activation they want, and what becomes of heads when they change."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch

from bench.cards import datasets, suites
from bench.cards.datasets import DatasetCard
from bench.errors import DataError
from bench.work import backbone, weights
from tests.bench import paper

TASKS = ("mnist", "svhn", "eurosat")


class Texts:
    """A text tower that knows the embeddings of a few sentences; the scale of its logits is 10."""

    logit_scale = torch.tensor(math.log(10.0))
    known: ClassVar = {
        "a red cat": (3.0, 0.0), "a blue cat": (0.0, 1.0), "a red dog": (0.0, 2.0), "a blue dog": (0.0, 40.0),
    }  # fmt: skip

    def __init__(self) -> None:
        self.ready = False

    def eval(self) -> "Texts":
        self.ready = True
        return self

    def to(self, device: torch.device) -> "Texts":
        return self

    def encode_text(self, prompts: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        assert self.ready
        features = torch.tensor(list(self.known.values()))[prompts]
        return torch.nn.functional.normalize(features, dim=-1) if normalize else features


ANIMALS = datasets.load("digits").model_copy(
    update={"name": "animals", "classes": ("cat", "dog"), "templates": ("a red {}", "a blue {}")}
)


def test_a_head_averages_normalised_prompts_and_is_normalised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """cat: (3, 0) and (0, 1) are (1, 0) and (0, 1), their mean (1/2, 1/2), which is (1, 1) / sqrt 2 at length 1."""
    asked = []

    def tokenizer(architecture: str) -> Callable[[list[str]], torch.Tensor]:
        asked.append(architecture)
        return lambda texts: torch.tensor([list(Texts.known).index(text) for text in texts])

    monkeypatch.setattr("open_clip.get_tokenizer", tokenizer)
    head = backbone.make_head(Texts(), "some tower", ANIMALS)
    torch.testing.assert_close(head, torch.tensor([[10 / 2**0.5, 10 / 2**0.5], [0.0, 10.0]]))
    assert head.dtype == torch.float32
    assert asked == ["some tower"]


def test_a_head_is_made_anew_for_other_weights_classes_templates_or_towers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    made: list[torch.Tensor] = []

    def counted(model: object, architecture: str, card: DatasetCard) -> torch.Tensor:
        made.append(torch.full((2, 2), float(len(made))))
        return made[-1]

    monkeypatch.setattr(backbone, "make_head", counted)
    tower = suites.backbone("mini")
    ways = {
        "first": ("weights", tower, ANIMALS),
        "other weights": ("others", tower, ANIMALS),
        "other classes": ("weights", tower, ANIMALS.model_copy(update={"classes": ("cat", "cow")})),
        "other templates": ("weights", tower, ANIMALS.model_copy(update={"templates": ("a red {}", "a green {}")})),
        "another tower": ("weights", tower.model_copy(update={"image_size": 64}), ANIMALS),
        "another name": ("weights", tower, ANIMALS.model_copy(update={"name": "beasts"})),
    }
    for _ in range(2):
        for place, (of, card, data) in enumerate(ways.values()):
            head = backbone._head(Texts(), of, card, data, torch.device("cpu"))
            assert head.tolist() == [[place, place]] * 2
    assert len(made) == len(ways)


def test_a_digest_follows_every_name_and_every_number() -> None:
    model = torch.nn.Linear(2, 2)
    first = backbone.digest(model)
    assert backbone.digest(model) == first
    with torch.no_grad():
        model.bias[1] += 1
    second = backbone.digest(model)
    other = torch.nn.Sequential(model)
    assert len({first, second, backbone.digest(other)}) == 3


def test_the_towers_pixels_are_normalised_by_its_card() -> None:
    base = backbone.load("mini", [])
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 1, 1)
    found = base.normalise(pixels)
    by_hand = [(x - m) / s for x, m, s in zip((0.0, 1.0, 0.2), base.card.mean, base.card.std, strict=True)]
    torch.testing.assert_close(found[1].flatten(), torch.tensor(by_hand))


def test_a_backbone_has_one_head_for_each_data_set() -> None:
    pair = [datasets.load("digits"), datasets.load("signs")]
    base = backbone.load("mini", pair)
    assert {name: len(head) for name, head in base.heads.items()} == {"digits": 10, "signs": 20}
    lengths = torch.cat(list(base.heads.values())).norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand(30), rtol=1e-5, atol=1e-4)


def test_other_weights_are_noticed_and_never_meet_the_heads_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    tasks = [suite.card("mnist")]
    first = backbone.load("ViT-B-32", tasks)
    file = weights.weights_file(suites.backbone("ViT-B-32"))
    kept = file.with_suffix(".sha256")
    assert kept.read_text() == first.sha256 + "\n"
    tensors = safetensors.torch.load_file(file)
    other = tensors | {"text_projection": tensors["text_projection"].flip(1)}
    safetensors.torch.save_file({n: t.contiguous() for n, t in other.items()}, file)
    with pytest.raises(DataError, match="are not those that were used here before") as caught:
        backbone.load("ViT-B-32", tasks)
    assert f"remove {kept}" in str(caught.value)
    kept.unlink()
    second = backbone.load("ViT-B-32", tasks)
    assert second.sha256 != first.sha256
    # The image tower is the same, the text tower is not: a head from the cache of the first would be wrong in silence.
    torch.testing.assert_close(second.heads["mnist"], first.heads["mnist"].flip(1), rtol=1e-4, atol=1e-5)
    assert len(list((tmp_path / "cache/heads").glob("ViT-B-32-mnist-*.safetensors"))) == 2
    safetensors.torch.save_file(tensors, file)
    kept.unlink()
    again = backbone.load("ViT-B-32", tasks)
    torch.testing.assert_close(again.heads["mnist"], first.heads["mnist"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "right"),
    [("ViT-B-32/openai", "ViT-B-32-quickgelu/openai"), ("ViT-L-14/openai", "ViT-L-14-quickgelu/openai")],
)
def test_a_tower_with_the_wrong_activation_is_refused_even_from_a_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, right: str
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = weights.weights_file(suites.backbone(name))
    file.parent.mkdir()
    file.write_bytes(b"never read")
    with pytest.raises(DataError, match=f"want the other activation; use {right}"):
        backbone.load(name, ())
    file.rename(weights.weights_file(suites.backbone(right)))
    with pytest.raises(DataError, match="cannot be loaded"):  # the right name passes this check and meets the file
        backbone.load(right, ())


def test_weights_that_nobody_can_reach_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip retries for a minute and tells of each time; what to do is known before."""
    import open_clip

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(
        DataError, match=r"not here .* run `hf download timm/vit_base_patch32_clip_224.openai` .* put the"
    ):
        backbone.load("ViT-B-32", [])


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14"])
def test_the_papers_towers_have_quickgelu(name: str) -> None:
    import open_clip
    from open_clip.transformer import QuickGELU

    card = suites.backbone(name)
    assert open_clip.get_pretrained_cfg(card.architecture, card.weights)["quick_gelu"]
    assert open_clip.get_pretrained_cfg(card.architecture, card.weights)["hf_hub"].strip("/") == card.hub
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(card.architecture))
    assert {type(block.mlp.gelu) for block in model.visual.transformer.resblocks} == {QuickGELU}


def test_processes_that_start_together_read_the_prompts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    asked: list[str] = []

    def slowly(model: object, architecture: str, card: DatasetCard) -> torch.Tensor:
        asked.append(card.name)
        time.sleep(0.3)
        return torch.ones(2, 48)

    monkeypatch.setattr(backbone, "make_head", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: backbone.load("ViT-B-32", [suite.card("mnist")]), range(3)))
    assert asked == ["mnist"]
    assert all(torch.equal(base.heads["mnist"], torch.ones(2, 48)) for base in found)


def test_a_head_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=TASKS)
    (tmp_path / "cache/heads").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write .*free space or set BENCH_CACHE"):
        backbone.load("ViT-B-32", [suite.card("mnist")])
