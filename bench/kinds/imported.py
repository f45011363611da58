"""A published expert: what `bench import` put into the store, evaluated as the kind of model it is."""

from dataclasses import dataclass
from typing import ClassVar

from bench.errors import BenchError, DataError
from bench.ground import names
from bench.kinds import expert
from bench.kinds.base import Expert
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured


@dataclass(frozen=True, kw_only=True)
class Imported(Expert):
    """A published expert, read from a file by `bench import`: nothing trains, its update is evaluated and merged.

    Its fine-tuning is named `METHOD:FAMILY`, so that no line of a table mixes it with experts that were trained here.
    `seed` says which of several published experts of one method it is.
    """

    kind: ClassVar[str] = "imported"

    family: str
    sha256: str
    """Of the published file."""

    @property
    def finetuning(self) -> str:
        """`nonlinear:fusionbench`, `tta+orthoreg:orthoreg`."""
        return str(names.Finetuning(self.method, self.regularizer, self.family))


def plan(setting: Setting) -> list[Expert]:
    """The expert of each task that the store has; BenchError where it has none, or one of another backbone or card."""
    suite, backbone, name, seed = setting.suite, setting.backbone, setting.finetuning, setting.seed
    wanted = suite.name, backbone.name, name, seed
    of_task = {c.task: c for c in setting.imported if (c.suite, c.backbone, c.finetuning, c.seed) == wanted}
    for task in setting.tasks:
        if task not in of_task:
            raise BenchError(
                f"no imported expert {name} of {task} on {backbone.name}, seed {seed}, in this store; `bench import "
                f"FILE --task {task}` puts one there"
            )
        made = of_task[task].backbone_fingerprint, of_task[task].card
        if made != (backbone.fingerprint, suite.card(task).fingerprint):
            raise BenchError(
                f"{name} of {task}: the backbone or the card has changed since it was imported; import again"
            )
    return [of_task[task] for task in setting.tasks]


def run(cell: Imported, session: Warm) -> Measured:
    """Rows of an expert for validation and test; source, hash of the file and known defects as metrics."""
    from bench.store import task_vectors

    about = session.store.read_import(cell.key)
    where = f"vectors/{cell.key}.safetensors"
    data = session.store.read_vector(cell.key)
    if task_vectors.sha256(data) != about["vector_sha256"]:
        raise DataError(f"task vector {session.store.url}/{where} is damaged; run `bench import` on its file again")
    delta, _ = task_vectors.load(data, where)
    facts = {name: about[name] for name in ("source", "format", "notes", "vector_sha256")}
    tangent, task = session.tangent(cell.finetuning), (cell.task, cell.card)
    return expert.evaluated(cell, session, task, delta, kind=expert.Finetune.kind, tangent=tangent), facts


KINDS = (Kind("imported", Imported, plan, run),)
