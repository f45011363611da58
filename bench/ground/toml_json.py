"""TOML and JSON. However wrong a document is, reading it gives one `ValueError` of one line.

Python's own parsers also raise RecursionError (deep nesting), and ValueErrors that are not theirs (a number of five
thousand digits, text that is not UTF-8); a document larger than `LIMIT` is refused before it is parsed.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 16 * 2**20
"""Bytes. The largest document of ours is a search of some ten thousand bytes."""


def parse_object(data: bytes | str, most: int = LIMIT, **kinds: type) -> dict[str, Any]:
    """A JSON object; the fields named in `kinds` must be there and of these types."""
    value = _parse(json.loads, data, most)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            raise ValueError(f"{name!r} is missing or not of type {kind.__name__}")
    return value


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """The table of a TOML document."""
    return dict(_parse(tomllib.loads, data, LIMIT))


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file."""
    return parse_toml(path.read_bytes())


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _parse(parse: Callable[[str], Any], data: bytes | str, most: int) -> Any:
    if len(data) > most:
        raise ValueError(f"{len(data):,} bytes, more than {most:,}")
    try:
        return parse(data if isinstance(data, str) else data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())[:500]) from error
