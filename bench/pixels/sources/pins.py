"""What a user pinned in the data folder: revisions and hashes of row ids that no card names."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from bench.errors import DataError, retold
from bench.ground import atomic

PINS, HASHES = "pins.json", "hashes.json"
Table = TypeVar("Table", bound=dict[str, Any])


def pins(root: Path) -> dict[str, str]:
    """Revisions that were given by hand, by repository."""
    return _read(root / PINS, dict[str, str], "revisions; remove it and fetch again with --revision")


def hashes(root: Path) -> dict[str, dict[str, str]]:
    """Hashes of row ids by split that `bench data check --pin` kept, by `CARD/SOURCE`."""
    return _read(root / HASHES, dict[str, dict[str, str]], "hashes; remove it and run `bench data check --pin`")


def write(path: Path, table: dict[str, Any]) -> Path:
    """Put a table in the place of the one that is there; its file."""
    with retold(DataError, f"cannot write {path}: {{why}}", OSError):
        atomic.write(path, json.dumps(table, indent=1, sort_keys=True).encode())
    return path


def _read(path: Path, kind: type[Table], what: str) -> Table:
    with retold(DataError, f"{path} cannot be read ({{why}})", OSError):
        data = path.read_bytes() if path.is_file() else b"{}"
    with retold(DataError, f"{path} is not a table of {what}", ValueError):
        return TypeAdapter(kind).validate_json(data)
