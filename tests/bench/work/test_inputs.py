"""What operators get besides task vectors, against hooks in open_clip's own module and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.cards import datasets
from bench.errors import BenchError
from bench.pixels.images import Images
from bench.work import backbone, inputs
from bench.work.backbone import Backbone
from bench.work.inputs import Entropy, Supplier
from tests.bench.kinds.linear_session import LinearSession, LinearTower
from tests.bench.kinds.linear_session import pictures as drawn

CARD = datasets.load("digits")


@pytest.fixture(scope="module")
def base() -> Backbone:
    return backbone.load("mini", [CARD])


@pytest.fixture(scope="module")
def pictures() -> Images:
    rng = np.random.default_rng(1)
    return Images(rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 6))


def update(base: Backbone, seed: int, scale: float = 0.05) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {n: scale * p.std() * torch.randn(p.shape, generator=g) for n, p in base.pretrained.items() if p.ndim == 2}


def never() -> Any:
    raise AssertionError("these images are not for this need")


def supplier(base: Backbone, pictures: Images, vectors: list[dict[str, Tensor]], *, tangent: bool = False) -> Supplier:
    """`pictures` are for calibration."""
    sets = [(pictures, base.heads["digits"])] * len(vectors)
    return Supplier(base, vectors, lambda: sets, never, tangent, seed=0, batch=4)


def observed(base: Backbone, pictures: Images, vector: dict[str, Tensor], at: str) -> Tensor:
    """Mean outer product of the inputs of one module of open_clip's own tower, [in, in] float64."""
    visual = backbone._create(base.card).visual.eval()
    visual.load_state_dict({n: p + vector.get(n, 0.0) for n, p in base.pretrained.items()})
    seen: list[Tensor] = []
    visual.get_submodule(at).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        visual(base.normalise(torch.from_numpy(pictures.pixels)))
    flat = seen[0].flatten(0, -2).double()
    return flat.T @ flat / len(flat)


def test_grams_are_the_inputs_of_open_clips_own_layers(base: Backbone, pictures: Images) -> None:
    vector = update(base, 0)
    (grams,) = supplier(base, pictures, [vector])("grams")
    for name, module in (("mlp.c_fc.weight", "mlp.c_fc"), ("mlp.c_proj.weight", "mlp.c_proj")):
        expected = observed(base, pictures, vector, f"transformer.resblocks.0.{module}")
        torch.testing.assert_close(grams[f"transformer.resblocks.0.{name}"], expected, rtol=1e-4, atol=1e-5)


def test_the_last_blocks_projection_sees_all_tokens(base: Backbone, pictures: Images) -> None:
    """Its keys and values come from every token although only the class token is asked for."""
    vector = update(base, 0)
    (grams,) = supplier(base, pictures, [vector])("grams")
    last = max(int(n.split(".")[2]) for n in base.pretrained if n.startswith("transformer.resblocks."))
    visual = backbone._create(base.card).visual.eval()
    visual.load_state_dict({n: p + vector.get(n, 0.0) for n, p in base.pretrained.items()})
    seen: list[Tensor] = []
    block = visual.transformer.resblocks[last]
    block.ln_1.register_forward_hook(lambda _, args, out: seen.append(out.detach()))
    with torch.no_grad():
        visual(base.normalise(torch.from_numpy(pictures.pixels)))
    flat = seen[0].flatten(0, -2).double()
    found = grams[f"transformer.resblocks.{last}.attn.in_proj_weight"]
    torch.testing.assert_close(found, flat.T @ flat / len(flat), rtol=1e-4, atol=1e-5)


def test_regmean_pp_sees_the_merged_prefix_and_its_own_block(base: Backbone, pictures: Images) -> None:
    own, merged = update(base, 0), update(base, 1)
    grams = supplier(base, pictures, [own])("grams_of")(merged, 0, 1)
    assert {n.split(".")[2] for n in grams} == {"1"}
    mixed = {n: (own if n.startswith("transformer.resblocks.1.") else merged)[n] for n in own}
    expected = supplier(base, pictures, [mixed])("grams")[0]
    for name, gram in grams.items():
        torch.testing.assert_close(gram, expected[name])


