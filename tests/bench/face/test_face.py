"""`import bench`: quick, lazy, and the same numbers as the command line; methods of one's own as objects."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import bench
from bench.cli.app import call
from bench.errors import BenchError, UnknownName
from bench.registry import live
from bench.registry.source import Own
from bench.store.store import Store
from bench.work import backbone
from methods.finetuning import FINETUNING
from methods.merging import MERGING
from methods.operator import Operator
from methods.regularizers import REGULARIZERS
from methods.vectors import per_tensor

ROOT = Path(__file__).parents[3]
ROW = "nonlinear/task_arithmetic"
SHARE = 2


@per_tensor
def halved(deltas):
    return _divided(deltas.mean(dim=0))


def _divided(mean):
    return mean / SHARE


HALVED = Operator("halved", halved, title="Half the mean")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_import_is_quick_and_imports_nothing_large():
    """Processor time: other programs on the machine do not change it much; the best of three."""
    code = (
        "import sys, time; start = time.process_time(); import bench; seconds = time.process_time() - start;"
        "print(seconds, sorted({'torch', 'ray', 'pandas', 'numpy', 'pyarrow', 'typer'} & {*sys.modules}))"
    )
    said = [python(code).split(maxsplit=1) for _ in range(3)]
    assert {modules.strip() for _, modules in said} == {"[]"}
    assert min(float(seconds) for seconds, _ in said) < 0.1


def test_every_public_name_is_a_documented_function_with_an_example():
    assert bench.__version__
    for name in bench.__all__:
        function = getattr(bench, name)
        assert inspect.isfunction(function), name
        assert "Example:" in (inspect.getdoc(function) or ""), name
        hints = inspect.signature(function)
        assert hints.return_annotation is not inspect.Signature.empty, name
    assert set(bench.__all__) <= set(dir(bench))
    with pytest.raises(AttributeError, match="it offers compare, evaluate"):
        _ = bench.nothing


def test_no_room_has_the_name_of_a_function():
    """Importing a room sets it as an attribute of the package, where the function has to be."""
    rooms = {path.name for path in Path(bench.__file__).parent.iterdir() if path.is_dir()}
    assert len(rooms) > 10
    assert not rooms & set(bench.__all__)


def test_plan_by_name_and_by_record():
    labels = [cell.label for cell in bench.plan(methods="nonlinear", operators="ties", seeds=[1])]
    assert labels == ["zero-shot", "nonlinear digits seed 1", "nonlinear numbers seed 1", "nonlinear/ties seed 1"]
    built_in = bench.plan(methods=[FINETUNING["nonlinear"]], operators=[MERGING["ties"]], seeds=[1])
    assert [cell.label for cell in built_in] == labels
    own = bench.plan(methods="nonlinear", operators=[HALVED])
    assert own[-1].operator == "halved"
    with pytest.raises(UnknownName, match="did you mean 'ties'"):
        bench.plan(operators="tie")
    with pytest.raises(BenchError, match="is no method; give a name"):
        bench.plan(operators=[halved])
    with pytest.raises(BenchError, match="the name 'ties' is taken by a built-in"):
        bench.plan(operators=[replace(HALVED, name="ties")])


def test_each_method_is_planned_with_each_regularizer_as_well_as_alone():
    mine = replace(REGULARIZERS["orthoreg"], name="mine")
    cells = bench.plan(methods="nonlinear", regularizers=["orthoreg", mine], operators="ties", recipe={"strength": 1.0})
    merged = [cell.finetuning for cell in cells if cell.kind == "addition"]
    assert merged == ["nonlinear", "nonlinear+orthoreg", "nonlinear+mine"]


def test_the_digits_of_an_object_are_those_of_all_it_uses(monkeypatch):
    ours = Own.of(HALVED).source
    assert re.fullmatch(r"[0-9a-f]{12}", ours)
    assert Own.of(replace(HALVED, title="another")).source == ours
    monkeypatch.setattr(sys.modules[__name__], "SHARE", 3)
    edited = Own.of(HALVED).source
    assert edited != ours
    monkeypatch.setattr(sys.modules[__name__], "_divided", lambda mean: mean / 4)
    assert Own.of(HALVED).source not in (ours, edited)


def test_a_function_without_source_is_refused():
    scope: dict[str, object] = {}
    exec("def merge(vectors):\n    return vectors[0]", scope)
    unread = Operator("unread", scope["merge"])
    with pytest.raises(BenchError, match=r"unread: the source of \S*merge cannot be read here.*include=\["):
        Own.of(unread)


def test_run_results_failures_and_an_edited_object(tmp_path, monkeypatch):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    wanted = {"methods": "nonlinear", "store": tmp_path / "store", "quiet": True}
    ran = bench.run("smoke", operators=[HALVED, "task_arithmetic"], **wanted)
    assert (ran.failures, ran.blocked) == ({}, [])
    assert {row["row"] for row in ran.best} == {"nonlinear/halved", ROW}
    assert "nonlinear/halved" in repr(ran)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    (cell,) = [cell for cell in ran.cells if getattr(cell, "operator", "") == "halved"]
    store = Store(tmp_path / "store")
    assert store.read(cell.key).provenance["source"] == Own.of(HALVED).source
    assert bench.run(ran.cells, store=store, include=[HALVED], quiet=True).failures == {}
    monkeypatch.setattr(sys.modules[__name__], "SHARE", 3)
    with pytest.raises(BenchError, match=r"that has halved has changed since .* write version=2"):
        bench.run("smoke", operators=[HALVED], **wanted)

    def bad(vectors):
        raise RuntimeError("planted")

    ran = bench.run("smoke", operators=[Operator("bad", bad)], **wanted)
    assert ran.failures == {"nonlinear/bad seed 0": "RuntimeError: planted"}
    with pytest.raises(BenchError, match="cells are planned already"):
        bench.run(ran.cells, store=store, operators="ties")
    with pytest.raises(BenchError, match="--workers is -2; give a whole number, at least 0"):
        bench.run("smoke", workers=-2)


def test_a_regularizer_of_ones_own_trains(tmp_path):
    mine = replace(REGULARIZERS["orthoreg"], name="mine")
    ran = bench.run(
        "smoke", methods="nonlinear+mine", regularizers=[mine], operators="average", recipe={"strength": 1.0},
        store=tmp_path / "store", quiet=True,
    )  # fmt: skip
    assert ran.failures == {}
    experts = [cell for cell in ran.cells if getattr(cell, "regularizer", "") == "mine"]
    assert len(experts) == 2
    for cell in experts:
        assert Store(tmp_path / "store").read(cell.key).metrics["penalty"] > 0


def test_compare_leaderboard_and_verify_are_what_the_commands_print(measured, tmp_path, capsys):
    where = str(measured)
    for found, words in (
        (bench.compare(ROW, "zero-shot", store=where), ("compare", ROW, "zero-shot", "--json")),
        (bench.leaderboard(where), ("leaderboard", "export", "json")),
    ):
        assert call([*words, "--store", where]) == 0
        assert json.loads(json.dumps(found)) == json.loads(capsys.readouterr().out)
    written = bench.leaderboard(where, tmp_path / "boards")
    assert tmp_path / "boards" / "README.md" in written
    report = bench.verify(ROW, measured)
    assert report["same"]
    assert set(report) == {"row", "store", "same", "cells"}
    with pytest.raises(BenchError, match="name two rows"):
        bench.compare(ROW, store=where)


def test_merge_by_hand_in_memory_and_in_files(tmp_path):
    base = {"w": torch.tensor([1.0, 1.0]), "steps": torch.tensor(3)}
    vectors = [{"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([3.0, 5.0])}]
    experts = [{"w": base["w"] + v["w"], "steps": torch.tensor(9)} for v in vectors]
    assert bench.merge(vectors, "average", scaling=0.5)["w"].tolist() == [1.0, 2.0]
    merged = bench.merge(experts, HALVED, pretrained=base)
    assert {n: t.tolist() for n, t in merged.items()} == {"w": [2.0, 3.0], "steps": 3}
    files = []
    for name, tensors in {"base": base, "a": experts[0], "b": experts[1]}.items():
        files.append(tmp_path / f"{name}.safetensors")
        safetensors.torch.save_file({n: t for n, t in tensors.items() if n == "w"}, files[-1])
    assert bench.merge(files[1:], "average", pretrained=files[0])["w"].tolist() == [3.0, 5.0]
    out = bench.merge(files[1:], "average", pretrained=files[0], out=tmp_path / "out.safetensors")
    assert safetensors.torch.load_file(out)["w"].tolist() == [3.0, 5.0]
    for operator, options, match in (
        ("tie", {}, "tie"),
        ("ties", {"dense": 1}, "no option 'dense'; did you mean 'density'"),
        ("regmean", {}, "it needs 'grams'"),
    ):
        with pytest.raises(BenchError, match=match):
            bench.merge(vectors, operator, options)
    with pytest.raises(BenchError, match="the pretrained weights have no 'v' of the expert's shape"):
        bench.merge([{"v": torch.ones(2)}], "average", pretrained=base)


def test_evaluate_counts_what_the_store_has(measured, tmp_path):
    """The expert's vector and the whole model that it makes are right on the images that the record says."""
    store = Store(measured)
    (cell,) = [c for c in bench.plan(methods="nonlinear") if c.label == "nonlinear digits seed 0"]
    row = next(r for r in store.read(cell.key).rows if r["split"] == "test")
    path = tmp_path / "digits.safetensors"
    path.write_bytes(store.read_vector(cell.key))
    (tested,) = bench.evaluate(path, tasks=["digits"]).values()
    assert (tested.task, tested.correct, tested.total) == ("digits", row["correct"], row["total"])
    assert tested.accuracy == row["correct"] / row["total"]
    assert tested.right.sum() == tested.correct
    base = backbone.load("mini", ()).pretrained
    vector = safetensors.torch.load_file(path)
    whole = {f"visual.{name}": base[name] + vector[name] if name in vector else base[name] for name in base}
    assert bench.evaluate(whole, tasks=["digits"])["digits"].correct == row["correct"]
    none = bench.evaluate(vector, tasks=["digits"], scaling=0.0)["digits"]
    assert (none.right == bench.evaluate(base, tasks=["digits"])["digits"].right).all()


