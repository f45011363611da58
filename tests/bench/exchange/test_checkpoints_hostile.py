"""A corpus of hostile checkpoint files: every one is refused, and none has any effect."""

import builtins
import functools
import importlib
import io
import marshal
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import webbrowser
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.errors import DataError
from bench.exchange.checkpoints import import_expert, pickles
from tests.bench import towers


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def touch(marker: Path) -> str:
    return f"touch {marker}"


def python(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def attacks(marker: Path) -> dict[str, Any]:
    tensor = torch.ones(2)
    system = Call(os.system, touch(marker))
    module = nn.Linear(2, 2)
    module.hook = system  # type: ignore[assignment]
    nested = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.LayerNorm(2)))
    nested[1][0].__dict__["note"] = [{"a": (1, system)}]  # type: ignore[index]
    return {
        "os.system": system,
        "exec": Call(exec, python(marker)),
        "eval": Call(eval, f"__import__('os').system({touch(marker)!r})"),
        "compile": Call(compile, python(marker), "x", "exec"),
        "Popen": Call(subprocess.Popen, ["touch", str(marker)]),
        "check_output": Call(subprocess.check_output, ["touch", str(marker)]),
        "open": Call(open, str(marker), "w"),
        "io.open": Call(io.open, str(marker), "w"),
        "getattr": Call(getattr, Call(importlib.import_module, "os"), "system"),
        "import_module": Call(importlib.import_module, "antigravity"),
        "__import__": Call(builtins.__import__, "antigravity"),
        "runpy": Call(runpy.run_path, str(marker.with_suffix(".py"))),
        "marshal": Call(marshal.loads, marshal.dumps(compile("1", "x", "eval"))),
        "pickle in pickle": Call(pickle.loads, pickle.dumps(Call(os.system, touch(marker)))),
        "rmtree": Call(shutil.rmtree, str(marker.parent / "precious")),
        "browser": Call(webbrowser.open, "file:///dev/null"),
        "partial": Call(functools.partial, os.system, touch(marker)),
        "torch.hub": Call(torch.hub.load, "owner/repo", "model"),
        "torch.load": Call(torch.load, str(marker)),
        "inside a module": module,
        "deep inside modules": nested,
        "beside tensors": {"w": tensor, "x": system},
        "as a key": {Hashable(os.system, touch(marker)): tensor},
        "in ordered items": OrderedDict([("w", tensor), ("x", system)]),
        "in constructor state": Call(nn.Linear, 2, 2, state={"weight": Call(os.system, touch(marker))}),
    }


class Hashable(Call):
    def __hash__(self) -> int:
        return 0


