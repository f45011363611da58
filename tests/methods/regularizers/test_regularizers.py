"""Laws of every regulariser; OrthoReg and its halves against their formulas in float64 autograd and by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from methods import regularizers
from methods.factors import Factors
from methods.regularizers import REGULARIZERS
from methods.regularizers.orthoreg import STRIPED

ORTHOREG = ("orthoreg", "orthoreg_diagonal", "orthoreg_offdiagonal")
FORMS = ("frobenius", "squared")
SHAPES = [(5, 5), (9, 4), (4, 9), (1, 6), (6, 1)]

every = pytest.mark.parametrize("name", REGULARIZERS)
orthoreg = pytest.mark.parametrize("name", ORTHOREG)
forms = pytest.mark.parametrize("form", FORMS)


def formula(name: str, form: str, update: torch.Tensor) -> torch.Tensor:
    """The definitions as they stand in the docstrings: the paper's side when squared, the smaller one otherwise."""
    rows, columns = update.shape
    gram = update @ update.T if form == "frobenius" and rows < columns else update.T @ update
    excess = gram - torch.eye(len(gram), dtype=update.dtype)
    diagonal = torch.diag(torch.diag(excess))
    part = {"orthoreg": excess, "orthoreg_diagonal": diagonal, "orthoreg_offdiagonal": excess - diagonal}[name]
    total = part.square().sum()
    return total if form == "squared" else total.sqrt()


