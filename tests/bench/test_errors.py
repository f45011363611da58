import pytest

from bench.errors import LONGEST, LONGEST_REASON, SHOWN, BenchError, DataError, StoreError, UnknownName, retold, told


def test_no_near_name_lists_as_many_as_fit_into_a_line() -> None:
    names = [f"row{i:03}" for i in range(SHOWN + 2)]
    assert str(UnknownName("row", "zzz", names[:2])) == "no row named 'zzz'; known: row000, row001"
    assert str(UnknownName("row", "zzz", names)).endswith(f"{names[SHOWN - 1]} and 2 more")
    assert str(UnknownName("row", "zzz", [])) == "no row named 'zzz'; known: none"


def test_a_message_is_one_line_of_bounded_length_that_keeps_its_ends() -> None:
    assert str(BenchError("a\nb")) == "a b"
    assert str(BenchError("x" * LONGEST)) == "x" * LONGEST
    long = str(BenchError(f"suite {'[' * 10**6}: correct it"))
    assert long.startswith("suite [[")
    assert long.endswith("[[: correct it")
    assert len(long) == LONGEST + 5


def test_an_error_is_told_on_one_line_ours_by_its_text_any_other_after_its_class() -> None:
    assert told(StoreError("store x is damaged;\nrestore it")) == "store x is damaged; restore it"
    assert told(ValueError("one.\ntwo")) == "ValueError: one"
    assert told(KeyError("lr")) == "KeyError: 'lr'"
    assert told(SystemExit(3)) == "SystemExit: 3"
    assert told(AssertionError()) == "AssertionError"
    assert told(RuntimeError("\n  \n CUDA error\nat x")) == "RuntimeError: CUDA error"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/a/b"), "No space left on device"),
        (OSError("16 requested and\n 8 written."), "16 requested and 8 written"),
        (ValueError("x" * 1000), "x" * LONGEST_REASON),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_of_others_are_retold_in_one_line_and_ours_pass(error: Exception, reason: str) -> None:
    with pytest.raises(DataError) as caught, retold(DataError, "{x} is bad ({why}); mend it", OSError, ValueError):
        raise error
    assert str(caught.value) == f"{{x}} is bad ({reason}); mend it"
    assert caught.value.__cause__ is error
    with pytest.raises(StoreError, match="ours"), retold(DataError, "", Exception):
        raise StoreError("ours")
    with pytest.raises(KeyError), retold(DataError, "", OSError):
        raise KeyError("not asked for")