def test_fisher_of_a_certain_model_by_hand(base: Backbone, pictures: Images) -> None:
    """Where one class has probability one half and the other the same, every label gives the same squared gradient."""
    direction = torch.randn(base.heads["digits"].shape[1], generator=torch.Generator().manual_seed(0))
    head = torch.stack([direction, -direction])
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    vector = {name: torch.zeros_like(base.pretrained[name])}
    one = Images(pictures.pixels[:1], pictures.labels[:1])
    sets = [(one, head)]
    (found,) = Supplier(base, [vector], lambda: sets, never, False, seed=0)("fisher")
    leaf = base.pretrained[name].clone().requires_grad_()
    pixels = base.normalise(torch.from_numpy(one.pixels))
    said = inputs.logits(base.tower(base.pretrained | {name: leaf}, pixels), head).log_softmax(dim=-1)
    squares = [torch.autograd.grad(said[0, y], leaf, retain_graph=True)[0].square() for y in (0, 1)]
    assert min((found[name] - s).abs().max() / s.abs().max() for s in squares) < 1e-5


@pytest.mark.parametrize("tangent", [False, True])
def test_entropy_gradient_is_a_finite_difference(base: Backbone, pictures: Images, tangent: bool) -> None:
    entropy = Entropy(base, [(pictures, base.heads["digits"])], tangent)
    merged, way = update(base, 0), update(base, 1)
    leaves = {n: t.clone().requires_grad_() for n, t in merged.items()}
    slopes = torch.autograd.grad(entropy(leaves, 0), list(leaves.values()), allow_unused=True)
    slope = sum(float((s * way[n]).sum()) for n, s in zip(leaves, slopes, strict=True) if s is not None)
    eps = 1e-2
    ends = [entropy({n: t + sign * eps * way[n] for n, t in merged.items()}, 0).item() for sign in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=0.02, abs=1e-4)


def test_entropy_of_identical_classes_is_log_of_their_number(base: Backbone, pictures: Images) -> None:
    head = torch.ones(4, base.heads["digits"].shape[1])
    assert Entropy(base, [(pictures, head)], False)({}, 0).item() == pytest.approx(np.log(4), abs=1e-5)


def test_unknown_need(base: Backbone, pictures: Images) -> None:
    with pytest.raises(BenchError, match="no operator input named 'gram'"):
        supplier(base, pictures, [update(base, 0)])("gram")


class TwoLayers(LinearTower):
    """features = V W x"""

    fast = True

    def __call__(self, params: Any, pixels: Tensor) -> Tensor:
        return (pixels.flatten(1) @ params["w"].T) @ params["v"].T

    eager = __call__


ONE = {"w": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "v": torch.zeros(2, 2)}
NOTHING = {"w": torch.zeros(2, 2), "v": torch.zeros(2, 2)}
HEADS = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
TRAINING = [(drawn([((1, 2), 0), ((3, 0), 1)]), HEADS[0]), (drawn([((0, 1), 0)]), HEADS[1])]
TESTING = [(drawn([((5, 5), 0), ((1, 0), 1)]), HEADS[0]), (drawn([((7, 1), 0)]), HEADS[1])]


def by_hand(vectors: list[dict[str, Tensor]], *, calibration: Any = TRAINING, unlabelled: Any = TESTING, seed: int = 0):
    base = {"w": torch.eye(2), "v": torch.eye(2)}
    backbone = LinearSession({}, {}, tower=TwoLayers(), base=base).evaluator(None).backbone
    return Supplier(backbone, vectors, lambda: calibration, lambda: unlabelled, False, seed=seed)


