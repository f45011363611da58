"""The tables of docs/speed.md, made from benchmarks/results/*.json and nothing else.

    python -m benchmarks._table            writes them between their markers; `make bench` does so when it is done

A table stands between `<!-- benchmarks:NAME -->` and `<!-- /benchmarks -->`. A test compares what is committed with
what the committed JSON gives, so a figure cannot drift from its measurement. Peers that were not installed when it was
measured have no rows.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._machine import RESULTS

ROOT = Path(__file__).parent.parent
FILES = (ROOT / "docs" / "speed.md",)
MARKED = re.compile(r"(<!-- benchmarks:(\w+) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)

Results = Mapping[str, Any]
Line = tuple[str, ...]

LARGE = "ViT-B-32, 4 of 12 blocks"
PEERS = ("mergekit", "FusionBench")
TITLES = {
    "task_arithmetic": "task arithmetic", "ties": "TIES mean", "ties_sum": "TIES sum", "dare": "DARE",
    "dare_ties": "DARE-TIES", "della": "DELLA", "breadcrumbs": "breadcrumbs", "karcher": "Karcher",
    "model_stock": "Model Stock", "sce": "SCE", "magmax": "MagMax", "consensus_ta": "consensus TA", "pcb": "PCB",
    "tsv_m": "TSV-M", "iso_c": "Iso-C", "iso_cts": "Iso-CTS", "cart": "CART", "star": "STAR", "dc_merge": "DC-Merge",
    "wudi": "WUDI", "wudi_closed": "WUDI, closed form", "emr": "EMR", "tall_mask": "TALL masks", "average": "average",
}  # fmt: skip
"""Rows of the operators' table, in order."""


