"""`bench`: which way of fine-tuning and which way of merging give the best multi-task model, and is it real?

What is public here is `__all__`; docs/python.md has an example of each. Nothing is imported before it is asked for.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from bench.ground import versions

if TYPE_CHECKING:
    from bench.face.models import evaluate, merge
    from bench.face.reading import compare, leaderboard, results, verify
    from bench.face.running import plan, run

__all__ = ["compare", "evaluate", "leaderboard", "merge", "plan", "results", "run", "verify"]
__version__ = versions.BENCH

_HOMES = {
    **dict.fromkeys(("plan", "run"), "running"),
    **dict.fromkeys(("compare", "leaderboard", "results", "verify"), "reading"),
    **dict.fromkeys(("evaluate", "merge"), "models"),
}

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Read by torch at its first tensor: large ones get pages of 2 MiB where the kernel has them (Linux). Without it, the
# first touch of new memory, page by page, takes some percent of a training step and half of a task arithmetic.


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"bench.face.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
