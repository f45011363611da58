"""Verbs that bring published experts into a store and take models out of it: import, export."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.groups import grouped
from bench.cli.options import STORE, IncludeOption, JsonOption, StoreOption, absolute, catalogue, names, print_json
from bench.work.runtime import How

if TYPE_CHECKING:
    from bench.cards.suites import Suite
    from bench.kinds.imported import Imported
    from bench.kinds.session import Session

FilesArgument = Annotated[
    list[Path], typer.Argument(help="Checkpoints: .pt, .safetensors, PEFT adapters, or a hub model's folder.")
]
TaskOption = Annotated[
    list[str] | None, typer.Option("--task", help="Task of each file, in their order; default: as their paths say.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("import")(grouped(import_))
    app.command()(export)


@dataclass(frozen=True)
class Claims:
    """What is said of files to import, beside what they say themselves."""

    backbone: Annotated[str, typer.Option("--backbone", help="What they were fine-tuned from.")] = "ViT-B-32"
    finetuning: Annotated[
        str, typer.Option("--finetuning", help="How: nonlinear, tta+orthoreg, ...; default: as the format says.")
    ] = ""
    family: Annotated[str, typer.Option("--family", help="Whose release it is; records its known defects.")] = ""
    suite: Annotated[str, typer.Option("--suite", help="Suite of the tasks.")] = "vision8"
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which of several published experts it is.")] = 0
    sha256: Annotated[str, typer.Option("--sha256", help="Expected hash of the file; one file at a time.")] = ""
    lora_alpha: Annotated[
        float | None, typer.Option("--lora-alpha", help="Of adapters that do not record it: the OrthoReg authors'.")
    ] = None
    peft_out_proj: Annotated[
        int | None,
        typer.Option(
            "--peft-out-proj", min=1, max=2, help="How often PEFT added out_proj's pair; default: by its age."
        ),
    ] = None


def import_(
    *,
    files: FilesArgument,
    task: TaskOption = None,
    claims: Claims,
    store: StoreOption = STORE,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where they are evaluated.")] = "cpu",
    json: JsonOption = False,
) -> int:
    """Make published experts part of a store.

    Nothing in a file is executed. Each becomes a task vector, is evaluated on its task where the images are here, and
    can be merged: `bench run --methods nonlinear:fusionbench`. Exit code 1 if an evaluation failed.
    """
    from bench.cards import suites
    from bench.errors import BenchError
    from bench.exchange import experts
    from bench.exchange.checkpoints import import_expert
    from bench.kinds.session import Session
    from bench.store.store import Store
    from bench.work import backbone as backbones

    suite = suites.load(claims.suite)
    if claims.sha256 and len(files) > 1:
        raise BenchError("--sha256 is the hash of one file; import them one at a time")
    tasks = experts.tasks_of(files, names(task), suite)
    base = backbones.load(claims.backbone, (), device="cpu")
    session = Session(How(device=device), Store(store))
    reports = []
    for path, name in zip(files, tasks, strict=True):
        expert = import_expert(
            path,
            claims.family or None,
            sha256=claims.sha256,
            alpha=claims.lora_alpha,
            out_proj=claims.peft_out_proj,
        )
        cell = experts.bring(
            path, expert, session.store, suite, base, catalogue(()), task=name, finetuning=claims.finetuning,
            seed=claims.seed,
        )  # fmt: skip
        reports.append({"file": str(path), **_measured(cell, suite, session)})
        if not json:
            _tell(reports[-1])
    if json:
        print_json(reports)
    return 1 if any(report["error"] for report in reports) else 0


def _measured(cell: "Imported", suite: "Suite", session: "Session") -> dict[str, Any]:
    """What is known about an imported expert, its test accuracy too where the images of its task are here."""
    from bench.cards import suites
    from bench.planning import preflight

    origin = session.store.read_import(cell.key)
    report = {"key": cell.key, "task": cell.task, "finetuning": cell.finetuning, "format": origin["format"]}
    report |= {"sha256": cell.sha256, "notes": origin["notes"], "accuracy": None, "error": ""}
    if preflight.has_images(suite.card(cell.task), suites.backbone(cell.backbone).image_size):
        outcome = session.attempt(cell)
        report |= {"accuracy": outcome.headline.get("accuracy"), "error": outcome.error}
    return report


def _tell(report: dict[str, Any]) -> None:
    accuracy, task = report["accuracy"], report["task"]
    if report["error"]:
        state = f"failed: {report['error']}"
    elif accuracy is not None:
        state = f"test accuracy {100 * accuracy:.2f} %"
    else:
        state = f"not evaluated, its images are not here (`bench data fetch {task}`, then `bench run`)"
    print(f"{report['finetuning']} {task}: {report['key']} from {report['file']} ({report['format']}); {state}")
    for note in report["notes"]:
        print(f"  note: {note}")


def export(
    name: Annotated[str, typer.Argument(help="A row (nonlinear/ties, lora/expert) or the key of a cell.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for hf, a folder.")],
    form: Annotated[
        Literal["open_clip", "hf", "vector"],
        typer.Option("--format", help="A whole open_clip model, a Hugging Face CLIP vision model, or what was added."),
    ] = "open_clip",
    task: Annotated[str, typer.Option("--task", help="Of an expert, or of an operator with a model per task.")] = "",
    suite: Annotated[str, typer.Option("--suite", help="Only rows of this suite.")] = "",
    backbone: Annotated[str, typer.Option("--backbone", help="Only rows of this backbone.")] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Only rows of this seed.")] = None,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    json: JsonOption = False,
) -> None:
    """Write a merged model or an expert for others to load.

    Pretrained weights plus the chosen coefficient times the task vector, with a model card that has its test results.
    """
    from bench.exchange import experts
    from bench.kinds.session import Session
    from bench.store.store import Store
    from bench.work import backbone as backbones

    opened = Store(store, create=False)
    narrow = {"suite": suite or None, "backbone": backbone or None, "seed": seed, "task": task or None}
    record = experts.find(opened, name, **narrow)
    chosen = experts.model(record, Session(How(include=absolute(include)), opened), task)
    base = backbones.load(chosen.cell.backbone, ())
    digest = experts.export(chosen, base, out, form, opened)
    about = {"out": str(out), "format": form, "row": chosen.name, "key": chosen.cell.key, "scaling": chosen.scaling}
    if json:
        print_json(about | {"sha256": digest})
    else:
        print(f"{out}: {chosen.name} at coefficient {chosen.scaling:g} (cell {chosen.cell.key}), sha256 {digest}")
