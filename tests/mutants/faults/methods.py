"""Faults of methods of this repository."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "methods/merging/average.py",
        ("tests/methods/merging/test_merging_core.py",),
        ("averages of more than two are too long", ".div_(len(vectors))", ".div_(2)"),
    ),
    *faults(
        "methods/merging/ties.py",
        ("tests/methods/merging/test_merging_core.py",),
        ("TIES keeps too few entries", "max(1, round(density * count))", "max(1, int(density * count))"),
        (
            "TIES elects by heads, not by mass",
            "sign = kept.sum(dim=0).sign_()",
            "sign = kept.sign().sum(dim=0).sign_()",
        ),
    ),
    *faults(
        "methods/merging/regmean.py",
        ("tests/methods/merging/test_merging_boards.py",),
        ("RegMean ignores off_diagonal", "gram.double() * off_diagonal", "gram.double()"),
    ),
    *faults(
        "methods/merging/fisher.py",
        ("tests/methods/merging/test_merging_boards.py",),
        ("Fisher merging does not weigh", "value.addcmul_(f, vector[name])", "value.add_(vector[name])"),
    ),
    *faults(
        "methods/finetuning/lora.py",
        ("tests/methods/finetuning/test_finetuning.py",),
        (
            "LoRA's scale is not divided by the rank",
            "pairs = _pairs(leaves, alpha / rank)",
            "pairs = _pairs(leaves, alpha)",
        ),
    ),
    *faults(
        "methods/finetuning/record.py",
        ("tests/methods/finetuning/test_finetuning.py",),
        (
            "att leaves out the output projection",
            '("attn.in_proj_weight", "attn.out_proj.weight")',
            '("attn.in_proj_weight",)',
        ),
    ),
    *faults(
        "methods/finetuning/tta.py",
        ("tests/methods/finetuning/test_finetuning.py",),
        ("tta trains ordinary models", "    tangent=True,\n", ""),
    ),
    *faults(
        "methods/regularizers/orthoreg.py",
        ("tests/methods/regularizers/test_regularizers.py",),
        ("OrthoReg pulls updates to zero", "excess.diagonal().sub_(1)", "excess.diagonal().sub_(0)"),
        ("OrthoReg has half its strength", "excess.mul_(4 * factor)", "excess.mul_(2 * factor)"),
    ),
    *faults(
        "methods/regularizers/orthoreg_diagonal.py",
        ("tests/methods/regularizers/test_regularizers.py",),
        ("column norms are pulled to zero", "keepdim=True) - 1", "keepdim=True)"),
    ),
]
