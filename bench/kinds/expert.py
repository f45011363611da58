"""One expert: fine-tune on one task, keep the task vector, evaluate it as the kind of model it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bench.cards import recipes
from bench.cards.datasets import SPLITS
from bench.cards.recipes import Recipe
from bench.kinds.base import Expert, OfExperts, Read, Task
from bench.kinds.protocol import Kind, Setting, Warm, Work, looking
from bench.kinds.rows import Measured, Rows, row, seed_of
from bench.registry.catalogue import Catalogue, joint_version

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Finetune(Expert):
    """One expert: the backbone fine-tuned on one task."""

    kind: ClassVar[str] = "expert"

    version: int
    """Of method and regulariser: `bench.registry.catalogue.joint_version`."""
    recipe: Recipe

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"recipe": recipes.identity(self.recipe)}

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Self:
        return super().of({**identity, "recipe": recipes.from_identity(identity["recipe"])})

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple((self.task, split) for split in SPLITS)


def plan(setting: Setting) -> list[Finetune]:
    """One expert for each task."""
    suite, catalogue = setting.suite, setting.catalogue
    method, regularizer = catalogue.split_finetuning(setting.finetuning)
    own, added = (catalogue.finetuning, method), (catalogue.regularizers, regularizer)
    version = joint_version(*(table[name]["version"] for table, name in (own, added) if name))
    return [
        Finetune(
            **setting.where,
            task=task,
            card=suite.card(task).fingerprint,
            method=method,
            regularizer=regularizer,
            seed=setting.seed,
            version=version,
            recipe=suite.recipe(method, regularizer, task, catalogue.options, **setting.recipe),
        )
        for task in setting.tasks
    ]


def run(cell: Finetune, session: Warm) -> Measured:
    """Rows for validation and test; loss, penalty and norms as metrics. The vector is stored before the record."""
    from bench.store import task_vectors
    from bench.work import finetune
    from bench.work.pictures import Pictures
    from bench.work.training import Training

    evaluator = session.evaluator(cell)
    base, method = evaluator.backbone, session.registry.finetuning[cell.method]
    ((train, head),) = session.image_sets(cell, [(cell.task, cell.card)], "train")
    expert = finetune.train(
        base.tower,
        base.pretrained,
        head,
        Pictures(evaluator.near(train).pixels, train.labels, base.card.mean, base.card.std),
        Training.of(cell.recipe, method, cell.regularizer),
        seed=seed_of("finetune", cell.task, cell.seed),
        device=base.device,
        checkpoint=session.checkpoint(cell),
    )
    about = {"key": cell.key, "backbone": cell.backbone, "task": cell.task, "finetuning": cell.finetuning}
    data = task_vectors.dump(expert.delta, expert.factors, about)
    session.store.write_vector(cell.key, data)
    rows = evaluated(cell, session, (cell.task, cell.card), expert.delta, kind=cell.kind, tangent=method.tangent)
    return rows, {**expert.metrics, "vector_sha256": task_vectors.sha256(data)}


def evaluated(
    cell: Expert | OfExperts, session: Warm, task: Task, delta: "Mapping[str, Tensor]", *, kind: str, tangent: bool
) -> Rows:
    """Validation and test rows of one expert on its own task."""
    common: dict[str, Any] = {
        "kind": kind,
        "task": task[0],
        "tasks": task[0],
        "board": "reference",
        "finetuning": cell.finetuning,
        "seed": cell.seed,
        "scaling": 1.0,
    }
    rows = []
    for split in SPLITS[1:]:
        sets = session.image_sets(cell, [task], split)
        ((right,),) = session.evaluator(cell).sweep(delta, (1.0,), sets, tangent=tangent)
        rows.append(row(cell, right, split=split, **common))
    return rows


def cost(cell: Finetune, catalogue: Catalogue) -> Work:
    """Its steps, and one look at validation and test."""
    return replace(looking(cell, catalogue) or Work(), steps=cell.recipe.steps, batch=cell.recipe.batch_size)


KINDS = (Kind("expert", Finetune, plan, run, cost),)
