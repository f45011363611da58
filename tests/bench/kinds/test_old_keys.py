"""Keys and identities of what was planned and stored before options belonged to their owners (439f7bf)."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.cards import suites
from bench.kinds import from_identity
from bench.kinds.expert import Finetune
from bench.planning import grid
from bench.registry import catalogue

LEADERBOARDS = Path(__file__).parents[3] / "leaderboards"
KEYS = {
    ("mini8", "demo"): (225, "a10b9647e5d01ec86bb2"),
    ("mini8", "all"): (817, "dcff4953e638438beb73"),
    ("mini8", "compositions"): (337, "c2a183bc226d59009242"),
    ("mini8", "negation"): (257, "6edfa636cfa239a3f548"),
    ("mini8", "strength"): (127, "c33f8a72d68c40118674"),
    ("vision8", "paper"): (2451, "2b3309d9aedc4118d38a"),
}
"""Of seeds 0 and 1: the number of cells, and the first digits of the sha256 of all keys in the order of the plan."""


@pytest.mark.parametrize(("suite", "name"), KEYS)
def test_plans_have_the_keys_that_they_had(suite: str, name: str) -> None:
    cells = grid.plan(suites.load(suite), grid.grid(name), catalogue.load(), seeds=(0, 1))
    digest = hashlib.sha256("".join(cell.key for cell in cells).encode()).hexdigest()
    assert (len(cells), digest[:20]) == KEYS[suite, name]


def test_every_stored_identity_is_that_of_its_key() -> None:
    (path,) = LEADERBOARDS.glob("*/cells.parquet")
    table = pq.read_table(path, columns=["key", "identity"]).to_pydict()
    assert len(table["key"]) > 1000
    trained = 0
    for key, text in zip(table["key"], table["identity"], strict=True):
        cell = from_identity(json.loads(text), key)
        assert json.dumps(cell.identity, sort_keys=True) == text
        trained += isinstance(cell, Finetune)
    assert trained > 100
