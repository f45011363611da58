"""Where downloaded images come from: hub shards, the reference code's folders, torchvision's data sets.

Every source is read as rows `(id, image, label)` in the source's own order; nothing is ever skipped. An id holds the
row's name, its label and the start of the sha256 of its content, so that a hash of ids says which images, in which
order, with which labels a split consists of, and equal contents in two splits (a leaked test set) show.

`data_folder()` is where local data lies: `<data>/<layout of the reference code>` for folders and torchvision, and
`<data>/<owner>/<name>` for clones of hub repositories; other hub repositories are looked up in Hugging Face's cache.
"""

from bench.pixels.sources.check import check
from bench.pixels.sources.holdout import training_rows, validation_rows
from bench.pixels.sources.hub import reachable
from bench.pixels.sources.labels import label_map
from bench.pixels.sources.reading import available, data_folder, fetch, pin, row_hash, rows, unpinned

__all__ = [
    "available",
    "check",
    "data_folder",
    "fetch",
    "label_map",
    "pin",
    "reachable",
    "row_hash",
    "rows",
    "training_rows",
    "unpinned",
    "validation_rows",
]
