"""Hypothesis strategies that damage files: as disks and networks do (bytes), and as a hostile hand does (values)."""

import copy
import os
import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MORE = int(os.environ.get("BENCH_FUZZ", "0"))


def examples(count: int, **options: Any) -> Callable[[Any], Any]:
    """Settings of a test: `count` examples, the same in every run; BENCH_FUZZ=N asks for N times as many new ones."""
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=count * max(MORE, 1), derandomize=not MORE, deadline=None, suppress_health_check=slow, **options
    )


HUGE = "9" * 5000
"""More digits than Python turns into a number."""


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` truncated, with bits flipped, with a piece cut out, repeated or blown up."""
    place = st.integers(0, len(data))
    pieces = st.tuples(place, place).map(sorted)
    return st.one_of(
        place.map(lambda end: data[:end]),
        st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=4, unique=True).map(lambda at: flip(data, at)),
        pieces.map(lambda p: data[: p[0]] + data[p[1] :]),
        st.tuples(pieces, place).map(lambda t: data[: t[1]] + data[t[0][0] : t[0][1]] + data[t[1] :]),
        st.tuples(place, st.sampled_from((b"\0", b"[", b"{", b'"', b"9", b"\xff", b" ")), st.integers(1, 30_000)).map(
            lambda t: data[: t[0]] + t[1] * t[2] + data[t[0] :]
        ),
    )


def flip(data: bytes, bits: list[int]) -> bytes:
    """`data` with these bits turned over."""
    found = bytearray(data)
    for bit in bits:
        found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


WEIRD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**63, -(2**70), float("nan"), float("inf"), "", "x", "../../etc/passwd", "a\nb", "\0",
    "\ud800", "<img src=x onerror=alert(1)>", [], {}, [None], {"a": []}, [[[[]]]], "9" * 400,
)  # fmt: skip


def changed(value: Any) -> st.SearchStrategy[Any]:
    """A JSON value with one of its parts replaced or removed."""
    return st.tuples(st.sampled_from(list(_paths(value))), st.sampled_from(WEIRD), st.booleans()).map(
        lambda t: _replaced(value, *t)
    )


def _paths(value: Any, here: tuple[Any, ...] = ()) -> Any:
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from _paths(part, (*here, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any, remove: bool) -> Any:
    if not path:
        return new
    found = copy.deepcopy(value)
    at = found
    for key in path[:-1]:
        at = at[key]
    if remove:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return found


LITERALS = (
    '""', '"x"', '"../../etc/passwd"', r'"\u0000"', r'"a\nb"', "0", "-1", "1.5", "nan", "-inf", "true", "1979-05-27",
    "[]", "{}", "[1, 2]", "{a = 1}", "[[[[]]]]", "[" * 2000, HUGE, "0x" + "f" * 400, "1e400", '"""',
)  # fmt: skip


def miswritten(text: str) -> st.SearchStrategy[bytes]:
    """A TOML text with the value of one of its keys replaced, or one of its lines removed or written twice."""
    lines = text.splitlines()
    with_value = [i for i, line in enumerate(lines) if re.match(r'\s*[\w".-]+ = ', line)]

    def put(i: int, new: list[str]) -> bytes:
        return "\n".join((*lines[:i], *new, *lines[i + 1 :])).encode()

    return st.one_of(
        st.tuples(st.sampled_from(with_value), st.sampled_from(LITERALS)).map(
            lambda t: put(t[0], [f"{lines[t[0]].partition(' = ')[0]} = {t[1]}"])
        ),
        st.integers(0, len(lines) - 1).map(lambda i: put(i, [])),
        st.integers(0, len(lines) - 1).map(lambda i: put(i, [lines[i]] * 2)),
    )
