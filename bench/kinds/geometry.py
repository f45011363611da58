"""Geometry of one set of experts: numbers from the task vectors and the pretrained weights, stored as metrics."""

from typing import TYPE_CHECKING

from bench.cells import Geometry
from bench.errors import BenchError
from bench.geometry import geometry
from bench.kinds.rows import Found

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Geometry, session: "Session") -> Found:
    """No rows; metrics as `bench.geometry.geometry` describes them."""
    vectors = [session.vectors(key)[0] for key in cell.experts]
    pretrained = session.evaluator(cell).backbone.pretrained
    try:
        return [], geometry(vectors, [task for task, _ in cell.tasks], pretrained)
    except ValueError as error:
        raise BenchError(str(error)) from error
