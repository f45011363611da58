"""README.md and docs/*.md: every command parses, every link and path leads somewhere, and what is quick is run.

Nothing that trains, merges, writes to a store or asks a network is started here: such commands are only parsed.
"""

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from test_layers import FLOORS

from bench.boards import plots
from bench.cli.app import app, call

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "leaderboards" / "mini8"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\.\w+)?")
KINDS = ("methods", "operators", "regularizers", "modifiers", "spaces", "datasets", "suites", "grids", "backbones")


@dataclass(frozen=True)
class Command:
    """One `bench` command line of a page; `whole` where a block shows it: a sentence may leave out parts."""

    page: Path
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page.name}: bench {shlex.join(self.words)}"


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def spans(page: Path) -> list[str]:
    """What stands between single backticks, outside of blocks, on one line."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in INLINE.findall(prose)]


def segments(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, and of what it hands on in quotes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            yield words
            words = []
            continue
        if " " in word:
            yield from segments(word)
        words.append(word)


def bench_words(line: str) -> Iterator[tuple[str, ...]]:
    for words in segments(line):
        command = list(itertools.dropwhile(lambda word: re.fullmatch(r"\w+=.*", word) or word == "nice", words))
        if command and Path(command[0]).name == "bench":
            yield tuple(word for word in command[1:] if word != "...")


@cache
def commands() -> list[Command]:
    found = []
    for page in PAGES:
        for block in blocks(page, "bash", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                found += [Command(page, words, True) for words in bench_words(line)]
        for span in spans(page):
            if span.startswith("bench "):
                found += [Command(page, words, False) for words in bench_words(span)]
    return found


@cache
def known(kind: str) -> frozenset[str]:
    """Names of one kind of `bench ls`."""
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert call(["ls", kind, "--json"]) == 0
    return frozenset(json.loads(out.getvalue()))


@cache
def own() -> frozenset[str]:
    """Names that the pages' own examples declare, in Python and in TOML."""
    found: set[str] = set()
    for page in PAGES:
        for block in blocks(page, "python"):
            found |= set(re.findall(r"\b(?:Operator|FineTuning|Regularizer|Kind)\(\s*\"(\w+)\"", block))
        for block in blocks(page, "toml"):
            found |= set(re.findall(r"^name = \"([\w-]+)\"", block, re.MULTILINE))
            found |= set(re.findall(r"^\[\"([\w./-]+)\"\]", block, re.MULTILINE))
    return frozenset(found)


def context(command: Command) -> Any:
    """The parsed command line, by Typer's own parser; nothing is run. Raises what a wrong one is told."""
    at: Any = typer.main.get_command(app)
    words = [word for word in command.words if word != "--help"] or ["--help"]
    if words[0].startswith("-"):  # not parsed: --install-completion would do it
        assert words[0] in {"--help"} | {name for parameter in at.params for name in parameter.opts}, (
            f"no option {words[0]!r}"
        )
        return None
    while hasattr(at, "commands") and words and not words[0].startswith("-"):
        assert words[0] in at.commands, f"no command {words[0]!r}"
        at = at.commands[words.pop(0)]
    out = sys.stdout
    try:
        return at.make_context(at.name, words)
    except Exception as error:
        if command.whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise
        return at.make_context(at.name, words, resilient_parsing=True)
    finally:
        sys.stdout = out  # `--json` had put stderr there


def unknown(name: str, *kinds: str) -> bool:
    return not (PLACEHOLDER.fullmatch(name) or name in own() or any(name in known(kind) for kind in kinds))


def wrong_method(name: str) -> bool:
    method, _, regularizer = name.partition("+")
    method = method.partition(":")[0]  # nonlinear:fusionbench
    return unknown(method, "methods") or bool(regularizer and unknown(regularizer, "regularizers"))


def wrong_operator(name: str) -> bool:
    operator, *rest = re.split(r"[~@]", re.sub(r"\[v\d+\]$", "", name))
    return unknown(operator, "operators") or any(unknown(part, "modifiers", "spaces") for part in rest)


def wrong_row(name: str) -> bool:
    if name in ("", "zero-shot") or PLACEHOLDER.fullmatch(name):
        return False
    method, slash, operator = name.partition("/")
    return not slash or wrong_method(method) or (operator != "expert" and wrong_operator(operator))


