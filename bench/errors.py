"""Errors a user can act on: one line that says what was asked, what is wrong and what to do."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

LONGEST = 4000
"""Characters of a message; what is left out of a longer one is its middle."""
LONGEST_REASON = 240
"""Characters of what somebody else's error says inside one of ours."""


class BenchError(Exception):
    """Anything wrong that the user can mend. The command line prints it without a traceback and exits with 2."""

    def __str__(self) -> str:
        line = " ".join(super().__str__().splitlines())  # names from outside may hold line breaks, or be megabytes
        return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


SHOWN = 40
"""Names that fit into a line: all operators do, the rows of a leaderboard do not."""


def shown(url: str) -> str:
    """A store's URL without the keys that it may carry."""
    return re.sub(r"://[^/@]*@", "://", url)


class UnknownName(BenchError):
    """A name that no registry, card, suite or grid knows; carries the nearest name it could have meant."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1)
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known[:SHOWN]) or 'none'}{more}"
        super().__init__(f"no {kind} named {name!r}; {hint}")


class StoreError(BenchError):
    """The store cannot be read or written as asked: another version, damaged, unreachable or full."""


class Unwritable(StoreError):
    """Nothing can be written any more: no fault of the cell that finds out, and the end of the run."""


class NoStore(StoreError):
    """There is no store yet where one was to be read."""


class DataError(BenchError):
    """A data set or weight file is missing, damaged or not what its card says."""


def first_line(error: BaseException) -> str:
    """What an error says, as far as it fits into a sentence of ours; of one that says nothing, its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__).rstrip(".")


def why(error: BaseException) -> str:
    """A reason on one line: the system's own words where an error has them, all that pydantic finds wrong, else its
    text as far as it fits into brackets."""
    findings = getattr(error, "errors", None)
    if callable(findings):
        return _findings(findings())
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:LONGEST_REASON].rstrip(".") or type(error).__name__


def _findings(errors: Sequence[Mapping[str, Any]]) -> str:
    """Where pydantic found what, on a line of bearable length."""
    pairs = [(".".join(map(str, e["loc"])) or "card", e["msg"].removeprefix("Value error, ")) for e in errors]
    text = " ".join("; ".join(f"{place}: {message}" for place, message in pairs).split())
    return f"{len(pairs)} problem(s): {text if len(text) <= 2000 else text[:2000] + '...'}"


@contextlib.contextmanager
def retold(kind: type[BenchError], text: str, *errors: type[BaseException]) -> Iterator[None]:
    """Within it, `errors` of others become one of `kind` that says `text`, their reason in the place of `{why}`.

    Our own errors pass as they are.
    """
    try:
        yield
    except BenchError:
        raise
    except errors as error:
        raise kind(text.replace("{why}", why(error))) from error


def told(error: BaseException) -> str:
    """An error of whatever kind on one line: our own by their text, which is a sentence, others after their class."""
    if isinstance(error, BenchError):
        return str(error)
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
