import numpy as np
import pytest
import torch
from torch import Tensor

from bench.cards import datasets
from bench.pixels.images import Images
from bench.work import backbone
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator, Scaled, predict

CARD = datasets.load("digits")
SCALINGS = (0.0, 0.3, 1.0)


@pytest.fixture(scope="module")
def base() -> Backbone:
    return backbone.load("mini", [CARD])


@pytest.fixture(scope="module")
def pictures() -> Images:
    rng = np.random.default_rng(0)
    return Images(rng.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 70))


def update(base: Backbone, scale: float = 0.02) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {n: scale * p.std() * torch.randn(p.shape, generator=g) for n, p in base.pretrained.items() if p.ndim == 2}


def test_head_equals_open_clip(base: Backbone) -> None:
    """The head against open_clip called directly: mean of normalised prompts, normalised, times the scale."""
    import open_clip

    model = backbone._create(base.card).eval()
    tokenizer = open_clip.get_tokenizer("mini")
    with torch.no_grad():
        prompts = [
            model.encode_text(tokenizer([t.replace("{}", CARD.classes[3])]), normalize=True)[0] for t in CARD.templates
        ]
        mean = torch.stack(prompts).mean(dim=0)
        expected = mean / mean.norm() * model.logit_scale.exp()
    torch.testing.assert_close(base.heads["digits"][3], expected, rtol=1e-5, atol=1e-5)


def test_features_equal_open_clip(base: Backbone, pictures: Images) -> None:
    model = backbone._create(base.card).eval()
    pixels = base.normalise(torch.from_numpy(pictures.pixels))
    with torch.no_grad():
        torch.testing.assert_close(
            base.tower(base.pretrained, pixels), model.encode_image(pixels), rtol=1e-4, atol=1e-5
        )


def test_sweep_in_place_equals_rebuilt_models(base: Backbone, pictures: Images) -> None:
    merged, head = update(base, 0.5), base.heads["digits"]
    swept = Evaluator(base, batch_size=32).sweep(merged, SCALINGS, [(pictures, head)], tangent=False)
    labels, pixels = torch.from_numpy(pictures.labels), base.normalise(torch.from_numpy(pictures.pixels))
    for scaling, (right,) in zip(SCALINGS, swept, strict=True):
        model = backbone._create(base.card).eval()
        state = {n: p + scaling * merged[n] if n in merged else p for n, p in base.pretrained.items()}
        model.visual.load_state_dict(state, strict=False)
        with torch.no_grad():
            expected = predict(model.encode_image(pixels), head) == labels
        assert right.tolist() == expected.tolist()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_features_of_both_sweeps_are_those_of_rebuilt_models(
    base: Backbone, pictures: Images, scaling: float
) -> None:
    """Directions of features to 1e-5: the weights in place against open_clip, one derivative against one each."""
    merged, pixels = update(base, 0.5), base.normalise(torch.from_numpy(pictures.pixels))
    unit = torch.nn.functional.normalize
    model = backbone._create(base.card).eval()
    state = {n: p + scaling * merged[n] if n in merged else p for n, p in base.pretrained.items()}
    model.visual.load_state_dict(state, strict=False)
    with torch.no_grad():
        found = base.tower(Scaled(base.pretrained, merged).at(scaling), pixels)
        torch.testing.assert_close(unit(found), model.encode_image(pixels, normalize=True), rtol=0, atol=1e-5)
        f0, jvp = base.tower.dual(base.pretrained, merged, pixels)
        own, derivative = base.tower.dual(base.pretrained, {n: scaling * t for n, t in merged.items()}, pixels)
        torch.testing.assert_close(unit(f0 + scaling * jvp), unit(own + derivative), rtol=0, atol=1e-5)
        if scaling:
            assert (unit(f0) - unit(f0 + scaling * jvp)).abs().max() > 1e-3