def draw(*shape: int, seed: int = 0, scale: float = 0.5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def close(ours: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Relative to the size of the whole tensor, as an optimiser sees it."""
    assert (ours.double() - wanted).norm() <= tolerance * wanted.norm().clamp(min=1e-9)


def test_registry_and_files_are_the_same():
    folder = Path(regularizers.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} == {"__init__", "record", *REGULARIZERS}
    assert all(name == regularizer.name for name, regularizer in REGULARIZERS.items())
    assert set(REGULARIZERS) >= set(ORTHOREG)


def given():
    """Updates and gradients, both made anew: a matrix, a pair of factors and a vector, in float64."""
    updates = {"w": draw(9, 4), "low": Factors(draw(9, 2, seed=1), draw(2, 4, seed=2), 0.5), "b": draw(3)}
    grads = {"w": draw(9, 4, seed=3), "low": Factors(draw(9, 2, seed=4), draw(2, 4, seed=5)), "b": draw(3)}
    return updates, grads


def leaves(grads):
    return {"w": grads["w"], "b": grads["low"].b, "a": grads["low"].a}


@every
def test_gradient_is_that_of_the_value(name):
    """Central differences of the value along the gradient, at the defaults; it is added, in place, times the strength.

    Float64. Holds for every regulariser, whether its gradient is in closed form or from autograd.
    """
    regularizer = REGULARIZERS[name]
    updates, grads = given()
    start = {n: g.clone() for n, g in leaves(grads).items()}
    regularizer.add_gradient(updates, grads, 2.0)
    slopes = {n: (g - start[n]) / 2.0 for n, g in leaves(grads).items()}
    assert_close(grads["b"], draw(3), rtol=0, atol=0)  # no matrix
    assert_close(updates["w"], draw(9, 4), rtol=0, atol=0)

    def value(step):
        low = updates["low"]
        there = {
            "w": updates["w"] + step * slopes["w"],
            "low": Factors(low.b + step * slopes["b"], low.a + step * slopes["a"], low.scale),
            "b": updates["b"],
        }
        return float(regularizer.add_gradient(there, given()[1], 0.0).double())

    steepness = sum(float(slope.square().sum()) for slope in slopes.values())
    step = 1e-2 / math.sqrt(steepness or 1.0)  # it is 0 where a penalty is not active
    assert (value(step) - value(-step)) / (2 * step) == pytest.approx(steepness, rel=1e-2)


@every
def test_plain_gradient_is_the_same_at_the_defaults(name):
    """A record without `value` has nothing to compare."""
    if REGULARIZERS[name].value is None:
        return
    (updates, ours), (_, plain) = given(), given()
    assert_close(
        REGULARIZERS[name].add_gradient(updates, ours, 2.0).double(),
        REGULARIZERS[name].add_gradient(updates, plain, 2.0, plain=True).double(),
        rtol=1e-6, atol=1e-6,
    )  # fmt: skip
    assert_close(leaves(ours), leaves(plain), rtol=1e-6, atol=1e-6)


@orthoreg
@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 0.5, 3.0])
def test_dense_is_the_float64_reference(name, form, shape, scale):
    update = draw(*shape, scale=scale).requires_grad_()
    value = formula(name, form, update)
    # One column has no off-diagonal, and the square root of that zero no derivative: the gradient is zero there.
    (wanted,) = torch.autograd.grad(value, update) if value > 0 else (torch.zeros_like(update),)

    grad = torch.zeros(shape)
    ours = REGULARIZERS[name].add_gradient({"w": update.detach().float()}, {"w": grad}, 2.5, form=form)
    assert_close(ours.double(), value.detach(), rtol=1e-5, atol=1e-6)
    close(grad, 2.5 * wanted)


@orthoreg
@forms
@pytest.mark.parametrize("options", [{}, {"penalty_precision": "mixed"}], ids=str)
def test_gradient_is_added_in_place(name, form, options):
    options = options if name == "orthoreg" else {}  # the others have no mixed precision
    update, start = {"w": draw(9, 4, scale=0.1).float()}, draw(9, 4, seed=1).float()
    alone, grad = torch.zeros(9, 4), start.clone()
    REGULARIZERS[name].add_gradient(update, {"w": alone}, 2.0, form=form, **options)
    REGULARIZERS[name].add_gradient(update, {"w": grad}, 2.0, form=form, **options)
    assert_close(grad, start + alone)
    assert_close(update["w"], draw(9, 4, scale=0.1).float(), rtol=0, atol=0)


@orthoreg
@forms
@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (6, 6)], ids=str)
def test_factors_are_the_float64_reference_of_their_product(name, form, shape):
    rows, columns = shape
    b, a, scale = draw(rows, 3, seed=2).requires_grad_(), draw(3, columns, seed=3).requires_grad_(), 0.7
    value = formula(name, form, scale * b @ a)
    wanted = torch.autograd.grad(value, (b, a))

    grads = Factors(torch.zeros(rows, 3), torch.zeros(3, columns))
    pair = Factors(b.detach().float(), a.detach().float(), scale)
    ours = REGULARIZERS[name].add_gradient({"w": pair}, {"w": grads}, 1.5, form=form)
    assert_close(ours.double(), value.detach(), rtol=1e-5, atol=1e-6)
    close(grads.b, 1.5 * wanted[0])
    close(grads.a, 1.5 * wanted[1])


@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_diagonal_and_offdiagonal_make_up_the_whole(form, shape):
    update = {"w": draw(*shape).float()}
    whole, diagonal, rest = (
        REGULARIZERS[n].add_gradient(update, {"w": torch.zeros(shape)}, 1.0, form=form) for n in ORTHOREG
    )
    power = 1 if form == "squared" else 2
    assert_close(diagonal**power + rest**power, whole**power, rtol=1e-5, atol=1e-6)


@orthoreg
@forms
def test_zero_update_has_no_gradient(name, form):
    """At zero all three gradients vanish, also where the norm itself is zero and has a kink."""
    grad = torch.zeros(4, 3)
    value = REGULARIZERS[name].add_gradient({"w": torch.zeros(4, 3)}, {"w": grad}, 10.0, form=form)
    assert_close(grad, torch.zeros(4, 3), rtol=0, atol=0)
    wanted = {"orthoreg_offdiagonal": 0.0}.get(name, 3.0 if form == "squared" else math.sqrt(3))
    assert_close(float(value), wanted, rtol=1e-6, atol=0)


@orthoreg
@forms
def test_orthonormal_update_is_the_minimum(name, form):
    """Exactly orthonormal columns: value 0 and gradient 0, no division by the zero norm."""
    update, grad = torch.eye(4)[:, :3], torch.zeros(4, 3)
    value = REGULARIZERS[name].add_gradient({"w": update}, {"w": grad}, 10.0, form=form)
    assert_close(value, torch.tensor(0.0), rtol=0, atol=0)
    assert_close(grad, torch.zeros(4, 3), rtol=0, atol=0)


def test_by_hand():
    """D = [[2, 1], [0, 1]]: D^T D - I = [[3, 2], [2, 1]], so 18 = 10 on and 8 off the diagonal; 4 D E by hand."""
    update = {"w": torch.tensor([[2.0, 1.0], [0.0, 1.0]])}
    values, grads = {}, {}
    for name in ORTHOREG:
        grads[name] = {"w": torch.zeros(2, 2)}
        values[name] = float(REGULARIZERS[name].add_gradient(update, grads[name], 1.0, form="squared"))
    assert values == pytest.approx({"orthoreg": 18.0, "orthoreg_diagonal": 10.0, "orthoreg_offdiagonal": 8.0})
    assert_close(grads["orthoreg"]["w"], torch.tensor([[32.0, 20.0], [8.0, 4.0]]))
    assert_close(grads["orthoreg_diagonal"]["w"], torch.tensor([[24.0, 4.0], [0.0, 4.0]]))
    assert_close(grads["orthoreg_offdiagonal"]["w"], torch.tensor([[8.0, 16.0], [8.0, 0.0]]))


def test_small_updates_see_negative_weight_decay():
    """FACTS B: while singular values are small the gradient is -4 D (squared) or -2 D / sqrt(d) (frobenius)."""
    update = draw(8, 4, scale=1e-4).float()
    for form, factor in (("squared", -4.0), ("frobenius", -2.0 / math.sqrt(4))):
        grad = torch.zeros(8, 4)
        REGULARIZERS["orthoreg"].add_gradient({"w": update}, {"w": grad}, 1.0, form=form)
        assert_close(grad, factor * update, rtol=1e-5, atol=1e-9)


def test_only_matrices_are_penalised():
    """Released code: trainable 2-D parameters. Convolution and vectors stay out, the two tables go out on demand."""
    shapes = {
        "conv1.weight": (4, 3, 2, 2),
        "class_embedding": (4,),
        "positional_embedding": (5, 4),
        "proj": (4, 2),
        "mlp.c_fc.weight": (8, 4),
    }
    updates = {name: draw(*shape).float() for name, shape in shapes.items()}
    layers, all_matrices = {"mlp.c_fc.weight"}, {"positional_embedding", "proj", "mlp.c_fc.weight"}
    for penalised, moved in (("matrices", all_matrices), ("layers", layers)):
        grads = {name: torch.zeros(shape) for name, shape in shapes.items()}
        value = REGULARIZERS["orthoreg"].add_gradient(updates, grads, 1.0, penalised=penalised)
        assert {name for name, grad in grads.items() if grad.any()} == moved
        wanted = sum(formula("orthoreg", "frobenius", updates[name].double()) for name in moved)
        assert_close(value.double(), wanted, rtol=1e-6, atol=0)


def test_refusals_say_what_to_give():
    regularizer = REGULARIZERS["orthoreg"]
    with pytest.raises(ValueError, match="form='cubed' is not one of 'frobenius', 'squared'"):
        regularizer.add_gradient({}, {}, 1.0, form="cubed")
    with pytest.raises(ValueError, match="penalised='all' is not one of 'matrices', 'layers'"):
        regularizer.add_gradient({}, {}, 1.0, penalised="all")
    with pytest.raises(ValueError, match="no matrix among the 1 updates"):
        regularizer.add_gradient({"b": torch.ones(3)}, {"b": torch.ones(3)}, 1.0)


@forms
@pytest.mark.parametrize("shape", [(300, 130), (130, 300), (200, 200)], ids=str)
def test_striped_gram_is_the_float64_reference(form, shape):
    """Sides above 128 take the symmetric strips, here of unequal width."""
    assert min(shape) > STRIPED
    update = draw(*shape, scale=0.05).requires_grad_()
    for name in ("orthoreg", "orthoreg_offdiagonal"):
        (wanted,) = torch.autograd.grad(formula(name, form, update), update)
        grad = torch.zeros(shape)
        REGULARIZERS[name].add_gradient({"w": update.detach().float()}, {"w": grad}, 1.0, form=form)
        close(grad, wanted)


@forms
@pytest.mark.parametrize("shape", [(300, 130), (130, 300), (9, 4)], ids=str)
@pytest.mark.parametrize(("sigma", "error"), [(1e-3, 1e-6), (0.1, 1e-4), (0.3, 1e-3), (1.0, 1e-5), (3.0, 1e-5)])
def test_mixed_precision_stays_below_its_stated_error(form, shape, sigma, error):
    """bfloat16 while singular values are small, float32 from rho = 0.2 on: error 2^-8 rho / (1 - rho), or float32's."""
    left, _, right = torch.linalg.svd(draw(*shape), full_matrices=False)
    spectrum = sigma * torch.linspace(0.9, 1.0, min(shape), dtype=torch.float64)
    update = (left * spectrum @ right).requires_grad_()
    value = formula("orthoreg", form, update)
    (wanted,) = torch.autograd.grad(value, update)
    grad = torch.zeros(shape)
    ours = REGULARIZERS["orthoreg"].add_gradient(
        {"w": update.detach().float()}, {"w": grad}, 1e3, form=form, penalty_precision="mixed"
    )
    close(grad, 1e3 * wanted, error)
    assert_close(ours.double(), value.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 6), (6, 9)], ids=str)
