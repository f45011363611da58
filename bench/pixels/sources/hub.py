"""Hugging Face data sets: parquet shards with image bytes, at a pinned commit.

A shard has a column `struct<bytes: binary, path: string>` (or plain binary) and a column of integer labels, booleans
or class names; class names stand in the schema metadata under `huggingface`, as JSON. Shards are looked for in a clone
`<root>/<owner>/<name>`, then in Hugging Face's own cache at the pinned commit.
"""

import json
import logging
import re
import socket
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from bench.cards.datasets import Hub
from bench.errors import DataError, retold, why
from bench.pixels.sources import pins
from bench.pixels.sources.part import Part

BATCH = 64


def missing(source: Hub, part: str, root: Path) -> str:
    """What is not there, in a few words."""
    try:
        shards(source, part, root)
    except DataError as error:
        return str(error)
    return ""


def open_part(source: Hub, part: str, root: Path) -> Part:
    """All shards of a part as one table."""
    files = shards(source, part, root)
    size, names = 0, None
    for path in files:
        file = _open(path)
        size += file.metadata.num_rows
        _check_columns(file, source, path)
        listed = _class_names(file, source)
        if names not in (None, listed):
            raise DataError(f"{source.repo}: {path.name} lists other classes than the shards before it")
        names = listed
    classes = names or ()
    return Part(f"{source.repo} ({part})", size, classes, lambda rows: _read(files, source, part, classes, rows))


