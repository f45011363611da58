"""Published figures, with source, checkpoint family and known defects. They never mix with measured rows."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.cards.datasets import Card
from bench.errors import BenchError, retold
from bench.ground import toml_json

PATH = Path(__file__).parents[1] / "assets" / "published.toml"
BACKBONES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
EVIDENCE = {
    "P": "read in the project's own code, log, result file or documentation",
    "A": "from an abstract",
    "N": "from secondary notes; not checked against the paper's PDF",
    "I": "inferred",
}


class Family(Card):
    """Checkpoints that figures were measured on, and what is known to be wrong with them."""

    title: str
    defects: tuple[str, ...]


class Row(Card):
    """One published figure for each backbone, in percent."""

    name: str
    family: str
    evidence: Literal["P", "A", "N", "I"]
    source: str
    accuracy: dict[str, int | float]
    kind: str = "addition"
    note: str = ""
    normalised: Annotated[dict[str, int | float], Field(default_factory=dict)]


class Published(Card):
    """The whole file."""

    families: dict[str, Family]
    rows: tuple[Row, ...]


@cache
def load() -> dict[str, Any]:
    """Families and rows of `bench/assets/published.toml`, the rows in the file's order, families resolved."""
    return read(PATH)


def read(path: Path) -> dict[str, Any]:
    """Read published figures from a file; BenchError names every problem."""
    with retold(BenchError, f"{path.name}: {{why}}; correct it", OSError, ValueError):
        table = Published.model_validate(toml_json.read_toml(path))
    strangers = sorted({row.family for row in table.rows} - table.families.keys())
    if strangers:
        raise BenchError(f"{path.name}: no family {strangers[0]!r}; add [families.{strangers[0]}]")
    return {**table.model_dump(mode="json"), "evidence": EVIDENCE, "backbones": list(BACKBONES)}
