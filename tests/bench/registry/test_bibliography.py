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
WITHOUT_PAPER = {"norm_match", "fused", "split_qkv"}


def fields(entry: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_entry_or_a_reason(name):
    said = bibliography.bibtex(NAMES[name])
    if name in WITHOUT_PAPER:
        assert said.startswith(f"% {NAMES[name]['title']}: no paper: ")
    else:
        assert said == bibliography.entries()[NAMES[name]["paper"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_formula(name):
    assert NAMES[name]["formula"]
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
