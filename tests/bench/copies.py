"""Tiny local copies of data sets in the three source formats, for tests: same layouts, few images.

Every image is a smooth random picture, stored as PNG so that its pixels survive; JPEG files where the layout asks.
"""

import gzip
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bench.cards.datasets import DatasetCard


def picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def card(
    name: str,
    classes: Sequence[str],
    rows: dict[str, int],
    *sources: dict[str, object],
) -> DatasetCard:
    return DatasetCard.model_validate(
        {
            "name": name,
            "title": name,
            "licence": "none",
            "citation": "none",
            "classes": list(classes),
            "templates": ["a {}."],
            "splits": {split: {"rows": count} for split, count in rows.items()},
            "sources": list(sources),
        }
    )


def shard(
    path: Path,
    images: Sequence[bytes],
    labels: Sequence[object],
    names: Sequence[str] = (),
    *,
    columns: tuple[str, str] = ("image", "label"),
    row_group: int = 4,
) -> None:
    """A parquet file as `datasets` writes it: struct of bytes and path, int64 labels, features as JSON metadata."""
    image = pa.array(
        [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    features: dict[str, object] = {columns[0]: {"_type": "Image"}, columns[1]: {"dtype": "int64", "_type": "Value"}}
    if names:
        features[columns[1]] = {"names": list(names), "_type": "ClassLabel"}
    table = pa.table(dict(zip(columns, (image, pa.array(labels)), strict=True)))
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)


def class_folders(folder: Path, classes: Sequence[str], each: int, seed: int = 0, suffix: str = ".png") -> None:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            picture(seed + 100 * number + i).save(folder / name / f"{name.replace('/', '_')}_{i:03d}{suffix}")


def idx(path: Path, array: np.ndarray, packed: bool = False) -> None:
    """MNIST's file format: magic number, big-endian sizes, bytes."""
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)
