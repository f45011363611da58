"""Where implementations of one method disagree, the choice is an option: its default is the paper's or the official
code's, every other reading is there, and none of them is another name for the default.

What a matrix is, how parameters that are no matrices are treated, entries tied with a threshold, a share of 1, tiny
tensors and the rounding of ranks are choices without an option; their tests stand with the operators.
"""

import pytest

from bench.checks.laws import example, far, run
from methods.merging import MERGING
from methods.options import choices

READINGS = {
    ("ties", "scope"): ("global", "tensor", "row"),  # official, FusionBench; mergekit; the breadcrumbs code's way
    ("ties", "zero_sign"): ("majority", "zero", "plus"),  # official; ours to compare; mergekit
    ("ties_sum", "scope"): ("global", "tensor", "row"),
    ("dare", "rescale"): ("inverse", "l1", "none"),  # paper; mergekit; no rescaling
    ("dare_ties", "rescale"): ("inverse", "l1", "none"),
    ("della", "rescale"): ("inverse", "l1", "none"),
    ("breadcrumbs", "scope"): ("row", "tensor"),  # official; mergekit
    ("model_stock", "angle_mean"): ("cosine", "angle"),  # mergekit; FusionBench
    ("pcb", "variant"): ("vision", "plain"),  # pcb.py; pcb_ES.py
    ("iso_c", "spectrum_mean"): ("all", "nonzero", "geometric"),  # official; of the rank only; sd-mecha
    ("dc_merge", "inner"): ("ties", "sum"),
    ("dc_merge", "smoothing"): ("none", "average"),
    ("ace", "numerator"): ("centred", "plain"),  # official code; the regression as written
    ("wudi", "others"): ("mean", "zero"),  # FusionBench; official
    ("wudi_closed", "others"): ("mean", "zero"),
    ("wudi_closed", "weights"): ("energy", "equal"),  # WUDI's; ActMat's
    ("doge_ta", "others"): ("zero", "mean"),  # published; averaged
    ("emr", "rescaler"): ("tensor", "model"),  # official: means by tensor, summed; one quotient of sums
}
MATRIX = "transformer.resblocks.1.attn.out_proj.weight"


def experts():
    """The tower of the laws: one matrix of rank 3, one tensor on which two experts cancel, a negative majority."""
    vectors = example()
    for vector in vectors:
        vector[MATRIX][:, 3:] = 0
        vector["transformer.resblocks.0.mlp.c_fc.weight"].abs_().neg_()
    vectors[1]["positional_embedding"] = -vectors[0]["positional_embedding"]
    vectors[2]["positional_embedding"] = 0 * vectors[0]["positional_embedding"]
    return vectors


@pytest.mark.parametrize(("name", "option"), READINGS)
def test_every_reading_is_there_and_differs_from_the_default(name, option):
    operator, (default, *others) = MERGING[name], READINGS[name, option]
    assert choices(option, operator.grid[option]) == (default, *others)
    assert operator.defaults[option] == default
    usual = run(operator, experts())
    assert far(usual, run(operator, experts(), **{option: default})) is None
    for other in others:
        assert far(usual, run(operator, experts(), **{option: other})) is not None, other


def test_a_word_of_another_operator_is_refused():
    """breadcrumbs has no global scope; taking the word in and doing something else would be a third method."""
    with pytest.raises(ValueError, match="breadcrumbs: option scope='global' is not one of 'row', 'tensor'"):
        MERGING["breadcrumbs"].merge(experts(), scope="global")


def test_sum_and_mean_are_two_operators():
    assert far(run(MERGING["ties"], experts()), run(MERGING["ties_sum"], experts())) is not None
