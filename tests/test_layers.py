"""Imports go down only, and every big library has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    {"errors", "documents", "kept", "scratch"},
    {
        "recipes",
        "augment",
        "runtime",
        "versions",
        "memory",
        "records",
        "parts",
        "folder",
        "cards",
        "cells",
        "metrics",
        "weights",
        "tensorfile",
        "suites",
        "catalogue",
        "declaration",
        "coefficients",
    },
    {"store", "bibliography"},
    {
        "results",
        "grid",
        "experiments",
        "sensitivity",
        "disentanglement",
        "schedule",
        "images",
        "preflight",
        "costs",
        "sources",
        "mini8",
        "stats",
        "backbone",
        "checkpoints",
        "contract",
        "merge_files",
        "geometry",
    },
    {"finetune", "merge", "evaluate", "supply", "lines", "resume", "tables", "registry", "search"},
    {"pruning"},
    {"kinds", "compare", "leaderboard"},
    {"run"},
    {"progress", "doctor", "slurm", "exchange", "calibrate", "verify", "garbage", "heartbeat"},
    {"driver"},
    {"cli"},
]
HOMES = {
    "open_clip": {"bench.backbone", "bench.mini8"},
    "ray": {"bench.driver", "bench.doctor"},
    "matplotlib": set(),
    "sklearn": set(),
}
LAZY = {"registry"}
"""Modules that a lower one may import inside a function: plug-ins bring torch only when there are any."""


def modules() -> dict[str, Path]:
    found = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts): p
        for top in ("bench", "methods")
        for p in (ROOT / top).rglob("*.py")
    }
    assert len(found) > 40
    return found


def imports(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        n
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for n in ast.walk(node)
    }
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def unit(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "bench" else ""


def rank(name: str) -> int | None:
    return next((i for i, level in enumerate(ORDER) if name in level), None)


def test_every_unit_has_a_place_in_the_order() -> None:
    units = {unit(m) for m in modules() if m.startswith("bench.")} - {"__init__", "__main__"}
    assert {u for u in units if rank(u) is None} == set()


def test_imports_go_down_only() -> None:
    wrong = []
    for module, path in modules().items():
        mine = rank(unit(module))
        if mine is None:
            continue
        for used in imports(path, top_level_only=False):
            theirs = rank(unit(used))
            if theirs is not None and unit(used) != unit(module) and theirs > mine and unit(used) not in LAZY:
                wrong.append(f"{module} imports {used}")
    assert wrong == []


def test_methods_never_import_bench_or_files_or_clocks() -> None:
    banned = ("bench", "pathlib", "os", "time", "random", "logging", "open_clip")
    wrong = [
        f"{m}: {i}"
        for m, p in modules().items()
        if m.startswith("methods")
        for i in imports(p, top_level_only=False)
        if i.split(".")[0] in banned
    ]
    assert wrong == []


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_each_big_library_has_one_home(library: str, homes: set[str]) -> None:
    users = {
        m for m, p in modules().items() if any(i.split(".")[0] == library for i in imports(p, top_level_only=not homes))
    }
    assert {m for m in users if not any(m == h or m.startswith(h + ".") for h in homes)} == set()


def test_no_folder_shadows_hugging_face_datasets() -> None:
    assert not list((ROOT / "datasets").glob("*.py"))


def test_reading_verbs_import_neither_torch_nor_ray() -> None:
    code = (
        "import sys, bench.grid, bench.catalogue, bench.tables, bench.compare, bench.schedule; "
        "print([m for m in ('torch', 'ray', 'open_clip') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
