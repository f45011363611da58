"""Every name of the catalogue can be cited, or says why not; the entries are whole."""

import re

import pytest

from bench.registry import bibliography, catalogue

KNOWN = catalogue.load()
NAMES = {
    **KNOWN.operators,
    **KNOWN.composed,
    **KNOWN.finetuning,
    **KNOWN.regularizers,
    **KNOWN.modifiers,
    **KNOWN.spaces,
}
WITH_PAPER = [name for name, facts in NAMES.items() if not facts.get("citation", "").startswith("no paper: ")]


def fields(entry: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_entry_or_a_reason(name):
    facts, cited = NAMES[name], bibliography.bibtex(NAMES[name])
    if name not in WITH_PAPER:
        assert not facts["paper"], f"{name}: it has a paper and says that it has none"
        assert cited == f"% {facts['title']}: {facts['citation']}"
        return
    what = f"{name}: write paper='arXiv:...' or 'doi:...' in its record, or citation='no paper: WHY'"
    assert facts["paper"], what
    assert facts["paper"] in bibliography.entries(), f"{name}: references.bib has no entry {facts['paper']}"
    assert cited == bibliography.entries()[facts["paper"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_formula(name):
    assert NAMES[name]["formula"], f"{name}: write formula='...', one line of text, in its record"
    assert "\n" not in NAMES[name]["formula"]


@pytest.mark.parametrize("key", bibliography.entries())
def test_an_entry_is_whole(key):
    entry = bibliography.entries()[key]
    found = fields(entry)
    assert {"author", "title", "year"} <= set(found)
    assert entry.count("{") == entry.count("}")
    assert "others" not in found["author"]
    assert all("," in author for author in found["author"].split(" and "))
    kind, identifier = key.split(":", 1)
    assert found[{"arXiv": "eprint", "doi": "doi"}[kind]] == identifier
    where = {"@inproceedings": "booktitle", "@article": "journal", "@misc": "eprint"}[entry.partition("{")[0]]
    assert found[where]


def test_these_say_that_they_have_no_paper():
    """Who has one cannot: its entry would be for nothing, see below."""
    assert set(NAMES) - set(WITH_PAPER) >= {"norm_match", "fused", "split_qkv"}


def test_no_entry_is_for_nothing_and_keys_are_sorted():
    used = {facts["paper"] for facts in NAMES.values()} - {""}
    assert set(bibliography.entries()) == used
    assert list(bibliography.entries()) == sorted(used)


def test_a_composition_cites_its_parts():
    assert bibliography.keys("tsv_m~lines@core", KNOWN) == ["arXiv:2412.00081", "arXiv:2410.17146", "arXiv:2509.17786"]
    assert bibliography.keys("att+orthoreg", KNOWN) == ["arXiv:2407.07089", "arXiv:2604.17078"]
    assert bibliography.keys("iso_c~isotropise[x=1]", KNOWN) == ["arXiv:2502.04959"]
    assert bibliography.keys("my_own", KNOWN) == []


def test_a_users_method_cites_what_it_says():
    assert bibliography.bibtex({"title": "Mine", "citation": "@misc{me}", "paper": "arXiv:2306.01708"}) == "@misc{me}"
    made = bibliography.bibtex({"title": "Mine", "paper": "arXiv:2999.00001"})
    assert fields(made) == {"title": "Mine", "eprint": "2999.00001", "archivePrefix": "arXiv"}
    assert bibliography.bibtex({"title": "Mine"}) == "% Mine: no citation recorded"