@pytest.mark.parametrize(
    ("weights", "given", "match"),
    [
        ({"w": torch.ones(1)}, {}, "the weights lack"),
        ({"w": torch.ones(1)}, {"scaling": 1.0}, "the vector has 'w', which is no parameter of mini"),
        ({"class_embedding": torch.ones(1)}, {"scaling": 1.0}, r"has the shape \(1,\), in mini it is"),
        ({"w": torch.ones(1)}, {"tangent": True}, "a tangent model needs a task vector"),
        ({"w": torch.ones(1)}, {"tasks": ["digit"]}, "did you mean 'digits'"),
    ],
)
def test_weights_that_cannot_be_evaluated(weights, given, match):
    with pytest.raises(BenchError, match=match):
        bench.evaluate(weights, **{"tasks": ["digits"], **given})


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Every example of docs/python.md, one after the other, in an empty folder beside the leaderboards."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    script = tmp_path / "page.py"
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)))
    (tmp_path / "leaderboards").symlink_to(ROOT / "leaderboards")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_objects_of_a_notebook_travel_to_rays_workers(tmp_path, monkeypatch):
    """They are in `__main__`, which no worker can import."""
    text = inspect.getsource(sys.modules[__name__])
    lines = text[text.index("SHARE = 2") : text.index("def python(")]
    code = f"""
import bench
from methods.operator import Operator
from methods.vectors import per_tensor
{lines}
ran = bench.run("smoke", methods="nonlinear", operators=[HALVED], store="store", quiet=True, local=False, workers=1)
assert not ran.failures, ran
"""
    script = tmp_path / "notebook.py"
    script.write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = [r for r in Store(tmp_path / "store").read_all() if r.identity.get("operator") == "halved"]
    assert record.provenance["source"] == Own.of(HALVED).source or record.provenance["source"]