def load() -> dict[str, Results]:
    """Every result file by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def number(x: float | None, unit: str = "") -> str:
    """Two significant digits, three from a hundred; a dash for nothing."""
    if x is None:
        return "–"
    digits = 2 if abs(x) < 100 else 3
    text = f"{x:.{digits}g}"
    return (text if "e" not in text else f"{float(text):.0f}") + unit


def ratio(x: float, y: float, unit: str = "") -> str:
    """x / y; an addition that comes out negative is smaller than its noise."""
    return number(x / y, unit) if x > 0 else "0"


def markdown(head: Line, lines: Iterable[Line]) -> str:
    """A table in Markdown."""
    rows = [head, tuple("---" for _ in head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" if row is not rows[1] else "|---" * len(head) + "|" for row in rows)


def step_lines(found: Results) -> list[Line]:
    """Training steps: the ways of `benchmarks.steps`, what each is compared with, and how far it is from its floor."""
    names = {"mini": "mini, batch 32", LARGE: f"{LARGE}, batch 16"}
    lines: list[Line] = []
    for tower, way, reference in (
        ("mini", "plain", "plain, open_clip's module"),
        ("mini", "tangent", "tangent, torch.func"),
        ("mini", "orthoreg", "orthoreg, autograd"),
        ("mini", "lora, orthoreg", "lora, orthoreg, autograd"),
        (LARGE, "tangent", "tangent, torch.func"),
        (LARGE, "orthoreg", "orthoreg, autograd"),
        (LARGE, "orthoreg, mixed", "orthoreg, autograd"),
        (LARGE, "lora, orthoreg", "lora, orthoreg, autograd"),
    ):
        rows = found["steps"][names[tower]]
        mine, other = rows[way], rows[reference]
        added = [row.get("added_milliseconds") for row in (mine, other)]
        lines.append(
            (
                tower,
                way,
                number(mine["times_plain"]),
                f"{reference}: {number(other['times_plain'])}",
                ratio(*added) if all(added) else "–",
                number(None if "mixed" in way else mine["milliseconds"] / mine["floor_milliseconds"]),
            )
        )
    return lines


def steps(found: Results) -> str:
    head = ("tower", "step", "times a plain step", "against, times a plain step", "added / added", "times its floor")
    return markdown(head, step_lines(found))


def sweeps(found: Results) -> str:
    rows = {name: row for name, row in found["sweeps"]["rows"].items() if "times_faster" in row}
    head = ("what", "times faster than one model, or one jvp, each", "times its floor")
    return markdown(head, [(n, number(r["times_faster"]), number(r["times_floor"])) for n, r in rows.items()])


def images(found: Results) -> str:
    rows = found["images"]["rows"].items()
    head = ("file", "times faster than PIL and open_clip's transform", "times its floor")
    return markdown(head, [(n, number(r["times_faster"]), number(r["times_floor"])) for n, r in rows])


def operators(found: Results) -> str:
    """One line an operator: against the plain reference and each peer, memory, distance from the floor."""
    rows = found["merging"]["rows"]
    lines = []
    for name, title in TITLES.items():
        own = rows[name]
        others = [rows.get(f"{name} ({peer})", {}).get("times_faster") for peer in PEERS]
        lines.append(
            (
                title,
                *(number(x) for x in (own["times_faster"], *others)),
                number(own.get("times_floor")),
                number(own["extra_models"]),
            )
        )
    head = ("operator", "plain reference", *PEERS, "times its floor", "extra models")
    return markdown(head, lines)


def summary(found: Results) -> str:
    """The most important ratios in one table."""
    small, large = (found["steps"][name] for name in ("mini, batch 32", f"{LARGE}, batch 16"))
    sweep, image, merge = (found[name]["rows"] for name in ("sweeps", "images", "merging"))

    def times(*rows: Results) -> str:
        return " / ".join(number(row["times_faster"]) for row in rows) + " x"

    def against(peer: str, *names: str) -> list[Line]:
        known = [(name, f"{name} ({peer})" if peer else name) for name in names]
        rows = [(TITLES[name], merge[row]) for name, row in known if row in merge]
        titles = ", ".join(title for title, _ in rows)
        return [(titles, peer or "plain references written for it", times(*(row for _, row in rows)))] if rows else []

    def added(name: str) -> str:
        return ratio(large[name]["added_milliseconds"], large["orthoreg, autograd"]["added_milliseconds"])

    def share(name: str) -> str:
        whole = found["steps"][f"{LARGE}, batch 128"]["plain"]["milliseconds"]
        return ratio(100 * large[name]["added_milliseconds"], whole, " %")

    plain = small["plain, open_clip's module"]["times_plain"]
    tangent, functorch = small["tangent"]["times_plain"], small["tangent, torch.func"]["times_plain"]
    penalty, autograd = small["orthoreg"]["times_plain"], small["orthoreg, autograd"]["times_plain"]
    lines: list[Line] = [
        ("training step of `mini`", "open_clip's module", number(plain) + " x"),
        ("tangent (TTA) step, in plain steps", "torch.func", f"{number(tangent)} against {number(functorch)}"),
        ("OrthoReg on `mini`, in plain steps", "autograd", f"{number(penalty)} against {number(autograd)}"),
        (f"what OrthoReg adds on {LARGE}, float32 / mixed", "what autograd adds",
         f"{added('orthoreg')} / {added('orthoreg, mixed')} of it"),
        ("the same, and with LoRA, as a share of a step at batch 128", "a plain step",
         " / ".join(share(name) for name in ("orthoreg", "orthoreg, mixed", "lora, orthoreg"))),
        (f"20 coefficients of a merge, `mini` / {LARGE}", "a model built for each",
         times(sweep["mini: 20 coefficients"], sweep[f"{LARGE}: 20 coefficients"])),
        ("21 coefficients of a tangent model, the same towers", "a torch.func jvp for each",
         times(sweep["mini: 21 coefficients, tangent"], sweep[f"{LARGE}: 21 coefficients, tangent"])),
        ("an image from the decoded cache: 64 px PNG / 500x375 / 1024x768 JPEG", "PIL and open_clip's transform",
         times(*(image[name] for name in ("png, 64x64", "jpeg, 500x375", "jpeg, 1024x768")))),
        *against("", "ties", "ties_sum", "della", "breadcrumbs", "karcher", "dare", "task_arithmetic"),
        *against("mergekit", "ties", "della", "breadcrumbs", "karcher", "dare", "task_arithmetic"),
        *against("FusionBench", "ties", "ties_sum", "dare", "task_arithmetic", "tsv_m", "iso_c"),
        ("task arithmetic", "reading every byte once", number(merge["task_arithmetic"]["times_floor"]) + " x its time"),
    ]  # fmt: skip
    return markdown(("what", "against", "faster"), lines)


TABLES: dict[str, Callable[[Results], str]] = {
    "summary": summary, "steps": steps, "sweeps": sweeps, "images": images, "operators": operators,
}  # fmt: skip


def filled(text: str, found: Results) -> str:
    """`text` with every marked table made anew."""
    return MARKED.sub(lambda m: f"{m.group(1)}{TABLES[m.group(2)](found)}\n{m.group(3)}", text)


def main() -> int:
    """Rewrite the tables in place."""
    found = load()
    for path in FILES:
        before = path.read_text(encoding="utf-8")
        after = filled(before, found)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: tables written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
