"""pytest on a copy of the tree, in a process that was forked off one that had imported the big libraries."""

import os
import sys
from pathlib import Path

import pytest

LIBRARIES = [
    "hypothesis", "pandas", "pyarrow.compute", "pyarrow.fs", "pyarrow.parquet", "pydantic", "scipy.special", "torch",
    "typer",
]  # fmt: skip
"""Not open_clip: it imports huggingface_hub, which looks at once where its cache is."""
ROOT = str(Path(__file__).parent.parent.parent)


def run(root: str, words: list[str], log: str) -> None:
    """Ends the process with pytest's exit code; what it said is in `log`."""
    os.setsid()
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("bench", "methods", "tests")]:
        del sys.modules[name]
    sys.path[:] = [root, *(path for path in sys.path if path not in ("", ROOT))]
    sys.dont_write_bytecode = False  # the copy keeps what it has compiled
    os.chdir(root)
    os.environ["PYTHONPATH"] = root
    code = int(pytest.main(words))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