def wrong_names(verb: str, params: dict[str, Any]) -> list[str]:
    """Names in a parsed command line that do not exist."""

    def given(*fields: str) -> list[str]:
        values = itertools.chain(*(v if isinstance(v := params.get(f) or (), (list, tuple)) else [v] for f in fields))
        return [name for value in values for name in str(value).split(",")]

    found = [n for n in given("grid") if unknown(n, "grids")]
    found += [n for n in given("suite") if unknown(n, "suites")]
    found += [n for n in given("methods", "finetuning") if wrong_method(n)]
    found += [n for n in given("operators", "operator", "baseline") if wrong_operator(n)]
    found += [n for n in given("against", "regularizer") if unknown(n, "regularizers")]
    found += [n for n in given("backbones", "backbone") if "/" not in n and unknown(n, "backbones")]
    if verb in ("show", "cite"):
        found += [n for n in given("name") if unknown(n, *KINDS)]
    if verb.startswith("data "):
        found += [n for n in given("name", "names") if unknown(n, "datasets", "suites")]
    if verb == "compare" and params.get("against"):
        found += [n for n in given("a") if wrong_operator(n) and n != "my_operator"]
    elif verb in ("compare", "verify", "export"):
        found += [n for n in given("a", "b", "row", "name") if wrong_row(n)]
    if verb == "plot":
        found += [n for n in given("what") if n not in plots.names()]
    return found


def test_enough_commands_are_found() -> None:
    """So that no test below passes over nothing."""
    whole = [command for command in commands() if command.whole]
    assert len(whole) >= 70
    assert len(commands()) - len(whole) >= 40
    verbs = {command.words[0] for command in commands() if command.words}
    assert len(verbs) >= 20
    assert {page for page in PAGES if any(c.page == page for c in commands())} >= {README, ROOT / "docs/commands.md"}
    assert own() >= {"quorum", "factor_mean", "bias_only", "birds", "garden"}


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_parses_and_its_names_exist(command: Command) -> None:
    parsed = context(command)
    if parsed is None:
        return
    verb = " ".join(itertools.takewhile(lambda word: re.fullmatch(r"[a-z]+", word), command.words[:2]))
    verb = verb if verb.startswith(("data", "leaderboard", "results")) else command.words[0]
    params = dict(parsed.params)
    if parsed.args:  # `bench slurm` hands on what it does not know itself to `bench run`
        params |= context(Command(command.page, ("run", *parsed.args), True)).params
    assert wrong_names(verb, params) == []


def test_the_check_of_names_can_fail() -> None:
    for words, wrong in (
        ("run --grid al", ["al"]),
        ("run --methods att+orthreg,nonlinear:tta", ["att+orthreg"]),
        ("plan --operators ties,tsv_m~line", ["tsv_m~line"]),
        ("compare att/tie att/ties", ["att/tie"]),
        ("show tie", ["tie"]),
        ("data check mini9", ["mini9"]),
        ("plot acuracy", ["acuracy"]),
    ):
        verb = " ".join(words.split()[: 2 if words.startswith("data") else 1])
        params = context(Command(README, tuple(words.split()), True)).params
        assert wrong_names(verb, params) == wrong
    for words in ("rum", "run --grd x", "run --device tpu", "compare", "ls a b c"):
        with pytest.raises(Exception, match=r"."):
            context(Command(README, tuple(words.split()), True))


def quick() -> list[tuple[str, ...]]:
    """Commands that only read, each once, and that name nothing of the pages' own examples."""
    found = []
    for command in commands():
        words = command.words
        only_reads = words[:1] in [("ls",), ("show",), ("cite",), ("plan",), ("compare",), ("slurm",)]
        only_reads |= words[:2] in [("data", "ls"), ("leaderboard", "export"), ("results", "validate")]
        mentioned = set(re.split(r"[^\w.-]+", " ".join(words)))
        if not only_reads or mentioned & (own() | {"my_operator"}) or any(map(PLACEHOLDER.fullmatch, words)):
            continue
        with contextlib.suppress(Exception):  # a sentence may name a command without its arguments
            context(Command(command.page, words, True))
            found.append(words)
    return list(dict.fromkeys(found))


def test_the_quick_commands_are_enough() -> None:
    assert len(quick()) >= 15
    assert {words[0] for words in quick()} >= {"ls", "show", "cite", "plan", "compare", "slurm"}


@pytest.mark.parametrize("words", quick(), ids=" ".join)
def test_a_quick_command_runs(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = list(words)
    store = {"plan": tmp_path / "store", "compare": RESULTS, "leaderboard": RESULTS, "results": RESULTS}.get(words[0])
    if store:
        if "--store" in given:
            del given[given.index("--store") : given.index("--store") + 2]
        given += ["--store", str(store)]
    code = call(given)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.strip()


def test_options_and_targets_that_sentences_name_exist() -> None:
    everything: list[Any] = [typer.main.get_command(app)]
    for command in everything:
        everything += getattr(command, "commands", {}).values()
    options = {name for command in everything for p in command.params for name in p.opts}
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named, made = [], []
    for page in PAGES:
        for text in spans(page):
            named += [word.partition("=")[0] for word in text.split() if text.startswith("--") and word[:2] == "--"]
        for text in spans(page) + [line for block in blocks(page, "bash", "sh") for line in block.splitlines()]:
            made += re.findall(r"^make ([\w-]+)", text)
    assert len(named) >= 20
    assert len(made) >= 6
    assert set(named) - options - {"--"} == set()
    assert set(made) - targets == set()


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_relative_link_leads_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))]
    inside = [(page, target) for page, target in links if not re.match(r"https?:", target)]
    assert len(inside) >= 40
    dead = []
    for page, target in inside:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(f"{page.name}: {target}")
    assert dead == []


