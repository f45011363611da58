"""Geometry of one set of experts: numbers from the task vectors and the pretrained weights, stored as metrics."""

from bench.errors import BenchError
from bench.kinds.cells import Geometry
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found
from bench.work.geometry import geometry


def run(cell: Geometry, session: Warm) -> Found:
    """No rows; metrics as `bench.work.geometry.geometry` describes them."""
    vectors = [session.vectors(key)[0] for key in cell.experts]
    pretrained = session.evaluator(cell).backbone.pretrained
    try:
        return [], geometry(vectors, [task for task, _ in cell.tasks], pretrained)
    except ValueError as error:
        raise BenchError(str(error)) from error
