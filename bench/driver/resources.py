"""What cells ask of a Ray cluster, and how many fit into it at once. Arithmetic only, no ray.

Cells form queues. All cells of one queue ask for the same, so that Tune can hand a warm worker from one to the next.
On CPUs there is one queue. With `--device cuda` there are two: cells that run a model ask for a share of a GPU, others
for a core alone, and Ray hides all GPUs from a worker that asked for none.
"""

from collections.abc import Iterable, Mapping

from bench.errors import BenchError
from bench.kinds.base import Cell
from bench.work.runtime import How

Queue = bool | None
"""Whether its cells run a model; None: all cells are in it. What `Schedule.take` is asked for."""


def shape(how: How, models: bool) -> dict[str, float]:
    """What a cell asks of Ray."""
    return {"CPU": 1.0, "GPU": how.gpu_share} if how.device == "cuda" and models else {"CPU": 1.0}


def require(cells: Iterable[Cell], how: How, resources: Mapping[str, float]) -> None:
    """BenchError for a cluster that lacks what a cell asks for: Ray would wait for it in silence, for ever."""
    for models in sorted({cell.runs_model for cell in cells}):
        for name, amount in shape(how, models).items():
            if resources.get(name, 0.0) < amount:
                raise BenchError(
                    f"a cell needs {amount:g} {name}, the cluster has {resources.get(name, 0.0):g}; choose another "
                    "--device or cluster, or wait until its nodes are there"
                )


def slots(how: How, resources: Mapping[str, float]) -> dict[Queue, int]:
    """How many cells of each queue may run at once, at least one: a cluster whose nodes are gone may get others.

    `--workers` limits the queue that runs models; cells that run none get the cores which these leave.
    """
    cores = int(resources.get("CPU", 0.0))
    if how.device != "cuda":
        return {None: max(1, min(how.workers or cores, cores))}
    shares = int(resources.get("GPU", 0.0)) * int(1 / how.gpu_share + 1e-9)  # a share lies within one GPU
    models = max(1, min(how.workers or cores, shares, cores))
    return {True: models, False: max(1, cores - models)}