def test_grams_are_of_each_tasks_own_training_images_in_its_own_expert() -> None:
    """Expert one has W = diag(2, 1): behind it (1, 2) and (3, 0) are (2, 2) and (6, 0)."""
    first, second = by_hand([ONE, NOTHING])("grams")
    assert first["w"].tolist() == [[(1 + 9) / 2, 2 / 2], [2 / 2, 4 / 2]]
    assert first["v"].tolist() == [[(4 + 36) / 2, 4 / 2], [4 / 2, 4 / 2]]
    assert second["w"].tolist() == second["v"].tolist() == [[0, 0], [0, 1]]


def test_grams_are_of_the_first_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "IMAGES", 1)
    first, _ = by_hand([ONE, NOTHING])("grams")
    assert first["w"].tolist() == [[1, 2], [2, 4]]


def test_what_the_protocol_says_was_seen_is_what_is_seen() -> None:
    assert inputs.SAW.keys() == {"grams", "grams_of", "fisher", "entropy"}
    assert {need: said for need, said in inputs.SAW.items() if "test" in said} == {"entropy": "unlabelled test images"}
    assert all(said.startswith("256 ") for need, said in inputs.SAW.items() if need != "entropy")
    for need in ("grams", "fisher"):
        by_hand([ONE, NOTHING], unlabelled=None)(need)
    by_hand([ONE, NOTHING], calibration=None)("entropy")


@pytest.mark.parametrize("seed", range(6))
def test_fisher_labels_are_drawn_by_seed_and_task(seed: int) -> None:
    """V W = I and x = (1, 0): z = (1, 0), p = softmax(1, 0), and only the second component of d z / d f is not 0, so
    d log p_y / d w is (0, [y = 1] - p_1) times x, in its second row."""
    sets = [(drawn([((1, 0), 0)]), HEADS[0])] * 2
    found = by_hand([NOTHING, NOTHING], calibration=sets, seed=seed)("fisher")
    odds = torch.tensor([1.0, 0.0]).softmax(0)
    for task, information in enumerate(found):
        label = torch.multinomial(odds, 1, generator=torch.Generator().manual_seed(seed + task)).item()
        expected = (label - odds[1].item()) ** 2
        assert information["w"].flatten().tolist() == pytest.approx([0, 0, expected, 0], abs=1e-6)


def test_fisher_is_at_each_expert_with_its_own_images_and_head() -> None:
    """The features (2, 2) of task one lie between both classes: log p moves by (1/2, -1/2) / |f| = +-1 / (2 sqrt 8),
    whichever label is drawn; those of task two, under a head of twice the length, by twice that."""
    sets = [(drawn([((1, 2), 0)]), HEADS[0]), (drawn([((2, 2), 0)]), 2 * HEADS[0])]
    one, two = by_hand([ONE, NOTHING], calibration=sets)("fisher")
    assert one["v"].flatten().tolist() == pytest.approx([4 / 32] * 4, rel=1e-5)
    assert one["w"].flatten().tolist() == pytest.approx([1 / 32, 4 / 32, 1 / 32, 4 / 32], rel=1e-5)
    assert two["w"].flatten().tolist() == pytest.approx([4 * 4 / 32] * 4, rel=1e-5)


def test_entropy_is_of_the_test_images_of_its_step_summed_over_tasks() -> None:
    """Of 40 images steps 0, 1 and 2 see 0 to 15, 16 to 31 and 32 to 39 with 0 to 7; only image 16 is between its
    classes."""
    sure, torn = entropy_of((1.0, 0.0)), np.log(2)
    sets = [(drawn([((1, 1) if i == 16 else (1, 0), 0) for i in range(40)]), HEADS[0]), TESTING[1]]
    entropy = by_hand([ONE, NOTHING], calibration=None, unlabelled=sets)("entropy")
    other = entropy_of((1 / 50**0.5, 7 / 50**0.5, 4 / 50**0.5))
    found = [float(entropy(NOTHING, step)) for step in (0, 1, 2)]
    assert found == pytest.approx([sure + other, (15 * sure + torn) / 16 + other, sure + other], abs=1e-6)


def entropy_of(logits: tuple[float, ...]) -> float:
    """Of the softmax of these logits."""
    odds = np.exp(logits) / np.exp(logits).sum()
    return float(-(odds * np.log(odds)).sum())
