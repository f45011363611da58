"""A published expert: what `bench import` put into the store, evaluated as the kind of model it is."""

from bench.errors import DataError
from bench.kinds import expert
from bench.kinds.cells import Finetune, Imported
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found
from bench.store import task_vectors


def run(cell: Imported, session: Warm) -> Found:
    """Rows of an expert for validation and test; source, hash of the file and known defects as metrics."""
    about = session.store.read_import(cell.key)
    where = f"vectors/{cell.key}.safetensors"
    data = session.store.read_vector(cell.key)
    if task_vectors.sha256(data) != about["vector_sha256"]:
        raise DataError(f"task vector {session.store.url}/{where} is damaged; run `bench import` on its file again")
    delta, _ = task_vectors.load(data, where)
    known = {name: about[name] for name in ("source", "format", "notes", "vector_sha256")}
    tangent = session.tangent(cell.finetuning)
    return expert.evaluated(cell, session, (cell.task, cell.card), delta, kind=Finetune.kind, tangent=tangent), known
