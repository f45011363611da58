"""Vector files: equal vectors, equal bytes; what is written is what is read."""

import torch

from bench.store import task_vectors


def test_equal_vectors_give_equal_bytes_and_load_in_one_order():
    delta = {"b": torch.ones(2), "a": torch.arange(6.0).view(2, 3)}
    written = {task_vectors.dump(delta, None, {"task": "digits", "key": "k"}) for _ in range(40)}
    assert len(written) == 1
    assert {tuple(task_vectors.load(data, "here")[0]) for data in list(written) * 40} == {("a", "b")}


def test_round_trip_with_factors():
    b, a = torch.randn(4, 2), torch.randn(2, 3)
    delta, factors = task_vectors.load(task_vectors.dump({"w": b @ a}, {"w": (b, a)}, {}), "here")
    assert torch.equal(delta["w"], b @ a)
    assert torch.equal(factors["w"][0], b)
    assert torch.equal(factors["w"][1], a)
