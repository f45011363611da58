"""What a method of one's own does, as 12 hex digits: the text of its file, or of an object made in a notebook.

Results belong to that text: a record keeps the digits, and an edited method under the same name and version is refused
(`bench.kinds.code.hold`).
"""

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bench.errors import BenchError


def fingerprint(source: bytes) -> str:
    """12 hex digits of what a Python file does: comments, blank lines and docstrings may change, nothing else."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [x for x in node.body if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))]
    return _digits(ast.unparse(tree))


@dataclass(frozen=True)
class Own:
    """A method given as an object, with the fingerprint of its code: workers cannot read the notebook it is from."""

    record: Any
    """Operator, FineTuning or Regularizer."""
    source: str

    @classmethod
    def of(cls, record: Any) -> "Own":
        """BenchError for a record whose functions have no source to read."""
        parts: dict[str, str] = {}
        for hook in (getattr(record, one.name) for one in fields(record)):
            if callable(hook):
                _read(hook, record.name, parts, set())
        return cls(record, _digits("\n".join(f"{what} {text}" for what, text in sorted(parts.items()))))


def _read(thing: Any, name: str, parts: dict[str, str], seen: set[int]) -> None:
    """Add the text of a function to `parts`, and of all that it uses from its own module."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, functools.partial):
        parts[f"{name} partial"] = repr((thing.args, thing.keywords))
        thing = thing.func
    module = _module(thing)
    ours = module.split(".")[0] in ("bench", "methods")  # a decorator of ours: what it wraps is in its closure
    code = thing.__code__ if isinstance(thing, FunctionType) else thing
    what = f"{module}.{getattr(code, 'co_qualname', getattr(thing, '__qualname__', ''))}"
    if not ours:
        parts[what] = _text(code, what, name)
    for label, used in _used(thing, ours) if isinstance(thing, FunctionType) else ():
        if isinstance(used, FunctionType | type) and (ours or _module(used) == module):
            _read(used, name, parts, seen)
        elif not ours and not (callable(used) or isinstance(used, ModuleType)):
            parts[f"{what} {label}"] = _value(used, label, name)


def _module(thing: Any) -> str:
    """Where a function was written, not what a decorator says."""
    named = thing.__globals__.get("__name__") if isinstance(thing, FunctionType) else getattr(thing, "__module__", "")
    return str(named or "")


def _value(value: Any, label: str, name: str) -> str:
    """A constant as text: arrays and tensors by a hash, others as Python writes them, unless that is a mere address."""
    if hasattr(value, "__array__"):
        array = value.__array__()
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if " at 0x" not in (text := repr(value)):
        return text
    raise BenchError(
        f"{name}: it uses {label}, a {type(value).__name__}, whose later change would go unnoticed; make it an option, "
        "or write the method into a file and give its path with include=[...]"
    )


def _text(thing: Any, what: str, name: str) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError) as error:
        raise BenchError(
            f"{name}: the source of {what} cannot be read here, so a later edit would go unnoticed; write it into a "
            "file and give its path with include=[...]"
        ) from error
    try:
        return fingerprint(text.encode())
    except SyntaxError:  # a part of a statement, such as a lambda in a call over several lines
        return text


def _used(function: FunctionType, ours: bool) -> Iterator[tuple[str, Any]]:
    """Names and values of what a function encloses; unless it is `ours`, of its defaults and the globals it uses."""
    for word, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield word, cell.cell_contents
    if ours:
        return
    for word in sorted(set(_words(function.__code__))):
        if word in function.__globals__:
            yield word, function.__globals__[word]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield from ((f"default {place}", value) for place, value in enumerate(defaults))


def _words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _words(inner)


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