def fetch(source: Hub, parts: Sequence[str], root: Path, revision: str) -> None:
    """Download the shards into Hugging Face's cache; interrupted downloads resume."""
    commit = revision or commit_of(source, root)
    if not commit:
        raise DataError(
            f"{source.repo} is not pinned; look up a commit of the data set and run again with --revision COMMIT "
            "(and write it into the card)"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise DataError(f"revision {commit!r} of {source.repo} is not a 40-digit commit; branches and tags change")
    _download(source, parts, commit)
    if revision and revision != source.revision:
        pins.write(root / pins.PINS, pins.pins(root) | {source.repo: revision})


def commit_of(source: Hub, root: Path) -> str:
    """The pinned commit: given by hand, else the card's; empty when there is none."""
    return pins.pins(root).get(source.repo) or source.revision


def pattern(source: Hub, part: str) -> str:
    """Glob pattern of a part's shards inside the repository."""
    folder = "data" if source.config == "default" else source.config
    return (source.files or f"{folder}/{{part}}-*.parquet").replace("{part}", part)


def shards(source: Hub, part: str, root: Path) -> list[Path]:
    """All shards of a part, in order; `DataError` when one is missing."""
    folder = root / source.repo
    if not folder.is_dir():
        folder = _snapshot(source, root)
    paths = sorted(folder.glob(pattern(source, part)))
    if not paths:
        raise DataError(f"no file {pattern(source, part)} of {source.repo} in {folder}")
    for number, path in enumerate(paths):
        counted = re.search(r"-(\d{5})-of-(\d{5})\b", path.name)
        if counted and (int(counted[1]), int(counted[2])) != (number, len(paths)):
            raise DataError(f"{source.repo}: only {len(paths)} of {int(counted[2])} shards of {part!r} are in {folder}")
    return paths


def _snapshot(source: Hub, root: Path) -> Path:
    from huggingface_hub import constants

    commit = commit_of(source, root)
    if not commit:
        raise DataError(f"{source.repo} is neither in {root} nor pinned to a commit")
    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{source.repo.replace('/', '--')}" / "snapshots" / commit
    if not folder.is_dir():
        raise DataError(f"{source.repo} at {commit[:7]} is neither in {root} nor in Hugging Face's cache")
    return folder


def _download(source: Hub, parts: Sequence[str], commit: str) -> None:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    wanted = [pattern(source, part) for part in parts]
    what = f"{source.repo} at {commit[:7]}"
    if constants.HF_HUB_OFFLINE:
        raise DataError(f"{what}: HF_HUB_OFFLINE is set; unset it, or put a clone into <data>/{source.repo}")
    if not reachable():
        raise DataError(
            f"{what}: no network ({constants.ENDPOINT} is unknown here); put a clone into <data>/{source.repo}"
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    try:
        snapshot_download(source.repo, repo_type="dataset", revision=commit, allow_patterns=wanted)
    except GatedRepoError as error:
        raise DataError(f"{what} is gated: accept its terms on its page and log in with `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise DataError(f"{what}: the hub knows no such commit; pin another with --revision") from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{what}: no such data set, or a private one; log in with `hf auth login`") from error
    except HfHubHTTPError as error:
        raise DataError(f"{what}: the hub answered {why(error)}; try again") from error
    except Exception as error:
        # Which network library raises, and what, changes between versions of huggingface_hub.
        if getattr(error, "errno", None) == 28:
            raise DataError(f"{what}: the disk is full; free space or set HF_HOME to another disk") from error
        raise DataError(f"{what}: cannot be reached ({why(error)}); check the network, then run again") from error


def reachable() -> bool:
    """Whether the hub's name resolves; True behind a proxy, which resolves names itself."""
    from huggingface_hub.constants import ENDPOINT

    address = urlsplit(ENDPOINT)
    if "https" in getproxies():
        return True
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = f"{path} is not a readable parquet file ({{why}}); fetch it again"
    with retold(DataError, text, pa.ArrowException, OSError):
        return pq.ParquetFile(path)


def _check_columns(file: Any, source: Hub, path: Path) -> None:
    names = file.schema_arrow.names
    for column in (source.image_column, source.label_column):
        if column not in names:
            raise DataError(f"{source.repo}: {path.name} has no column {column!r}; it has {', '.join(map(str, names))}")


def _class_names(file: Any, source: Hub) -> tuple[str, ...]:
    """Class names from the schema metadata; empty when the file has none."""
    raw = (file.schema_arrow.metadata or {}).get(b"huggingface")
    text = f"{source.repo}: the schema metadata of a shard cannot be read ({{why}})"
    with retold(DataError, text, ValueError, KeyError, TypeError, AttributeError):
        features = json.loads(raw)["info"]["features"] if raw else {}
        names = features.get(source.label_column, {}).get("names", ())
    return tuple(map(str, names or ()))


def _read(
    files: Sequence[Path], source: Hub, part: str, names: tuple[str, ...], indices: Sequence[int]
) -> Iterator[tuple[str, bytes, int]]:
    import pyarrow as pa

    columns = [source.image_column, source.label_column]
    first = 0
    for path in files:
        file, text = _open(path), f"{path} is damaged ({{why}}); delete it and fetch again"
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not _within(indices, first, rows):  # a held-out split needs few row groups
                first += rows
                continue
            with retold(DataError, text, pa.ArrowException, OSError):
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                    for index in _within(indices, first, len(batch)):
                        image, label = (batch.column(c)[index - first].as_py() for c in columns)
                        name = f"{part}/{index}"
                        yield name, _bytes(image, source, name), _number(label, names, source, name)
                    first += len(batch)


def _within(indices: Sequence[int], first: int, rows: int) -> Sequence[int]:
    """Those of ascending `indices` that lie in `rows` rows from `first`."""
    return indices[bisect_left(indices, first) : bisect_left(indices, first + rows)]


def _bytes(image: Any, source: Hub, name: str) -> bytes:
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        raise DataError(f"{source.repo}: row {name} holds no image bytes in column {source.image_column!r}")
    return data


def _number(label: Any, names: tuple[str, ...], source: Hub, name: str) -> int:
    if isinstance(label, str) and label in names:
        return names.index(label)
    if not isinstance(label, int):
        raise DataError(f"{source.repo}: row {name} has the label {label!r}, neither a number nor a class name")
    return int(label)
