"""A published expert: what `bench import` put into the store, evaluated as the kind of model it is."""

from typing import TYPE_CHECKING

from bench import weights
from bench.cells import Finetune, Imported
from bench.errors import DataError
from bench.kinds import expert
from bench.kinds.rows import Found

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Imported, session: "Session") -> Found:
    """Rows of an expert for validation and test; source, hash of the file and known defects as metrics."""
    about = session.store.read_import(cell.key)
    where = f"vectors/{cell.key}.safetensors"
    data = session.store.read_vector(cell.key)
    if weights.sha256(data) != about["vector_sha256"]:
        raise DataError(f"task vector {session.store.url}/{where} is damaged; run `bench import` on its file again")
    delta, _ = weights.load(data, where)
    known = {name: about[name] for name in ("source", "format", "notes", "vector_sha256")}
    tangent = session.tangent(cell.finetuning)
    return expert.evaluated(cell, session, (cell.task, cell.card), delta, kind=Finetune.kind, tangent=tangent), known
