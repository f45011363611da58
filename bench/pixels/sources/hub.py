"""Hugging Face data sets: parquet shards with image bytes, at a pinned commit.

A shard has a column `struct<bytes: binary, path: string>` (or plain binary) and a column of integer labels, booleans
or class names; class names stand in the schema metadata under `huggingface`, as JSON. Shards are looked for in a clone
`<root>/<owner>/<name>`, then in Hugging Face's own cache at the pinned commit.
"""

import json
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from bench.cards.datasets import Download, Hub
from bench.errors import DataError
from bench.pixels.sources.part import Part
from bench.pixels.sources.pins import pins, write_pins

BATCH = 64


class Reader:
    """Reads and fetches hub repositories."""

    def missing(self, source: Download, part: str, root: Path) -> str:
        """What is not there, in a few words."""
        assert isinstance(source, Hub)
        try:
            shards(source, part, root)
        except DataError as error:
            return str(error)
        return ""

    def open_part(self, source: Download, part: str, root: Path) -> Part:
        """All shards of a part as one table."""
        assert isinstance(source, Hub)
        files = shards(source, part, root)
        sizes, names = [], None
        for path in files:
            file = _open(path)
            sizes.append(file.metadata.num_rows)
            _check_columns(file, source, path)
            found = _class_names(file, source)
            if names not in (None, found):
                raise DataError(f"{source.repo}: {path.name} lists other classes than the shards before it")
            names = found
        where = f"{source.repo} ({part})"
        known = names or ()
        return Part(where, sum(sizes), known, lambda indices: _read(files, sizes, source, part, known, indices))

    def fetch(self, source: Download, parts: Sequence[str], root: Path, revision: str) -> None:
        """Download the shards into Hugging Face's cache; interrupted downloads resume."""
        assert isinstance(source, Hub)
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
            write_pins(pins(root) | {source.repo: revision}, root)


def commit_of(source: Hub, root: Path) -> str:
    """The pinned commit: given by hand, else the card's; empty when there is none."""
    return pins(root).get(source.repo) or source.revision


def pattern(source: Hub, part: str) -> str:
    """Glob pattern of a part's shards inside the repository."""
    folder = "data" if source.config == "default" else source.config
    return (source.files or f"{folder}/{{part}}-*.parquet").replace("{part}", part)


def shards(source: Hub, part: str, root: Path) -> list[Path]:
    """All shards of a part, in order; `DataError` when one is missing."""
    folder = root / source.repo
    if not folder.is_dir():
        folder = _snapshot(source, root)
    found = sorted(folder.glob(pattern(source, part)))
    if not found:
        raise DataError(f"no file {pattern(source, part)} of {source.repo} in {folder}")
    for number, path in enumerate(found):
        counted = re.search(r"-(\d{5})-of-(\d{5})\b", path.name)
        if counted and (int(counted[1]), int(counted[2])) != (number, len(found)):
            raise DataError(f"{source.repo}: only {len(found)} of {int(counted[2])} shards of {part!r} are in {folder}")
    return found


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
        raise DataError(f"{what}: the hub answered {_one_line(error)}; try again") from error
    except Exception as error:
        # Which network library raises, and what, changes between versions of huggingface_hub.
        if getattr(error, "errno", None) == 28:
            raise DataError(f"{what}: the disk is full; free space or set HF_HOME to another disk") from error
        raise DataError(f"{what}: cannot be reached ({_one_line(error)}); check the network, then run again") from error


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({_one_line(error)}); fetch it again") from error


def _check_columns(file: Any, source: Hub, path: Path) -> None:
    names = file.schema_arrow.names
    for column in (source.image_column, source.label_column):
        if column not in names:
            raise DataError(f"{source.repo}: {path.name} has no column {column!r}; it has {', '.join(map(str, names))}")


def _class_names(file: Any, source: Hub) -> tuple[str, ...]:
    """Class names from the schema metadata; empty when the file has none."""
    raw = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
        names = features.get(source.label_column, {}).get("names", ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{source.repo}: the schema metadata of a shard cannot be read ({_one_line(error)})") from error
    return tuple(map(str, names or ()))


def _read(
    files: Sequence[Path], sizes: Sequence[int], source: Hub, part: str, names: tuple[str, ...], indices: Sequence[int]
) -> Iterator[tuple[str, bytes, int]]:
    import pyarrow as pa

    columns = [source.image_column, source.label_column]
    wanted = iter(indices)
    target = next(wanted, None)
    start = 0
    for path, size in zip(files, sizes, strict=True):
        file, first = _open(path), start
        start += size
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if target is None or target >= first + rows:  # a held-out split needs few row groups
                first += rows
                continue
            try:
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                    while target is not None and target < first + batch.num_rows:
                        image, label = (batch.column(c)[target - first].as_py() for c in columns)
                        name = f"{part}/{target}"
                        yield name, _bytes(image, source, name), _number(label, names, source, name)
                        target = next(wanted, None)
                    first += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path} is damaged ({_one_line(error)}); delete it and fetch again") from error


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