NAMES = list(attacks(Path("/nowhere")))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        import_expert(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_calls_are_refused_and_nothing_runs(tmp_path: Path, marker: Path, name: str, protocol: int) -> None:
    (tmp_path / "precious").mkdir()
    marker.with_suffix(".py").write_text(python(marker))
    torch.save(attacks(marker)[name], tmp_path / "x.pt", pickle_protocol=protocol)
    marker.unlink(missing_ok=True)
    before = set(sys.modules)
    refused(tmp_path / "x.pt", "is refused")
    assert not marker.exists()
    assert (tmp_path / "precious").is_dir()
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize("name", ["os.system", "exec", "Popen", "deep inside modules", "pickle in pickle"])
def test_control_the_same_files_do_run_when_trusted(tmp_path: Path, marker: Path, name: str) -> None:
    torch.save(attacks(marker)[name], tmp_path / "x.pt")
    found = torch.load(tmp_path / "x.pt", weights_only=False)
    if isinstance(found, subprocess.Popen):
        found.wait()
    assert marker.exists()


def archive(path: Path, pickled: bytes, **extra: bytes) -> None:
    """A zip as torch lays it out, with any pickle inside."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("x/data.pkl", pickled)
        out.writestr("x/version", b"3\n")
        out.writestr("x/byteorder", b"little")
        for name, data in extra.items():
            out.writestr(name.replace("__", "/"), data)


def call(module: str, name: str, argument: str) -> bytes:
    """Protocol-2 pickle of `module.name(argument)`, written by hand."""
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(X" + len(text).to_bytes(4, "little") + text + b"tR."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.nn.modules.module", "os.system"),
        ("open_clip", "os.system"),
        ("open_clip.transform", "os.system"),
        ("src.modeling", "ImageEncoder"),
        ("torchvision.transforms.transforms", "Lambda"),
        ("torch.nn.modules.utils", "collections.abc.sys.modules"),
    ],
)
def test_allowed_prefixes_with_gadgets_land_on_a_stand_in(tmp_path: Path, marker: Path, module: str, name: str) -> None:
    archive(tmp_path / "x.pt", call(module, name, touch(marker)))
    refused(tmp_path / "x.pt", "is refused")
    assert not marker.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02\x83\x01\x00.",
        b"\x80\x02Pfoo\n.",
        b"\x80\x02cposix\nsystem\n.",
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02ctorch.nn.modules.linear\nLinear\n.",
        b"\x80\x02}.",
        b"\x80\x02K\x01.",
        b"\x80\x02",
        b"",
        b"garbage",
    ],
    ids=lambda data: repr(data)[:40],
)
def test_raw_pickles_and_opcodes(tmp_path: Path, pickled: bytes) -> None:
    archive(tmp_path / "x.pt", pickled)
    refused(tmp_path / "x.pt", "is refused")


def test_legacy_files_and_bare_pickles(tmp_path: Path, marker: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "legacy.pt", "not a zip archive")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Call(os.system, touch(marker))))
    refused(tmp_path / "bare.pt", "not a zip archive")
    for content in (b"", b"PK\x03\x04", os.urandom(100)):
        (tmp_path / "x.pt").write_bytes(content)
        refused(tmp_path / "x.pt", "is refused")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_never_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    archive(path, b"\x80\x02}.", **{"x__data.pkl": b"\x80\x02}."})
    refused(path, "exactly one data.pkl")
    archive(path, b"\x80\x02}.", **{"x__other.pkl": b""})
    refused(path, "exactly one data.pkl")
    archive(path, b"\x80\x02}.", **{"..__..__etc__passwd": b""})
    refused(path, "names that leave it")
    archive(path, b"\x80\x02}.", **{"x__code____torch__.py": b"import os"})
    refused(path, "TorchScript")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("x/data.pkl", b"\x00" * 10_000_000)
    refused(path, "compressed")
    archive(path, b"\x80\x02}.", **{f"x__data__{i}": b"" for i in range(30)})
    monkeypatch.setattr(pickles, "ENTRY_LIMIT", 20)
    refused(path, "33 entries")
    monkeypatch.setattr(pickles, "PICKLE_LIMIT", 3)
    monkeypatch.setattr(pickles, "ENTRY_LIMIT", 100)
    refused(path, "4 bytes besides the tensors")


def test_a_flood_of_names_is_refused(tmp_path: Path) -> None:
    flood = b"".join(f"csrc.m{i}\nC\n0".encode() for i in range(1_500))
    archive(tmp_path / "x.pt", b"\x80\x02" + flood + b"}.")
    refused(tmp_path / "x.pt", "names 1,500 classes")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_programs_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "TorchScript")


def test_tensors_that_claim_more_than_the_file_holds(tmp_path: Path) -> None:
    torch.save({"visual.class_embedding": torch.ones(1).expand(10**12)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "claims more than the file holds")


def test_modules_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner: nn.Module = nn.Linear(1, 1)
    for _ in range(80):
        inner = nn.Sequential(inner)
    torch.save(inner, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "nested deeper")


def test_cycles_end(tmp_path: Path) -> None:
    a = nn.Linear(2, 2)
    a._modules["self"] = a
    torch.save(a, tmp_path / "x.pt")
    found = pickles.load(tmp_path / "x.pt")
    assert sorted(found) == ["bias", "weight"]


class Trap:
    """An import hook that fails when anybody imports what a file names."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("src", "antigravity"):
            self.asked.append(name)


@pytest.fixture
def trap() -> Iterator[Trap]:
    hook = Trap()
    sys.meta_path.insert(0, hook)  # type: ignore[arg-type]
    yield hook
    sys.meta_path.remove(hook)  # type: ignore[arg-type]


def test_a_good_file_is_read_without_importing_what_it_names(tmp_path: Path, trap: Trap) -> None:
    model = towers.clip()
    expected = {n: t.clone() for n, t in towers.visual(model).items()}
    towers.save_module(model, tmp_path / "x.pt")
    script = (
        "import sys; from pathlib import Path; from bench.exchange.checkpoints import import_expert;"
        f"e = import_expert(Path({str(tmp_path / 'x.pt')!r}));"
        "print(len(e.params), 'open_clip' in sys.modules, 'torchvision' in sys.modules, 'src' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(len(expected)), "False", "False", "False"]
    assert set(import_expert(tmp_path / "x.pt").params) == set(expected)
    assert trap.asked == []
    allowed = torch.serialization.get_safe_globals()
    assert not any(pickles.Inert is (each[0] if isinstance(each, tuple) else each) for each in allowed)


def test_a_reference_head_is_read_as_tensors_only(tmp_path: Path) -> None:
    with towers.reference_modules():
        torch.save(towers.ClassificationHead(torch.ones(3, 4)), tmp_path / "head.pt")
    found = pickles.load(tmp_path / "head.pt")
    assert {n: tuple(t.shape) for n, t in found.items()} == {"weight": (3, 4), "bias": (3,)}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "x.pt"
    torch.save({"visual.class_embedding": torch.arange(4.0), "visual.proj": torch.ones(4, 2)}, path)
    return path.read_bytes()


def outcome(path: Path) -> str:
    """The refusal, or nothing when the file was read; any other exception fails the test."""
    try:
        import_expert(path)
    except DataError as error:
        return str(error)
    return ""


@examples(150)
@given(data=st.data())
def test_truncated_and_flipped_files_load_or_are_refused_in_one_line(
    good: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x.pt").write_bytes(content)
    assert "\n" not in outcome(tmp_path / "x.pt")


@examples(150)
@given(data=st.data())
def test_damaged_safetensors_load_or_are_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    import safetensors.torch

    content = bytearray(safetensors.torch.save({"visual.class_embedding": torch.arange(4.0)}))
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "\n" not in outcome(tmp_path / "x.safetensors")
