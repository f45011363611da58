"""Faults of heads, training, merging and evaluation."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/work/backbone.py",
        ("tests/bench/work/test_backbone.py",),
        ("heads average prompts of other lengths", "normalize=True", "normalize=False"),
        (
            "heads are not normalised after averaging",
            "torch.nn.functional.normalize(features.mean(dim=0), dim=0)",
            "features.mean(dim=0)",
        ),
        (
            "heads know the first template alone",
            "torch.nn.functional.normalize(features.mean(dim=0), dim=0)",
            "torch.nn.functional.normalize(features[0], dim=0)",
        ),
        ("heads lack the logit scale", "(torch.stack(rows) * model.logit_scale.exp())", "torch.stack(rows)"),
        ("cached heads of other weights are used", "|{weights}|{'|'.join(card.classes)}", "|{'|'.join(card.classes)}"),
        ("cached heads of other templates are used", "|{'|'.join(card.templates)}", ""),
        ("cached heads of other classes are used", "|{'|'.join(card.classes)}|", "|"),
        (
            "all weights of one architecture have one hash",
            "weights.update(parameter.detach()",
            "str(parameter.detach()",
        ),
    ),
    *faults(
        "bench/work/inputs.py",
        (
            "tests/bench/work/test_inputs.py",
            "tests/bench/kinds/test_kind_addition.py",
        ),
        ("entropies of training images", "self.unlabelled(), self.tangent", "self.calibration(), self.tangent"),
    ),
    *faults(
        "bench/work/inputs.py",
        ("tests/bench/work/test_inputs.py",),
        (
            "every expert is calibrated on the first task",
            "images, _ = self.calibration()[task]",
            "images, _ = self.calibration()[0]",
        ),
        ("calibration sees more images than the protocol says", "images.pixels[:IMAGES]", "images.pixels"),
        ("labels of all tasks are drawn alike", "manual_seed(self.seed + task)", "manual_seed(self.seed)"),
        (
            "Fisher information under the first task's head",
            "self.calibration()[task][1], 0",
            "self.calibration()[0][1], 0",
        ),
        ("entropy minimisation sees the same images at every step", "(step * ENTROPY_BATCH + i)", "i"),
        ("entropies are averaged over tasks", "return torch.stack(losses).sum()", "return torch.stack(losses).mean()"),
        (
            "Gram matrices of the first task's images",
            "self._weights(v), t, lambda name: True",
            "self._weights(v), t * 0, lambda name: True",
        ),
        (
            "RegMean++ observes the merged block instead of the expert's",
            "self._weights({**merged, **own})",
            "self._weights({**own, **merged})",
        ),
    ),
    *faults(
        "bench/work/merge.py",
        ("tests/bench/kinds/test_session_values.py",),
        ("a task vector that was swapped is merged", "if task_vectors.sha256(data) != expected:", "if not expected:"),
    ),
    *faults(
        "bench/work/merge.py",
        ("tests/bench/work/test_merge.py",),
        (
            "experts change places, and so do the vectors of tasks",
            "[vectors(key) for key in experts]",
            "[vectors(key) for key in sorted(experts)]",
        ),
        (
            "random operators have one seed",
            "operator.merge(deltas, seed=seed, **inputs)",
            "operator.merge(deltas, **inputs)",
        ),
        (
            "operators on LoRA factors take experts without them",
            "if not all(factors for _, factors in loaded)",
            "if not any(factors for _, factors in loaded)",
        ),
        ("merges with infinities are measured", "if not torch.isfinite(tensor).all()", "if torch.isnan(tensor).all()"),
    ),
    *faults(
        "bench/work/evaluate.py",
        ("tests/bench/work/test_evaluate.py",),
        ("tangent sweeps are the same at every coefficient", "predict(f0 + a * jvp, head)", "predict(f0 + jvp, head)"),
        ("sweeps are the same at every coefficient", "alpha=scaling", "alpha=1.0"),
        ("coefficient 0 of all splits is that of the first", "key = id(images), id(head)", "key = 0, id(head)"),
    ),
    *faults(
        "bench/work/coefficients.py",
        ("tests/bench/work/test_coefficients.py",),
        ("coarse to fine misses the peak", "for step in (2, 1):", "for step in (1,):"),
    ),
    *faults(
        "bench/work/pruning.py",
        ("tests/bench/kinds/test_kind_addition_pruned.py",),
        (
            "a pruned sweep chooses the larger of two equal coefficients",
            "or (value == best and scaling > winner)",
            "or value == best",
        ),
    ),
    *faults(
        "bench/work/finetune.py",
        ("tests/bench/work/test_finetune.py",),
        ("the first step of warm-up does nothing", "(step + 1) / recipe.warmup_steps", "step / recipe.warmup_steps"),
        (
            "regularisers are not applied",
            "Penalty(training, seed) if training.regularizer and self.recipe.strength > 0 else None",
            "None",
        ),
    ),
    *faults(
        "bench/work/pictures.py",
        ("tests/bench/work/test_pictures.py",),
        (
            "all seeds see the same batches",
            'shuffle = generator(seed, "finetune order")',
            'shuffle = generator(0, "finetune order")',
        ),
        ("a label may be one too large", "int(targets.max()) >= classes", "int(targets.max()) > classes"),
    ),
    *faults(
        "bench/work/training.py",
        ("tests/bench/work/test_penalty.py",),
        (
            "methods train with their defaults whatever the recipe says",
            "chosen(self.method.name, self.method.declared, self._options[0])",
            "chosen(self.method.name, self.method.declared, {})",
        ),
    ),
    *faults(
        "bench/work/training.py",
        ("tests/bench/work/test_penalty.py",),
        ("regularisers train with their defaults whatever the recipe says", "return self._options[-1]", "return {}"),
    ),
    *faults(
        "bench/work/penalty.py",
        ("tests/bench/work/test_penalty.py",),
        ("every regulariser has strength 1", "            self.training.recipe.strength,\n", "            1.0,\n"),
        (
            "a sketch is drawn once for all steps",
            'generator(self.seed, "finetune sketch", index)',
            'generator(self.seed, "finetune sketch", 0)',
        ),
        ("a regulariser that moves nothing passes", "if self._acts or not self._away or", "if True or"),
        (
            "penalties are added to copies of the gradients and lost",
            "if any(x.untyped_storage()",
            "if False and any(x.untyped_storage()",
        ),
    ),
    *faults(
        "bench/work/pictures.py",
        ("tests/bench/work/test_pictures.py",),
        ("crops are drawn and not taken", "pixels if windows is None else crop(pixels, windows)", "pixels"),
    ),
]
