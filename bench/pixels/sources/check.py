"""`bench data check`: is this the data the card means, and do its splits share images?"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from bench.cards.datasets import SPLITS, DatasetCard
from bench.errors import DataError
from bench.pixels.sources.reading import choose, data_folder, recorded, row_hash, rows


@dataclass(frozen=True)
class Report:
    """What was read. `sha256` by split; `verified` are the splits whose hash is recorded and matched.

    `shared` counts, for each pair of splits, images of the later one whose content also occurs in the earlier one: a
    few natural duplicates are common, a leaked test split shows as a large share of `rows`.
    """

    name: str
    kind: str
    rows: dict[str, int]
    sha256: dict[str, str]
    verified: tuple[str, ...]
    shared: dict[str, int] = field(default_factory=dict)


def check(card: DatasetCard, root: Path | None = None, kind: str = "", decode: bool = False) -> Report:
    """Read every row of every split; `DataError` on the first thing that is not as the card says.

    With `decode`, every image is also decoded, which finds damaged ones (named in the error).
    """
    root = root or data_folder()
    source, _ = choose(card, root, kind)
    expected = recorded(card, source, root)
    sizes: dict[str, int] = {}
    hashes: dict[str, str] = {}
    contents: dict[str, Counter[str]] = {}
    for split in card.splits:
        ids = []
        for row in rows(card, split, root, source.kind):
            if decode:
                from bench.pixels.sources.decode import rgb

                rgb(row.image, f"{card.name} {row.id}")
            ids.append(row.id)
        sizes[split], hashes[split] = len(ids), row_hash(ids)
        contents[split] = Counter(name.rpartition(":")[2] for name in ids)
        if expected.get(split, hashes[split]) != hashes[split]:
            raise DataError(
                f"{card.name}: the {split} rows of source {source.kind} are not those that were recorded "
                f"(sha256 {hashes[split][:12]}, recorded {expected[split][:12]}): other images, labels or order"
            )
    shared = {
        f"{a}+{b}": sum(count for content, count in contents[b].items() if content in contents[a])
        for a, b in combinations([s for s in SPLITS if s in contents], 2)
    }
    return Report(card.name, source.kind, sizes, hashes, tuple(s for s in card.splits if s in expected), shared)
