"""BibTeX of every method: `bench/assets/references.bib`, found by the `paper` of a record (`arXiv:2306.01708`)."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.ground import names
from bench.registry.catalogue import Catalogue

PATH = Path(__file__).parents[1] / "assets" / "references.bib"


@cache
def entries() -> dict[str, str]:
    """The entries by key, in the order of the file."""
    texts = re.split(r"\n(?=@)", PATH.read_text(encoding="utf-8"))[1:]
    return {text.split("{", 1)[1].split(",", 1)[0]: text.strip() for text in texts}


def keys(name: str, catalogue: Catalogue) -> list[str]:
    """Keys of the entries that a name stands on, its parts included: `tsv_m~lines`, `ties@core`, `att+orthoreg`."""
    c = catalogue
    facts: dict[str, dict[str, Any]] = c.spaces | c.regularizers | c.modifiers | c.finetuning | c.operators
    merging = names.merging(name)
    trained = names.finetuning(merging.operator)
    parts = [trained.method, trained.regularizer, *(step[1:] for step in merging.steps)]
    papers = [facts.get(part, {}).get("paper", "") for part in parts]
    return list(dict.fromkeys(paper for paper in papers if paper in entries()))


def bibtex(facts: Mapping[str, Any]) -> str:
    """The entry of one record.

    The record's own `citation` (a user's method, a data set) comes first, then the entry of its `paper`, then one made
    from the arXiv number; a comment says why there is none.
    """
    recorded = str(facts.get("citation", "")).strip()
    paper = str(facts.get("paper", ""))
    if recorded.startswith("@"):
        return recorded
    if paper in entries():
        return entries()[paper]
    if paper.startswith("arXiv:"):
        number = paper.removeprefix("arXiv:")
        lines = (f"title = {{{facts['title']}}}", f"eprint = {{{number}}}", "archivePrefix = {arXiv}")
        return f"@misc{{{paper},\n" + "".join(f"  {line},\n" for line in lines) + "}"
    return f"% {facts['title']}: {recorded or paper or 'no citation recorded'}"
