"""Execute docs/tour.ipynb and write it back with its outputs: `python docs/run_tour.py`. Without times, so that equal
outputs are equal bytes.
"""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).with_name("tour.ipynb")


def executed(path: Path = PATH) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel in its folder; CellExecutionError when a cell fails."""
    root = str(path.resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm's advice to install widgets
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}, record_timing=False
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), PATH)
