"""From a source's label numbers to the card's: by class name wherever the source has names."""

import re
from collections.abc import Sequence

from bench.cards.datasets import DatasetCard, Download
from bench.errors import DataError


def plain(name: str) -> str:
    """A class name without what distributions change at will: case, underscores, slashes, punctuation, spaces."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def label_map(card: DatasetCard, source: Download, names: Sequence[str], where: str) -> list[int]:
    """Card label of every source label.

    `names` are the source's class names in its own label order. They must be the card's `classes` (or the source's
    `labels` in the card) in any order, or be the label numbers themselves; sources without names, and those the card
    says to match by position, keep their numbers. Anything else is a `DataError`: labels are never guessed.
    """
    count = len(card.classes)
    if not names:
        return list(range(count))
    if len(names) != count:
        raise DataError(f"{card.name}: {where} has {len(names)} classes, the card {count}: another version of the data")
    if source.match == "position":
        return list(range(count))
    if all(name.isdecimal() for name in names) and sorted(map(int, names)) == list(range(count)):
        return [int(name) for name in names]
    for expected in (card.classes, source.labels):
        number = {plain(name): i for i, name in enumerate(expected)}
        if len(number) == count and {plain(name) for name in names} == set(number):
            return [number[plain(name)] for name in names]
    wanted = {plain(name) for name in (source.labels or card.classes)}
    strange = ", ".join(repr(name) for name in names if plain(name) not in wanted)[:120]
    raise DataError(
        f"{card.name}: {where} has other classes than the card ({'unknown: ' + strange if strange else 'some twice'}); "
        f"give the source's names as `labels`, in the card's order, in {card.name}.toml"
    )