def test_a_tangent_model_without_update_is_the_pretrained_model(base: Backbone, pictures: Images) -> None:
    pixels = base.normalise(torch.from_numpy(pictures.pixels))
    nothing = {name: torch.zeros_like(p) for name, p in base.pretrained.items()}
    with torch.no_grad():
        value, derivative = base.tower.dual(base.pretrained, nothing, pixels)
        assert torch.equal(value + derivative, base.tower(base.pretrained, pixels))


def test_coefficient_zero_is_evaluated_once(base: Backbone, pictures: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretrained model's answers are those of coefficient 0, and serve the next sweep too."""
    head, evaluator = base.heads["digits"], Evaluator(base, batch_size=32)
    first = evaluator.sweep(update(base), (0.0, 1.0), [(pictures, head)], tangent=False)
    assert first[0][0].tolist() == evaluator.correct(base.pretrained, (pictures, head))[0].tolist()
    asked: list[object] = []
    monkeypatch.setattr(Evaluator, "correct", lambda self, params, *rest: asked.append(params) or torch.ones(1))
    (again, _) = evaluator.sweep(update(base, 0.5), (0.0, 1.0), [(pictures, head)], tangent=False)
    assert again[0] is first[0][0]
    assert len(asked) == 1


def test_tangent_sweep_equals_one_jvp_a_coefficient(base: Backbone, pictures: Images) -> None:
    merged, head = update(base), base.heads["digits"]
    swept = Evaluator(base, batch_size=32).sweep(merged, SCALINGS, [(pictures, head)], tangent=True)
    pixels, labels = base.normalise(torch.from_numpy(pictures.pixels)), torch.from_numpy(pictures.labels)
    for scaling, (right,) in zip(SCALINGS, swept, strict=True):
        with torch.no_grad():
            f0, jvp = base.tower.dual(base.pretrained, {n: scaling * t for n, t in merged.items()}, pixels)
        assert right.tolist() == (predict(f0 + jvp, head) == labels).tolist()


def test_batch_size_changes_nothing(base: Backbone, pictures: Images) -> None:
    head = base.heads["digits"]
    found = [Evaluator(base, size).correct(base.pretrained, (pictures, head))[0].tolist() for size in (7, 64, 100)]
    assert found[0] == found[1] == found[2]


def test_pretrained_is_never_written(base: Backbone) -> None:
    before = {n: p.clone() for n, p in base.pretrained.items()}
    params = Scaled(base.pretrained, update(base)).at(2.0)
    name = "transformer.resblocks.0.attn.in_proj_weight"
    assert not torch.equal(params[name], before[name])
    assert all(torch.equal(base.pretrained[n], before[n]) for n in before)


def test_a_foreign_parameter_is_refused(base: Backbone) -> None:
    with pytest.raises(ValueError, match=r"'visual\.extra', which is no parameter"):
        Scaled(base.pretrained, {"visual.extra": torch.zeros(1)})


@pytest.mark.parametrize("tangent", [False, True])
def test_without_fast_paths_every_coefficient_is_computed_alone(
    base: Backbone, pictures: Images, tangent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = backbone.load("mini", [CARD], fast=False)
    assert slow.tower.plain
    assert not slow.tower.fast
    monkeypatch.setattr("bench.work.evaluate.Scaled", None)
    found = Evaluator(slow).sweep(update(base, 0.5), SCALINGS, [(pictures, base.heads["digits"])], tangent=tangent)
    monkeypatch.undo()
    fast = Evaluator(base).sweep(update(base, 0.5), SCALINGS, [(pictures, base.heads["digits"])], tangent=tangent)
    for one, other in zip(found, fast, strict=True):
        assert torch.equal(one[0], other[0])


def test_coefficient_zero_of_every_split_and_head_is_its_own(base: Backbone, pictures: Images) -> None:
    evaluator, head = Evaluator(base), base.heads["digits"]
    other = Images(pictures.pixels, (pictures.labels + 1) % 10)
    sets = [(pictures, head), (other, head), (pictures, head.flip(0))]
    found = [evaluator.untouched(*one).tolist() for one in sets]
    assert found == [evaluator.correct(base.pretrained, one)[0].tolist() for one in sets]
    assert found[0] != found[1] != found[2] != found[0]