def test_sketch_is_unbiased_with_the_stated_variance(shape):
    """Mean of many draws against the exact gradient and value, in standard errors; mean square against the formula."""
    update, draws, probes = draw(*shape, scale=0.3), 4000, 4
    value = formula("orthoreg", "squared", update.requires_grad_())
    (wanted,) = torch.autograd.grad(value, update)
    update = update.detach()
    small = update.T @ update if shape[0] > shape[1] else update @ update.T
    variance = 16 * (small.trace() * (small @ small).trace() + (small @ small @ small).trace()) / probes

    source, total, squares, values = torch.Generator().manual_seed(0), torch.zeros(shape), 0.0, []
    for _ in range(draws):
        grad = torch.zeros(shape)
        ours = REGULARIZERS["orthoreg"].add_gradient(
            {"w": update.float()}, {"w": grad}, 1.0, form="squared", sketch=probes, generator=source
        )
        total += grad
        squares += float((grad - wanted).square().sum())
        values.append(float(ours))
    assert squares / draws == pytest.approx(float(variance), rel=0.1)
    assert (total / draws - wanted).norm() < 3 * math.sqrt(variance / draws)
    spread = torch.tensor(values).std().item() / math.sqrt(draws)
    assert sum(values) / draws == pytest.approx(value.item(), abs=4 * spread)


