"""Geometry of one set of experts: numbers from the task vectors and the pretrained weights, stored as metrics."""

from dataclasses import dataclass
from typing import ClassVar

from bench.errors import BenchError
from bench.kinds.base import OfExperts, Task, shared
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured


@dataclass(frozen=True, kw_only=True)
class Geometry(OfExperts):
    """Norms, angles, spectra and overlaps of one set of task vectors. Looks at no image."""

    kind: ClassVar[str] = "geometry"
    runs_model: ClassVar[bool] = False

    tasks: tuple[Task, ...]
    version: int = 1

    @property
    def label(self) -> str:
        return f"{self.finetuning} geometry seed {self.seed}"


def plan(setting: Setting) -> list[Geometry]:
    """The geometry of all experts."""
    return [Geometry(**shared(setting.experts))]


def run(cell: Geometry, session: Warm) -> Measured:
    """No rows; metrics as `bench.work.geometry.geometry` describes them."""
    from bench.work.geometry import geometry

    vectors = [session.vectors(key)[0] for key in cell.experts]
    pretrained = session.evaluator(cell).backbone.pretrained
    try:
        return [], geometry(vectors, [task for task, _ in cell.tasks], pretrained)
    except ValueError as error:
        raise BenchError(str(error)) from error


KINDS = (Kind("geometry", Geometry, plan, run),)
