"""Readers of files that somebody else may have written: the right value, or one line of ours. Never anything else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from damage import changed, damaged, examples, miswritten
from hypothesis import Phase, given
from hypothesis import strategies as st
from samples import Synthetic

from bench.boards import boards, html, published, text
from bench.cards import datasets, suites
from bench.cli import summary
from bench.errors import BenchError
from bench.exchange.tensorfile import TensorFile
from bench.kinds import from_identity
from bench.planning import costs, selection
from bench.store import compacted as parts
from bench.store import records, results, task_vectors
from bench.store.records import Record
from bench.store.store import Store
from bench.work import resume
from bench.work.merge import Vectors

fuzz = examples(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def outcome(read: Callable[[], Any]) -> Any:
    """What reading gives: a value, or the BenchError, which must be one line. Anything else fails the test."""
    try:
        return read()
    except BenchError as error:
        refused = error
    assert "\n" not in str(refused), refused
    assert len(str(refused)) < 5000
    return refused


# --- TOML -----------------------------------------------------------------------------------------------------------


TOML: dict[str, tuple[Path, Callable[[Path], Any]]] = {
    "card": (datasets.cards_folder() / "digits.toml", datasets.read),
    "downloaded card": (datasets.cards_folder() / "sun397.toml", datasets.read),
    "suite": (suites.ASSETS / "suites" / "mini8.toml", suites.read),
    "suite like another": (suites.ASSETS / "suites" / "vision8_tta.toml", suites.read),
    "backbones": (suites.ASSETS / "backbones.toml", suites.read_backbones),
    "published": (published.PATH, published.read),
}


@pytest.mark.parametrize("name", TOML)
@fuzz
@given(data=st.data())
def test_toml(name: str, folder: Path, data: st.DataObject) -> None:
    path, read = TOML[name]
    good = path.read_bytes()
    written = folder / path.name
    written.write_bytes(data.draw(st.one_of(damaged(good), miswritten(good.decode()))))
    found = outcome(lambda: read(written))
    if isinstance(found, suites.Suite):
        for method in ("nonlinear", "lora"):
            outcome(lambda m=method: found.recipe(m, "orthoreg", found.tasks[0]))


@pytest.mark.parametrize("name", TOML)
def test_toml_of_any_size_is_refused_before_it_is_parsed(name: str, folder: Path) -> None:
    path, read = TOML[name]
    written = folder / path.name
    written.write_bytes(path.read_bytes() + b"#" * 17 * 2**20)
    with pytest.raises(BenchError, match=r"bytes, more than 16,777,216"):
        read(written)


# --- JSON -----------------------------------------------------------------------------------------------------------


def documents(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON document, damaged or with a part replaced."""
    return st.one_of(damaged(json.dumps(value).encode()), changed(value).map(lambda v: json.dumps(v).encode()))


SEARCH = json.loads((suites.ASSETS / "suites" / "mini8.search.json").read_text())
SEARCH["trials"] = SEARCH["trials"][:2]


@fuzz
@given(data=documents(SEARCH))
def test_search_results(folder: Path, data: bytes) -> None:
    path = folder / "mini8.search.json"
    path.write_bytes(data)
    found = outcome(lambda: suites.read_search(path))
    if isinstance(found, dict):
        assert all(isinstance(chosen, dict) for chosen in found.values())


@fuzz
@given(data=documents({"format": "bench-store", "version": 1}))
def test_the_marker_of_a_store(folder: Path, data: bytes) -> None:
    (folder / "marked").mkdir(exist_ok=True)
    (folder / "marked" / "bench-store.json").write_bytes(data)
    outcome(lambda: Store(folder / "marked"))


@pytest.fixture(scope="module")
def cell() -> Any:
    from fakes import smoke

    return smoke()[1]


