"""A published expert: what `bench import` put into the store, evaluated as the kind of model it is."""

from typing import TYPE_CHECKING, Any

from bench import weights
from bench.cards import SPLITS
from bench.cells import Imported
from bench.errors import DataError
from bench.kinds.rows import Found, row

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Imported, session: "Session") -> Found:
    """Rows of an expert for validation and test; source, hash of the file and known defects as metrics."""
    evaluator, about = session.evaluator(cell), session.store.read_import(cell.key)
    where = f"vectors/{cell.key}.safetensors"
    data = session.store.read_vector(cell.key)
    if weights.sha256(data) != about["vector_sha256"]:
        raise DataError(f"task vector {session.store.url}/{where} is damaged; run `bench import` on its file again")
    delta, _ = weights.load(data, where)
    common: dict[str, Any] = {
        "kind": "expert",
        "task": cell.task,
        "tasks": cell.task,
        "board": "reference",
        "finetuning": cell.finetuning,
        "seed": cell.seed,
    }
    rows = []
    for split in SPLITS[1:]:
        sets = [session.images(cell, cell.task, cell.card, split)]
        ((right,),) = evaluator.sweep(delta, (1.0,), sets, tangent=session.tangent(cell.finetuning))
        rows.append(row(cell, right, split=split, scaling=1.0, **common))
    return rows, {name: about[name] for name in ("source", "format", "notes", "vector_sha256")}
