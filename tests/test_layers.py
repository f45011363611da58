"""The rooms of `bench/` stand on floors: imports go down only, no room has a circle, every big library has one home."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    "errors",
    "ground",
    "cards",
    "store",
    "pixels",
    "registry",
    "work",
    "kinds",
    "planning",
    "tables",
    "boards",
    "driver",
    "exchange",
    "checks",
    "cli",
    "face",
    "",  # the face, `bench/__init__.py`, and `__main__`
)
"""From the ground up. One room a floor, so an import between two rooms always has one direction."""

HOMES = {
    "open_clip": {"bench.work.backbone", "bench.pixels.mini8"},
    "ray": {"bench.driver", "bench.checks.doctor"},
    "matplotlib": set(),
    "sklearn": set(),
}
"""Where a library may be imported; with an empty set, anywhere but at the top of a module."""


def modules(root: Path = ROOT, tops: Iterable[str] = ("bench", "methods")) -> dict[str, Path]:
    """Every module of the two packages by its dotted name; a package by the name of its folder."""
    paths = [p for top in tops for p in (root / top).rglob("*.py")]
    named = {".".join(p.relative_to(root).with_suffix("").parts): p for p in paths}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Everything that a file imports, inside functions and under TYPE_CHECKING too unless `top_level_only`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def arrows(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""

    def module_of(name: str) -> str:
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name

    return {name: {m for used in imports(path) if (m := module_of(used))} - {name} for name, path in known.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else ""


def upwards(graph: Mapping[str, set[str]]) -> list[str]:
    """Every import of `bench` that goes up."""
    floor = {name: place for place, name in enumerate(FLOORS)}
    return [
        f"{module} imports {used}"
        for module, uses in graph.items()
        for used in sorted(uses)
        if module.split(".")[0] == used.split(".")[0] == "bench" and floor[room(used)] > floor[room(module)]
    ]


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules that are left when those that import nothing (more) are taken away, again and again."""
    left = {module: set(uses) for module, uses in graph.items()}
    while free := {module for module, uses in left.items() if not uses & left.keys()}:
        left = {module: uses for module, uses in left.items() if module not in free}
    return sorted(left)


def test_every_room_has_a_floor() -> None:
    assert len(modules()) > 150
    assert {room(m) for m in modules() if m.startswith("bench")} == set(FLOORS)


def test_imports_go_down_only() -> None:
    assert upwards(arrows(modules())) == []


def test_no_module_is_in_a_circle() -> None:
    """Neither between rooms nor inside one, lazy and typing-only imports included."""
    assert circles(arrows(modules())) == []


PLANTED = {
    "lazy, up": ("bench/ground/lru.py", "def late():\n    from bench.cli import app\n"),
    "typing, up": ("bench/planning/grid.py", "if TYPE_CHECKING:\n    from bench.driver import execute\n"),
    "circle in a room": ("bench/pixels/images.py", "from bench.pixels import augment\n"),
    "circle in a folder of a room": ("bench/pixels/sources/labels.py", "from bench.pixels.sources import check\n"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_found(what: str, tmp_path: Path) -> None:
    path, text = PLANTED[what]
    for source in modules(ROOT).values():
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    if what == "circle in a room":
        (tmp_path / "bench/pixels/augment.py").write_text("from bench.pixels import images\n", encoding="utf-8")
    with (tmp_path / path).open("a", encoding="utf-8") as file:
        file.write(text)
    graph = arrows(modules(tmp_path))
    assert (circles if "circle" in what else upwards)(graph)


DYNAMIC = {"import_module", "__import__", "resolve_name", "run_module", "run_path"}
"""Calls that import by a text, which no arrow shows."""


def by_text(path: Path) -> set[str]:
    """Which of them a file uses."""
    used = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        used |= {node.attr} if isinstance(node, ast.Attribute) else {node.id} if isinstance(node, ast.Name) else set()
        used |= {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
    return used & DYNAMIC


def test_nothing_is_imported_by_a_text_but_by_the_face(tmp_path: Path) -> None:
    """What `bench.run` stands for is imported when it is asked for, on the top floor."""
    assert {name for name, path in modules().items() if by_text(path)} == {"bench"}
    for line in (
        "importlib.import_module('bench.cli')",
        "__import__('bench.cli')",
        "pkgutil.resolve_name('bench:cli')",
    ):
        (tmp_path / "planted.py").write_text(f"import importlib, pkgutil\n{line}\n", encoding="utf-8")
        assert by_text(tmp_path / "planted.py"), line


def test_the_packages_stand_without_tests_and_benchmarks() -> None:
    assert [m for m, p in modules().items() if {i.split(".")[0] for i in imports(p)} & {"tests", "benchmarks"}] == []


def test_methods_never_import_bench_or_files_or_clocks() -> None:
    banned = (
        "bench",
        "pathlib",
        "os",
        "io",
        "shutil",
        "subprocess",
        "tempfile",
        "time",
        "random",
        "logging",
        "open_clip",
    )
    wrong = [
        f"{m}: {i}" for m, p in modules(tops=("methods",)).items() for i in imports(p) if i.split(".")[0] in banned
    ]
    assert wrong == []


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_each_big_library_has_one_home(library: str, homes: set[str]) -> None:
    users = {
        m for m, p in modules().items() if library in {i.split(".")[0] for i in imports(p, top_level_only=not homes)}
    }
    assert {m for m in users if not any(m == h or m.startswith(h + ".") for h in homes)} == set()


def test_no_folder_shadows_hugging_face_datasets() -> None:
    assert not list((ROOT / "datasets").glob("*.py"))


READING = (
    "planning.grid",
    "registry.catalogue",
    "tables.collect",
    "tables.compare",
    "planning.schedule",
    "kinds.protocol",
)


def test_reading_verbs_import_neither_torch_nor_ray() -> None:
    names = ", ".join(f"bench.{m}" for m in READING)
    code = f"import sys, {names}; print({{'torch', 'ray', 'open_clip'}} & {{*sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "set()"
