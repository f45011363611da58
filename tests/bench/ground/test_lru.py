from bench.ground.lru import Kept


def test_the_oldest_entry_goes_first_and_a_known_key_drops_nothing() -> None:
    kept: Kept[str, int] = Kept(2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = 3
    assert kept == {"a": 3, "b": 2}
    kept["c"] = 4
    assert kept == {"b": 2, "c": 4}
