"""Worked by hand: logits of a picture (x, y) are (x + a_2 y, y + 2 a_1 x)."""

import numpy as np
import pytest
import torch
from linear_session import LinearSession
from open_clip.transformer import VisionTransformer

from bench.errors import BenchError
from bench.kinds import disentanglement
from bench.kinds.disentanglement import Disentanglement
from bench.pixels.images import Images
from bench.work.disentanglement import predictions
from bench.work.evaluate import Evaluator
from methods.tower import Tower

ONE, TWO = [[0.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]
VECTORS = {"one": ONE, "two": TWO}
# Without the other's vector (5, 4) is in classes 0, 0, 1 at a_1 = -1, 0, 1; only a_1 = 0, a_2 = -1 changes one (to 1).
# Without the other's vector (3, 4) is in classes 1, 1, 0 at a_2 = -1, 0, 1; a_1 = -1 makes all 0, a_1 = 1 all 1.
SETS = {("one", "validation"): [((5, 4), 0), ((9, 0), 0)], ("two", "validation"): [((3, 4), 1), ((3, 4), 0)]}


def cell(finetuning: str = "att", mode: str = "", grid=(-1.0, 0.0, 1.0), images: int = 1) -> Disentanglement:
    tasks = (("one", "card"), ("two", "card"))
    return Disentanglement(
        suite="toy", backbone="toy", backbone_fingerprint="fp", tasks=tasks, experts=("one", "two"),
        finetuning=finetuning, mode=mode, coefficients=grid, images=images, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("finetuning", "mode"), [("att", ""), ("att", "posthoc-linear"), ("tta+orthoreg", "")])
def test_xi_by_hand(finetuning: str, mode: str) -> None:
    """A linear tower is its own tangent model, so every mode gives these numbers."""
    rows, found = disentanglement.run(cell(finetuning, mode), LinearSession(SETS, VECTORS))
    assert rows == []
    assert found["disagreements"] == [[[0, 0, 0], [1, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 1]]]
    assert found["totals"] == [1, 1]
    assert found["error"] == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert (found["tasks"], found["coefficients"]) == (["one", "two"], [-1.0, 0.0, 1.0])


def test_shares_are_of_each_tasks_own_images() -> None:
    """(9, 0) never changes, so task one contributes 1/2 at (0, -1); both pictures of task two are the same."""
    _, found = disentanglement.run(cell(images=2), LinearSession(SETS, VECTORS))
    assert found["totals"] == [2, 2]
    assert found["error"] == [[1, 1, 0], [0.5, 0, 0], [0, 0, 1]]


def test_disjoint_vectors_are_disentangled() -> None:
    """A second vector of zeros changes nothing for task one, and task two is moved by the first alone."""
    _, found = disentanglement.run(cell(), LinearSession(SETS, {"one": ONE, "two": [[0.0, 0.0], [0.0, 0.0]]}))
    assert found["disagreements"][0] == [[0, 0, 0]] * 3


def test_zero_must_be_a_coefficient() -> None:
    with pytest.raises(BenchError, match="needs coefficient 0"):
        disentanglement.run(cell(grid=(-1.0, 1.0)), LinearSession(SETS, VECTORS))


def test_on_a_transformer_both_ways_equal_models_built_one_by_one() -> None:
    torch.manual_seed(0)
    module = VisionTransformer(
        image_size=8, patch_size=4, width=12, layers=2, heads=3, mlp_ratio=2.0, output_dim=5
    ).double()
    base = {n: p.detach() + 0.2 * torch.randn_like(p) for n, p in module.named_parameters()}
    one, two = ({n: 0.2 * torch.randn_like(p) for n, p in base.items()} for _ in range(2))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    images, head, grid = Images(pixels, np.zeros(5, dtype=np.int64)), torch.randn(7, 5).double(), (-0.5, 0.0, 1.0)
    session = LinearSession({}, {}, tower=Tower(module), base=base)
    session.evaluator(None).backbone.normalise = lambda p: p.double() / 128 - 1
    evaluator = Evaluator(session.evaluator(None).backbone, batch_size=3)
    reference = Tower(module, fast=False)
    x = torch.from_numpy(pixels).double() / 128 - 1
    f0, first = reference.dual(base, one, x)
    _, second = reference.dual(base, two, x)

    plain, tangent = (
        predictions(evaluator, (one, two), grid, images, head, tangent=linearised) for linearised in (False, True)
    )
    assert plain.shape == tangent.shape == (3, 3, 5)
    for i, a in enumerate(grid):
        for j, b in enumerate(grid):
            built = reference({n: p + a * one[n] + b * two[n] for n, p in base.items()}, x)
            assert plain[i, j].tolist() == (built @ head.T).argmax(1).tolist()
            assert tangent[i, j].tolist() == ((f0 + a * first + b * second) @ head.T).argmax(1).tolist()
    assert not torch.equal(plain, tangent)