def test_sketch_is_exact_where_it_has_no_fewer_probes_than_columns():
    update, exact, sketched = {"w": draw(9, 4).float()}, {"w": torch.zeros(9, 4)}, {"w": torch.zeros(9, 4)}
    regularizer = REGULARIZERS["orthoreg"]
    regularizer.add_gradient(update, exact, 1.0, form="squared")
    regularizer.add_gradient(update, sketched, 1.0, form="squared", sketch=4, generator=torch.Generator())
    assert_close(sketched, exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "form", "says"),
    [
        ("orthoreg", "frobenius", "orthoreg takes 2 or more, when squared"),
        ("orthoreg_diagonal", "squared", "orthoreg_diagonal: no option 'sketch'; its options: form, penalised"),
    ],
)
def test_sketch_is_refused_where_it_would_be_biased(name, form, says):
    with pytest.raises(ValueError, match=says):
        REGULARIZERS[name].add_gradient({"w": torch.eye(3)}, {"w": torch.eye(3)}, 1.0, form=form, sketch=8)


@orthoreg
@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_plain_gradient_is_the_closed_form(name, form, shape):
    rows, columns = shape
    updates = {"w": draw(*shape), "low": Factors(draw(rows, 2, seed=1), draw(2, columns, seed=2), 0.5), "b": draw(3)}

    def run(plain):
        grads = {name: torch.zeros(shape).double() for name in ("w", "b")}
        grads["low"] = Factors(torch.zeros(rows, 2).double(), torch.zeros(2, columns).double(), 0.5)
        value = REGULARIZERS[name].add_gradient(updates, grads, 2.5, form=form, plain=plain)
        return value.double(), grads["w"], grads["low"].b, grads["low"].a

    for ours, wanted in zip(run(plain=True), run(plain=False), strict=True):
        assert_close(ours, wanted, rtol=1e-6, atol=2e-7)  # one column has no angles: rounding under a square root
