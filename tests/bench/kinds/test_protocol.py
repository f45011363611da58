"""What kinds ask of a session is what the protocol says, no more and no less, and a session has it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from bench.kinds import FILES
from bench.kinds.protocol import Warm
from bench.kinds.session import Session
from bench.store.store import Store
from bench.work.runtime import How

MEMBERS = {*Warm.__annotations__, *(name for name in vars(Warm) if not name.startswith("_"))}


def asked(path: Path) -> Iterator[str]:
    """`NAME` of every `session.NAME`; a session that is handed on whole goes to a function of these files."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "session":
            yield node.attr


def test_the_protocol_is_small() -> None:
    assert {
        "store", "registry", "vectors", "prune", "evaluator", "image_sets", "checkpoint", "tangent", "expert_accuracy",
    } == MEMBERS  # fmt: skip


def test_kinds_ask_for_the_members_of_the_protocol_and_for_nothing_else() -> None:
    assert {name for file in FILES for name in asked(Path(str(file.__file__)))} == MEMBERS


def test_a_session_has_them_all(tmp_path: Path) -> None:
    """Their types are mypy's to compare: a session hands itself to `Kind.run`."""
    session = Session(How(), Store(tmp_path / "store"))
    assert [name for name in sorted(MEMBERS) if not hasattr(session, name)] == []
