"""`bench`: which way of fine-tuning and which way of merging give the best multi-task model, and is it real?

What is public here is `__all__`; docs/python.md has an example of each. Nothing is imported before it is asked for.
"""

import importlib
import os
import sys
from types import ModuleType
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


class _Face(ModuleType):
    """Where a function and a room have one name (`plan`, `leaderboard`), `bench.plan` is the function.

    Importing `bench.plan.grid` would put the room there. `from bench.plan import grid` finds it all the same.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'bench' has no attribute {name!r}; it offers {', '.join(__all__)}")
        return getattr(importlib.import_module(f"bench.face.{_HOMES[name]}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *__all__]


sys.modules[__name__].__class__ = _Face
