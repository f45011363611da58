"""What a plan will cost, from a table that `bench calibrate` measured on a device. Reads JSON; imports no torch.

A table says seconds for one image of one training step (by fine-tuning method), for one step of a regulariser, for one
evaluated image (ordinary and tangent model), bytes of a task vector and peak memory. Each kind of cell says what it
does in images (`bench.kinds.protocol.Work`); reading them is not in the table.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bench.cards import suites
from bench.errors import BenchError
from bench.ground import atomic, names, toml_json
from bench.kinds import KINDS
from bench.kinds.base import Cell
from bench.kinds.expert import Finetune
from bench.kinds.protocol import images_in
from bench.pixels import images
from bench.planning import preflight
from bench.registry.catalogue import Catalogue, load

VERSION = 1
HEADROOM = 1.25
"""Times the peak of tensors: fragments, workspaces of kernels and the CUDA context take memory too."""
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class Costs:
    """Measured costs of one backbone on one device; seconds and bytes."""

    backbone: str
    device: str
    name: str
    """The device, in words."""
    batch: int
    """Images of a step when it was measured."""
    train: dict[str, float]
    """By fine-tuning method: seconds for one image of a step."""
    penalty: dict[str, float]
    """By `METHOD+REGULARISER`: seconds that the regulariser adds to a step."""
    evaluate: float
    """Seconds for one image, forward."""
    derivative: float
    """Seconds for one image, forward and directional derivative."""
    vector: dict[str, int]
    """By fine-tuning method: bytes of a task vector."""
    memory: dict[str, int]
    """By fine-tuning method: peak bytes while training (CUDA: of the device; CPU: of the process)."""
    capacity: int = 0
    """Bytes of memory that a GPU has; 0 on a CPU."""
    torch: str = ""
    measured_at: int = 0


def path_of(device: str) -> Path:
    """Where the table of a device lies."""
    return images.cache_folder() / "costs" / f"{device}.json"


def read(device: str) -> dict[str, Costs]:
    """The table of a device, by backbone; empty when nothing was measured."""
    path = path_of(device)
    if not path.is_file():
        return {}
    try:
        table = toml_json.parse_object(path.read_bytes(), version=int, costs=list)
        if table["version"] != VERSION:
            return {}
        return {c.backbone: c for c in TypeAdapter(list[Costs]).validate_python(table["costs"])}
    except (OSError, ValueError) as error:
        raise BenchError(f"cost table {path} is damaged; delete it and run `bench calibrate`") from error


def write(measured: Costs) -> Path:
    """Put one backbone's costs into the table of its device; returns the file."""
    path = path_of(measured.device)
    table = read(measured.device) | {measured.backbone: measured}
    text = json.dumps({"version": VERSION, "costs": [asdict(c) for c in table.values()]}, indent=1) + "\n"
    atomic.write(path, text.encode())
    return path


@dataclass
class Estimate:
    """Seconds of some cells; `unknown` is how many of them the table says nothing about."""

    seconds: float = 0.0
    unknown: int = 0


def estimate(cells: Iterable[Cell], table: dict[str, Costs], catalogue: Catalogue) -> dict[str, Estimate]:
    """By kind of cell, what these cells cost one after the other on one device."""
    by_kind: dict[str, Estimate] = {}
    for cell in cells:
        total = by_kind.setdefault(cell.kind, Estimate())
        costs = table.get(cell.backbone)
        seconds = seconds_of(cell, costs, catalogue) if costs else None
        if seconds is None:
            total.unknown += 1
        else:
            total.seconds += seconds
    return by_kind


def seconds_of(cell: Cell, costs: Costs, catalogue: Catalogue) -> float | None:
    """Seconds of one cell; None for what is not counted in images (geometry) or was not measured."""
    work = KINDS[cell.kind].cost(cell, catalogue)
    if work is None:
        return None
    looking = costs.evaluate * work.evaluated + costs.derivative * work.differentiated
    if not work.steps:
        return looking
    trained = names.finetuning(cell.trained)
    if trained.method not in costs.train or (trained.regularizer and cell.trained not in costs.penalty):
        return None
    step = work.batch * costs.train[trained.method] + costs.penalty.get(cell.trained, 0.0)
    return work.steps * step + looking


def gpu_share(cells: Iterable[Cell], table: dict[str, Costs]) -> float:
    """Share of a GPU, 1 / n, that a process needs for the largest fine-tune among `cells`; 0.0 where one of them was
    not measured. Larger batches than the measured one count in proportion.
    """
    need = 0.0
    for cell in cells:
        if isinstance(cell, Finetune):
            costs = table.get(cell.backbone)
            if costs is None or not costs.capacity or cell.finetuning not in costs.memory:
                return 0.0
            batches = max(1.0, cell.recipe.batch_size / costs.batch)
            need = max(need, HEADROOM * batches * costs.memory[cell.finetuning] / costs.capacity)
    return 1 / max(1, int(1 / need)) if need else 0.0


def vectors(cells: Iterable[Cell], table: dict[str, Costs]) -> int:
    """Bytes of the task vectors of these cells, measured or else as the architecture says."""
    return sum(vector(cell, table.get(cell.backbone)) for cell in cells if isinstance(cell, Finetune))


def vector(cell: Finetune, costs: Costs | None = None) -> int:
    """Bytes of one task vector; 0 for methods and architectures of which nothing is known.

    float32 of what trains: with width w, blocks L, rank r, 4 L w^2 for `att`, 6 L w r more for the factors of `lora`,
    and the whole tower for `nonlinear` and `tta` (12 w^2 + 13 w a block; embeddings, norms and projection besides).
    """
    if costs is not None and cell.method in costs.vector:
        return costs.vector[cell.method]
    config = suites.architecture(suites.backbone(cell.backbone).architecture)
    vision = config.get("vision_cfg", {})
    if not isinstance(vision.get("layers"), int):
        return 0
    w, blocks, patch = vision["width"], vision["layers"], vision["patch_size"]
    tokens = (vision["image_size"] // patch) ** 2 + 1
    block = (4 + 2 * vision.get("mlp_ratio", 4.0)) * w * w + (9 + vision.get("mlp_ratio", 4.0)) * w
    whole = blocks * block + w * (1 + tokens + config["embed_dim"] + 3 * patch * patch + 4)
    attention = blocks * 4 * w * w
    (rank, *_) = load().options["lora"]["rank"]
    trained = {
        "nonlinear": whole,
        "tta": whole,
        "att": attention,
        "lora": attention + 6 * blocks * w * dict(cell.recipe.options).get("rank", rank),
    }
    return 4 * int(trained.get(cell.method, 0))


def decoded(cells: Iterable[Cell], sizes: Iterable[int]) -> int:
    """Bytes of the decoded images that these cells read, at every size: one byte a channel."""
    rows = images_in(preflight.needed(cells))
    return sum(rows * 3 * size * size for size in set(sizes))
