"""The catalogue with a user's own methods: from entry points and from `--include` files, which import torch."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from bench.registry.catalogue import Catalogue, load

GROUPS = ("bench.merging", "bench.finetuning")


def with_plugins(include: Iterable[Any] = ()) -> Catalogue:
    """The catalogue extended by entry points, `--include` files and objects; imports torch only when there are any."""
    include = tuple(include)
    if not include and not any(entry_points(group=group) for group in GROUPS):
        return load()
    from bench.registry import live

    return live.catalogue_of(live.load(include))