@fuzz
@given(data=st.data())
def test_failures_and_imports(folder: Path, cell: Any, data: st.DataObject) -> None:
    """A failure whose identity was tampered with is never retried as another cell."""
    store = Store(folder / "failures")
    good = {"identity": cell.identity, "error": "boom", "traceback": "here"}
    for kind, read in (
        ("failed", lambda: store.read_failure(cell.key)),
        ("imports", lambda: selection.imported(store)),
    ):
        path = Path(store.url, kind, f"{cell.key}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.draw(documents(good)))
        found = outcome(read)
        if kind == "failed" and isinstance(found, dict):
            again = outcome(lambda f=found: from_identity(f.get("identity"), cell.key))
            assert isinstance(again, BenchError) or again == cell
            outcome(lambda: summary.failures(store, store.done()))


COSTS = {
    "version": 1,
    "costs": [{"backbone": "mini", "device": "cpu", "name": "here", "batch": 8, "train": {"att": 0.1}, "penalty": {},
               "evaluate": 0.1, "derivative": 0.1, "vector": {"att": 9}, "memory": {"att": 9}}],
}  # fmt: skip


@fuzz
@given(data=documents(COSTS))
def test_cost_tables(folder: Path, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        costs.path_of("cpu").parent.mkdir(exist_ok=True)
        costs.path_of("cpu").write_bytes(data)
        found = outcome(lambda: costs.read("cpu"))
    if not isinstance(found, BenchError):
        assert all(isinstance(c.evaluate, float) and isinstance(c.train, dict) for c in found.values())


# --- Parquet --------------------------------------------------------------------------------------------------------


SAMPLE = Synthetic(methods=("att", "att+orthoreg"), operators=("ties",), seeds=(0, 1), tasks=("apples", "birds"))
GOOD = next(r for r in SAMPLE.records if r.key.startswith("addition"))


@examples(200)
@given(data=damaged(GOOD.dump()))
def test_a_record_is_what_was_written_or_is_refused(folder: Path, data: bytes) -> None:
    """Bit for bit: pages and header carry checksums, so no damage passes for a number."""
    store = Store(folder / "records")
    path = Path(store.url, "records", GOOD.key[:2], f"{GOOD.key}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = outcome(lambda: store.read(GOOD.key))
    assert isinstance(found, BenchError) or found == GOOD
    found = outcome(store.tables)
    if not isinstance(found, BenchError):
        assert Record.from_table(GOOD.key, records.decode(data)[0]) == GOOD


def test_a_record_that_would_swell_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """One long text in fifty thousand rows is some kilobytes on disk."""
    rows = Record("aa", {"kind": "addition"}, GOOD.rows[:1]).table().take(pa.array([0] * 50_000))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), ["x" * 50_000])
    sink = pa.BufferOutputStream()
    pq.write_table(rows.set_column(rows.schema.names.index("options"), "options", text), sink, compression="zstd")
    bomb = sink.getvalue().to_pybytes()
    assert len(bomb) < 2**16
    with pytest.raises(ValueError, match=r"50,000 rows in .* bytes"):
        records.decode(bomb)


@pytest.fixture(scope="module")
def compacted(folder: Path) -> tuple[Store, dict[Path, bytes]]:
    store = SAMPLE.fill(Store(folder / "sample"))
    store.compact(settled=0)
    results.write(folder / "results", *store.tables())
    files = sorted([*Path(store.url, "parts").iterdir(), *Path(folder, "results").iterdir()])
    return store, {path: path.read_bytes() for path in files}


@examples(200)
@given(data=st.data())
def test_parts_and_results_are_what_was_written_or_are_refused(
    folder: Path, compacted: tuple[Store, dict[Path, bytes]], data: st.DataObject
) -> None:
    store, files = compacted
    path = data.draw(st.sampled_from(list(files)))
    path.write_bytes(data.draw(damaged(files[path])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PAYS", 0)
        found = outcome(lambda: results.load(store.url if path.parent.name == "parts" else folder / "results"))
    path.write_bytes(files[path])
    if not isinstance(found, BenchError):
        for mine, theirs in zip(found, results.load(store), strict=True):
            assert sorted(map(str, mine.to_pylist())) == sorted(map(str, theirs.to_pylist()))


NUMBERS = {
    "seed": (0, -1, 2**31 - 1),
    "scaling": (0.0, -1.0, float("nan"), float("inf")),
    "selected": (True, False),
    "correct": (0, -1, 10**6, 2**31 - 1),
    "total": (0, -1, 1, 10**6),
    "bits": (b"", b"\0", b"\xff" * 999),
}
NAMES = (
    "",
    "x",
    "../../x",
    "a/b",
    "+",
    "{",
    '{"strength": []}',
    "test",
    "zeroshot",
    "negation",
    "posthoc",
    "<img src=x>",
    "\0",
)


@examples(30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_a_leaderboard_of_any_rows(data: st.DataObject) -> None:
    """Rows of the right types and wrong in every other way: a page, or one line that says what is wrong."""
    rows, cells = SAMPLE.tables()
    lines, about = rows.to_pylist(), cells.to_pylist()
    for _ in range(data.draw(st.integers(1, 3))):
        line = lines[data.draw(st.integers(0, len(lines) - 1))]
        name = data.draw(st.sampled_from(sorted(line)))
        line[name] = data.draw(st.sampled_from(NUMBERS.get(name, NAMES)))
    line = about[data.draw(st.integers(0, len(about) - 1))]
    part = data.draw(st.sampled_from(("identity", "metrics", "provenance")))
    line[part] = json.dumps(data.draw(changed(json.loads(line[part]))))
    rows, cells = pa.Table.from_pylist(lines, schema=rows.schema), pa.Table.from_pylist(about, schema=cells.schema)

    def render() -> str:
        results.check(rows, cells, "here")
        page = boards.build(rows, cells, "toy")
        return html.page(page) + text.readme([page]) + text.table_csv(page)

    outcome(render)


# --- safetensors ----------------------------------------------------------------------------------------------------


DELTA = {"w": torch.arange(6.0).reshape(2, 3), "v": torch.ones(2)}
VECTOR = task_vectors.dump(DELTA, {"w": (torch.ones(2, 1), torch.ones(1, 3))}, {"key": "abcd"})


def header_changed() -> st.SearchStrategy[bytes]:
    size = int.from_bytes(VECTOR[:8], "little")

    def pack(header: Any) -> bytes:
        packed = json.dumps(header).encode()
        return len(packed).to_bytes(8, "little") + packed + VECTOR[8 + size :]

    return changed(json.loads(VECTOR[8 : 8 + size])).map(pack)


@examples(200)
@given(data=st.one_of(damaged(VECTOR), header_changed()))
def test_task_vectors(folder: Path, data: bytes) -> None:
    store = Store(folder / "vectors")
    store.write(Record("abcd", {"kind": "expert"}, metrics={"vector_sha256": task_vectors.sha256(VECTOR)}))
    store.write_vector("abcd", data)
    found = outcome(lambda: Vectors(store)("abcd"))
    assert (data == VECTOR) == (not isinstance(found, BenchError)), "a vector is used only if its hash is right"
    outcome(lambda: task_vectors.load(data, "here"))


@examples(200)
@given(data=st.one_of(damaged(VECTOR), header_changed()))
def test_tensor_files(folder: Path, data: bytes) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(data)

    def read() -> dict[str, torch.Tensor]:
        file = TensorFile(path)
        return {name: file[name] for name in file}

    found = outcome(read)
    if not isinstance(found, BenchError):
        assert sum(t.nbytes for t in found.values()) <= len(data)


@fuzz
@given(data=st.one_of(damaged(VECTOR), header_changed()))
def test_checkpoints(folder: Path, data: bytes) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(data)
    outcome(resume.FileCheckpoint(path).load)