def test_what_is_built_in_is_known_by_identity():
    assert live.is_built_in(MERGING["ties"])
    assert not live.is_built_in(HALVED)


def test_results_are_those_of_the_store(measured):
    found = bench.results(measured)
    assert len(found.cells) == 4
    assert set(found.cells.index) == Store(measured).done()
    assert ROW in set(found.leaderboard()["name"])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"seeds": 0}, "seeds are (); give whole numbers from 0 on, at least one"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [-1]}, "whole numbers from 0 on"),
        ({"seeds": [0.0]}, "whole numbers from 0 on"),
        ({"seeds": ["a"]}, "whole numbers from 0 on"),
        ({"seeds": [False]}, "whole numbers from 0 on"),
        ({"seeds": "0"}, "give how many, or a list"),
        ({"seeds": None}, "give how many, or a list"),
        ({"subsets": -1}, "subsets is -1; give a whole number"),
        ({"sweep": "whol"}, "did you mean 'whole'?"),
        ({"recipe": "steps=4"}, "give names and values, such as"),
        ({"recipe": {3: 4}}, "give names and values, such as"),
        ({"include": [3]}, "include has 3; give paths of Python files, or records"),
        ({"operators": 3}, "3 is no method; give a name"),
    ],
)
def test_a_wrong_request_is_one_line(asked, says):
    with pytest.raises(BenchError) as caught:
        bench.plan(**asked)
    assert says in str(caught.value)


def test_numbers_of_numpy_and_single_things_are_taken_as_pythons_own():
    plain = bench.plan(methods="nonlinear", operators="ties", seeds=[2], recipe={"steps": 10})
    seeds, recipe = np.arange(2, 3), {"steps": np.int64(10)}
    numpy = bench.plan(methods=["nonlinear"], operators=MERGING["ties"], seeds=seeds, recipe=recipe)
    assert [cell.key for cell in numpy] == [cell.key for cell in plain]
    assert bench.plan(methods=None, operators=None, include=None) == bench.plan()


def test_arrays_that_an_operator_uses_are_part_of_it_and_other_objects_are_refused():
    weights = np.array([1.0, 2.0])

    def merge(vectors):
        return {name: weights[0] * tensor for name, tensor in vectors[0].items()}

    before = Own.of(Operator("weighted", merge)).source
    weights[0] = -3.0
    assert Own.of(Operator("weighted", merge)).source != before
    weights = object()
    with pytest.raises(BenchError, match="it uses weights, a object, whose later change would go unnoticed"):
        Own.of(Operator("weighted", merge))
