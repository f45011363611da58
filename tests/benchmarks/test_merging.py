"""The merging benchmark compares what is equal, and its floors are the operations that it says."""

import pytest

from benchmarks import _peers, merging
from benchmarks._references import ELEMENTWISE, SPECTRAL
from methods.merging import MERGING

SMALL = merging.vectors(merging.shapes(1, 32, outside=True))


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE | SPECTRAL if not MERGING[name].random])
def test_every_reference_computes_what_the_operator_computes(name: str) -> None:
    row = merging.plain(name, SMALL, (ELEMENTWISE | SPECTRAL)[name])
    assert row["difference"] < 1e-3
    assert row["seconds"] > 0


def test_a_peer_that_computes_something_else_is_not_timed() -> None:
    options = {"density": 0.3, "scope": "tensor"}  # with a base, ours merges tensor by tensor
    same = _peers.Peer("ties", lambda v: MERGING["ties"].merge(v, **options), options, base=True)
    _peers.agree(same, SMALL)
    other = _peers.Peer("ties", lambda v: MERGING["ties"].merge(v, density=0.2), {"density": 0.3})
    with pytest.raises(ValueError, match="ties: ours and the peer's differ by"):
        _peers.agree(other, SMALL)
    louder = _peers.Peer("dare", lambda v: {n: 1.2 * x for n, x in MERGING["dare"].merge(v, seed=1).items()})
    with pytest.raises(ValueError, match="dare: ours and the peer's differ by"):
        _peers.agree(louder, SMALL)


@pytest.mark.parametrize("package", ["mergekit", "fusion_bench"])
def test_installed_peers_agree_with_us(package: str) -> None:
    pytest.importorskip(package)
    rows = getattr(_peers, package)()
    assert len(rows) >= 8
    for peer in rows.values():
        _peers.agree(peer, SMALL)


def test_the_floor_of_decompositions_counts_gram_and_eigenvectors() -> None:
    layout = {"a": (4, 10), "b": (10, 4), "bias": (7,), "kernel": (4, 3, 2, 2)}
    one = 4 * 4 * 10 + 14 / 3 * 4**3
    assert merging.spectral_floor(layout, (3, 0), 2.0) == pytest.approx(2 * 3 * one / 2)
    small = 4**3 + 14 / 3 * 4**3
    assert merging.spectral_floor(layout, (0, 2), 1.0) == pytest.approx(2 * 2 * small)
