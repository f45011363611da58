"""Third-party checkpoints: published experts in, merged models out, nothing in a file ever executed."""

from bench.exchange.checkpoints.exporting import About, export_hf, export_open_clip, model_card, write_whole
from bench.exchange.checkpoints.importing import FAMILIES, Imported, file_hash, import_expert, task_vector

__all__ = [
    "FAMILIES",
    "About",
    "Imported",
    "export_hf",
    "export_open_clip",
    "file_hash",
    "import_expert",
    "model_card",
    "task_vector",
    "write_whole",
]
