"""What a user pinned in the data folder: revisions and hashes of row ids that no card names."""

import json
from pathlib import Path
from typing import Any

from bench.errors import DataError
from bench.ground import atomic

PINS, HASHES = "pins.json", "hashes.json"


def pins(root: Path) -> dict[str, str]:
    """Revisions that were given by hand, by repository."""
    found = read_table(root / PINS, "fetch again with --revision")
    if not all(isinstance(v, str) for v in found.values()):
        raise DataError(f"{root / PINS} is not a table of revisions; remove it and fetch again with --revision")
    return found


def write_pins(known: dict[str, str], root: Path) -> None:
    """Keep revisions that were given by hand."""
    write_table(root / PINS, known)


def read_table(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it and {remedy}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a table of revisions; remove it and {remedy}")
    return found


def write_table(path: Path, table: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.whole(path) as part:
            part.write_text(json.dumps(table, indent=1, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
