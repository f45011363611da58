"""Synthetic results for tests: integers from a seeded generator, clearly not measured. Never under leaderboards/."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.store.records import CELLS, SCHEMA, Record, pack_bits

TASKS = ("apples", "birds", "cars")
METHODS = ("nonlinear", "nonlinear+orthoreg", "att", "att+orthoreg")
OPERATORS = ("average", "task_arithmetic", "ties")
IMAGES = {"apples": 120, "birds": 90, "cars": 150, "shapes": 100}
GRID = (0.0, 0.25, 0.5)


class Synthetic:
    """A small store's worth of records. Images have a difficulty; a model is right where its skill exceeds it."""

    def __init__(
        self,
        *,
        methods=METHODS,
        operators=OPERATORS,
        seeds=(0, 1, 2),
        tasks=TASKS,
        negation=True,
        suite="toy",
        skill=None,
    ):
        rng = np.random.default_rng(7)
        self.suite, self.tasks, self.records, self.rng = suite, tasks, [], rng
        self.difficulty = {t: rng.random(n) for t, n in IMAGES.items()}
        self.zero_shot()
        for seed in seeds:
            for m, method in enumerate(methods):
                experts = [self.expert(method, task, seed, 0.9 - 0.02 * m) for task in tasks]
                for o, operator in enumerate(operators):
                    level = (skill or {}).get(f"{method}/{operator}", 0.5 + 0.06 * o + 0.03 * m)
                    self.addition(method, operator, seed, experts, level)
                if negation:
                    self.negation(method, seed, experts, 0.3 - 0.04 * m)

    def right(self, task: str, skill: float) -> np.ndarray:
        """Correctness of one model, bool [images]; shared difficulty makes models agree on most images."""
        noise = self.rng.normal(0, 0.1, len(self.difficulty[task]))
        return self.difficulty[task] + noise < skill

    def row(self, kind: str, task: str, skill: float, *, split="test", **more: Any) -> dict[str, Any]:
        """One stored row."""
        right = self.right(task, skill)
        fixed = {
            "kind": kind, "suite": self.suite, "backbone": "toy", "finetuning": "", "operator": "", "options": "{}",
            "board": "reference", "protocol": "", "tasks": task, "task": task, "split": split, "seed": -1,
            "scaling": 0.0, "selected": True,
        }  # fmt: skip
        bits = pack_bits(right) if split == "test" else b""
        return {**fixed, **more, "correct": int(right.sum()), "total": len(right), "bits": bits}

    def add(self, key: str, rows: list, metrics: dict | None = None, **identity: Any) -> str:
        """Keep a record."""
        where = {"suite": self.suite, "backbone": "toy", "backbone_fingerprint": "toy/0"}
        seconds = 1.0 + len(self.records) % 7
        provenance = {"seconds": seconds, "device": "cpu", "host": "nowhere", "bench": "0.0"}
        kind = rows[0]["kind"] if rows else identity.pop("kind")
        self.records.append(Record(key, {"kind": kind, **where, **identity}, tuple(rows), metrics or {}, provenance))
        return key

    def zero_shot(self) -> None:
        """The pretrained model on every task and the control."""
        self.add("zeroshot", [self.row("zeroshot", t, 0.4) for t in (*self.tasks, "shapes")], tasks=list(self.tasks))

    def expert(self, method: str, task: str, seed: int, skill: float) -> str:
        """One expert on validation and test."""
        common = {"finetuning": method, "seed": seed, "scaling": 1.0}
        rows = [self.row("expert", task, skill, split=split, **common) for split in ("validation", "test")]
        return self.add(
            f"expert-{method}-{task}-{seed}", rows, task=task, finetuning=method, seed=seed, recipe={"lr": 1}
        )

    def addition(self, method: str, operator: str, seed: int, experts: list[str], skill: float, **more: Any) -> str:
        """A coefficient sweep on validation and one test row per task."""
        common = {
            "finetuning": method, "operator": operator, "seed": seed, "tasks": "+".join(self.tasks),
            "board": "validation-tuned", "protocol": "validation:normalised", **more,
        }  # fmt: skip
        rows = []
        for scaling in GRID:
            at = skill - (scaling - 0.25) ** 2
            rows += [
                self.row(
                    "addition", t, at, split="validation", **common | {"scaling": scaling, "selected": scaling == 0.25}
                )
                for t in self.tasks
            ]
        rows += [self.row("addition", t, skill, **common | {"scaling": 0.25}) for t in self.tasks]
        options = more.get("options", "{}")
        key = f"addition-{method}-{operator}-{seed}" + ("" if options == "{}" else f"-{len(options)}")
        return self.add(
            key,
            rows,
            finetuning=method,
            operator=operator,
            options=options,
            seed=seed,
            experts=experts,
            coefficients=list(GRID),
        )

    def subset(self, method: str, operator: str, seed: int, tasks: tuple[str, ...], skill: float, **more: Any) -> str:
        """A merge of some of the tasks: test rows only."""
        common = {"finetuning": method, "operator": operator, "seed": seed, "tasks": "+".join(tasks)}
        common |= {"board": "validation-tuned", "protocol": "validation:normalised"}
        known = {"finetuning": method, "operator": operator, "options": "{}", "seed": seed, "coefficients": list(GRID)}
        return self.add(
            f"subset-{method}-{operator}-{'+'.join(tasks)}-{seed}" + "-".join(more),
            [self.row("addition", task, skill, **common) for task in tasks],
            **known | {"experts": [f"expert-{method}-{task}-{seed}" for task in tasks]} | more,
        )

    def strength(self, method: str, operator: str, seed: int, strength: float, skill: float, **more: Any) -> str:
        """A point of a curve over lambda: chosen rows on validation and test, and the experts of this strength."""
        common = {"finetuning": method, "operator": operator, "seed": seed, "tasks": "+".join(self.tasks)}
        common["options"] = json.dumps({"strength": strength})
        recipe = {"lr": 1, "strength": strength} | more
        made = {"finetuning": method, "seed": seed, "recipe": recipe, "kind": "variant"}
        at = f"{method}-{strength:g}-{seed}" + "-".join(f"{v:g}" for v in more.values())
        experts = [self.add(f"variant-{at}-{task}", [], task=task, **made) for task in self.tasks]
        splits = ("validation", "test")
        rows = [self.row("strength", t, skill, split=split, **common) for t in self.tasks for split in splits]
        identity = {"finetuning": method, "operator": operator, "seed": seed, "strength": strength, "experts": experts}
        return self.add(f"strength-{at}-{operator}", rows, **identity)

    def inapplicable(self, method: str, operator: str, seed: int, reason: str, **more: Any) -> str:
        """A merge whose operator cannot take the experts: a record without rows."""
        said = {"kind": "addition", "options": "{}", "board": "validation-tuned", "experts": [], **more}
        metrics = {"not_applicable": f"{operator} {reason}"}
        return self.add(
            f"{said['kind']}-{method}-{operator}-{seed}",
            [],
            metrics,
            finetuning=method,
            operator=operator,
            seed=seed,
            **said,
        )

    def negation(self, method: str, seed: int, experts: list[str], skill: float) -> None:
        """Target and control of every task."""
        for task, expert in zip(self.tasks, experts, strict=True):
            common = {"finetuning": method, "operator": "negation", "seed": seed, "tasks": task, "scaling": 0.5}
            rows = [self.row("negation", task, skill, **common), self.row("negation", "shapes", 0.38, **common)]
            self.add(f"negation-{method}-{task}-{seed}", rows, finetuning=method, seed=seed, experts=[expert])

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """`(rows, cells)` as a store gives them."""
        made = [r.table().replace_schema_metadata(SCHEMA.metadata) for r in self.records if r.rows]
        lines = [
            {
                "key": r.key, "kind": r.identity["kind"], "identity": json.dumps(r.identity),
                "metrics": json.dumps(r.metrics), "provenance": json.dumps(r.provenance),
            }
            for r in self.records
        ]  # fmt: skip
        return pa.concat_tables([SCHEMA.empty_table(), *made]), pa.Table.from_pylist(lines, schema=CELLS)

    def fill(self, store: Any) -> Any:
        """Write every record to a store."""
        for record in self.records:
            store.write(record)
        return store


def without(sample: Synthetic, key: str, task: str) -> tuple[pa.Table, pa.Table]:
    """Tables of a sample without the test row of one task in one cell."""
    rows, cells = sample.tables()
    gone = pc.and_(pc.and_(pc.equal(rows["key"], key), pc.equal(rows["task"], task)), pc.equal(rows["split"], "test"))
    return rows.filter(pc.invert(gone)), cells
