"""Published figures, with source, checkpoint family and known defects. They never mix with measured rows."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import BenchError

PATH = Path(__file__).parents[1] / "assets" / "published.toml"
BACKBONES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
EVIDENCE = {
    "P": "read in the project's own code, log, result file or documentation",
    "A": "from an abstract",
    "N": "from secondary notes; not checked against the paper's PDF",
    "I": "inferred",
}


@cache
def load() -> dict[str, Any]:
    """Families and rows of `bench/assets/published.toml`, the rows in the file's order, families resolved."""
    data = tomllib.loads(PATH.read_text(encoding="utf-8"))
    families = data["families"]
    rows = []
    for number, row in enumerate(data["rows"], 1):
        full = {"kind": "addition", "note": "", "normalised": {}, **row}
        wrong = {"name", "family", "evidence", "source", "accuracy"} - set(full)
        unknown = set(full) - {"name", "family", "evidence", "source", "accuracy", "kind", "note", "normalised"}
        if wrong or unknown or full["family"] not in families or full["evidence"] not in EVIDENCE:
            raise BenchError(f"published.toml: row {number} ({full.get('name')}) is malformed; correct it")
        rows.append(full)
    return {"families": families, "rows": rows, "evidence": EVIDENCE, "backbones": list(BACKBONES)}
