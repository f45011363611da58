"""The list of planted faults fits the source; `make mutants` plants them."""

import pytest

from tests.mutants.__main__ import ROOT, chosen, one, planted, verdict
from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.file}: {f.why}")
def test_every_fault_has_its_place_once_and_tests_that_are_there(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert fault.new != fault.old
    assert fault.tests
    for file, _, function in (test.partition("::") for test in fault.tests):
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8") if function else (ROOT / file).is_file()
    compile(text.replace(fault.old, fault.new), fault.file, "exec")


def test_no_fault_is_there_twice_and_every_room_has_some() -> None:
    assert len({(f.file, f.old, f.new) for f in FAULTS}) == len(FAULTS) >= 200
    rooms = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert rooms | {"merging", "finetuning", "regularizers"} == {f.file.split("/")[1] for f in FAULTS}
    assert all(f.why and f.why[-1] != "." for f in FAULTS)
    assert chosen(["bench/kinds/addition.py", "entropies", "validation"])


def test_only_failing_tests_catch() -> None:
    assert verdict(1, "FAILED tests/test_a.py::test_b\n1 failed, 3 passed in 0.5s") == "caught"
    for code, said in (
        (0, "4 passed in 0.5s"),
        (1, "ERROR tests/test_a.py::test_b\n3 passed, 1 error in 0.5s"),
        (1, "1 failed, 1 error in 0.5s"),
        (2, "1 error in 0.5s"),
        (4, "ERROR: file or directory not found: tests/test_a.py"),
        (5, "no tests ran in 0.01s"),
        (-11, ""),
        (None, ""),
    ):
        assert verdict(code, said).startswith("missed: "), (code, said)


def test_a_planted_fault_is_there_and_gone_again(tmp_path) -> None:
    fault = Fault("source.py", "a + b", "a - b", ("test_source.py",), "sums are differences")
    (tmp_path / "source.py").write_text("def add(a, b):\n    return a + b\n")
    with planted(tmp_path, fault):
        assert "a - b" in (tmp_path / "source.py").read_text()
    assert "a + b" in (tmp_path / "source.py").read_text()


@pytest.mark.parametrize(("text", "said"), [("a, b", "0 times"), ("a + b; a + b", "2 times")])
def test_a_fault_whose_place_is_not_there_once_is_missed(tmp_path, text: str, said: str) -> None:
    (tmp_path / "source.py").write_text(text)
    fault = Fault("source.py", "a + b", "a - b", ("test_source.py",), "sums are differences")
    assert one(tmp_path, fault) == f"missed: its old text is {said} in the file, not once"