def test_every_path_in_backticks_exists() -> None:
    tests = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    counted, missing = 0, []
    for page in PAGES:
        for span in spans(page):
            if Path(span).stem in own():
                continue
            if found := re.fullmatch(r"(test_\w+\.py)(?:::(\w+))?", span):
                counted += 1
                file = tests.get(found[1])
                if file is None or (found[2] and f"def {found[2]}(" not in file.read_text(encoding="utf-8")):
                    missing.append(f"{page.name}: {span}")
            elif re.fullmatch(r"(bench|methods|datasets|docs|tests|benchmarks|leaderboards)/[\w./*-]*", span):
                counted += 1
                if not any(ROOT.glob(span.rstrip("/"))):
                    missing.append(f"{page.name}: {span}")
    assert counted >= 50
    assert missing == []


def test_readme_is_short_and_for_newcomers() -> None:
    text = README.read_text(encoding="utf-8")
    assert 130 <= len(text.splitlines()) <= 165
    assert re.findall(r"\b(?=\w*\d)(?=\w*[a-f])[0-9a-f]{7,40}\b", text) == []  # commits belong in docs/
    titles = re.findall(r"^## (.+)$", FENCE.sub("", text), re.MULTILINE)
    assert titles == [
        "Install",
        "Three commands",
        "One board",
        "What OrthoReg does",
        "Your own operator in 20 lines",
        "How to read the numbers",
        "The tree",
        "Limits",
    ]
    for page in PAGES[1:]:
        assert f"docs/{page.name})" in text, f"README does not link {page.name}"


def test_the_readme_counts_what_the_catalogue_has() -> None:
    catalogue = json.loads((ROOT / "bench" / "assets" / "catalogue.json").read_text(encoding="utf-8"))
    (numbers,) = re.findall(r"There are (\d+), and (\d+)\s+compositions", README.read_text(encoding="utf-8"))
    assert [int(number) for number in numbers] == [len(catalogue["operators"]), len(catalogue["composed"])], (
        "write the numbers of operators and of compositions into README.md"
    )


def test_readme_puts_bench_on_the_path_before_it_is_used() -> None:
    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    activated = next(i for i, line in enumerate(lines) if line.startswith("source .venv/bin/activate"))
    assert activated < next(i for i, line in enumerate(lines) if line.startswith("bench "))
    demo = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].partition("\n\n")[0]
    assert "source .venv/bin/activate" in demo


@pytest.mark.parametrize("top", ["bench", "methods"])
def test_the_tree_of_the_readme_names_every_folder(top: str) -> None:
    (tree,) = [block for block in blocks(README, "") if block.startswith("methods/")]
    part = tree.partition(f"{top}/ ")[2] if top == "bench" else tree.partition("bench/ ")[0]
    named = re.findall(r"^  (\w+)/ +\S", part, re.MULTILINE)
    there = {
        folder.name
        for folder in (ROOT / top).iterdir()
        if folder.is_dir() and any(p.is_file() and "__pycache__" not in p.parts for p in folder.rglob("*"))
    }
    assert len(named) == len(set(named)) >= 5
    assert set(named) == there
    if top == "bench":  # "Rooms are listed from the ground up"
        assert [name for name in named if name in FLOORS] == [floor for floor in FLOORS if floor in named]


def test_the_guide_names_every_law() -> None:
    from bench.checks.laws import LAWS

    table = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("| law |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(LAWS)


def test_figures_that_results_md_repeats_are_in_the_leaderboards() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", "", text, flags=re.DOTALL)
    sources = [ROOT / "leaderboards" / "README.md", RESULTS / "lambda.csv"]
    figures = set(re.findall(r"\d+\.\d\d", "".join(path.read_text(encoding="utf-8") for path in sources)))
    said = re.findall(r"\b\d+\.\d\d\b", prose)
    assert len(said) >= 15
    assert set(said) - figures == set()


def test_the_card_the_suite_and_the_backbone_of_the_guide_are_read(tmp_path: Path) -> None:
    """In a copy of the checkout, in the places that the guide says."""
    card, suite, backbone = blocks(ROOT / "docs" / "extending.md", "toml")
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("bench", "methods", "datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skip)
    (tmp_path / "datasets" / "birds.toml").write_text(card, encoding="utf-8")
    (tmp_path / "bench" / "assets" / "suites" / "garden.toml").write_text(suite, encoding="utf-8")
    with (tmp_path / "bench" / "assets" / "backbones.toml").open("a", encoding="utf-8") as backbones:
        backbones.write(f"\n{backbone}")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "blue tit" in said("show", "birds")
    assert "birds, digits, scenes, vehicles" in said("show", "garden")
    assert "data set birds (1,000 images)" in said("plan", "--suite", "garden")
    assert "ViT-B-32, weights laion2b_s34b_b79k" in said("show", "ViT-B-32-laion")
