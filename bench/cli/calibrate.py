"""The verb calibrate, and the lines that `bench plan` prints from what it measured."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.options import (
    IncludeOption,
    JsonOption,
    MethodsOption,
    RecipeOption,
    RuntimeOption,
    catalogue,
    names,
    print_json,
)

if TYPE_CHECKING:
    from bench.kinds.base import Cell
    from bench.registry.catalogue import Catalogue


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(calibrate)


def calibrate(
    backbone: Annotated[str, typer.Option("--backbone", help="Image tower to time.")] = "mini",
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where cells will compute.")] = "cpu",
    methods: MethodsOption = None,
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Images of a step; 0: 128 on CUDA, 8 on a CPU (32 small ones).")
    ] = 0,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Timed steps; 0: 20 on CUDA, 2 on a CPU.")] = 0,
    recipe: RecipeOption = None,
    runtime: RuntimeOption = None,
    include: IncludeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure what cells cost on this machine.

    Seconds of a training step by method, of an evaluated image, and memory, for `bench plan`. Weights may be random.
    --recipe and --runtime: as the run will have them; two calls that differ in one of them measure its price.
    """
    from dataclasses import asdict

    from bench.cards import recipes
    from bench.checks import calibrate as measuring
    from bench.planning import costs
    from bench.planning.grid import EIGHT
    from bench.work.runtime import How, parse

    asked = names(methods) or EIGHT
    found = measuring.measure(
        backbone, catalogue(include), methods=asked, batch=batch, steps=steps,
        recipe=recipes.parse(recipe or ()), how=How(device=device, **parse(runtime)),
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )  # fmt: skip
    path = costs.write(found)
    if json:
        print_json(asdict(found) | {"file": str(path)})
        return
    print(f"{backbone} on {found.name}, {found.batch} images a step")
    for method in found.train:
        peak = found.memory[method] / 2**20
        print(f"  {method}: {1e3 * found.train[method]:.3g} ms an image and step, peak {peak:,.0f} MB")
    for method, seconds in found.penalty.items():
        print(f"  {method}: {1e3 * seconds:.3g} ms more a step")
    print(f"  evaluation: {1e3 * found.evaluate:.3g} ms an image, tangent model {1e3 * found.derivative:.3g} ms")
    print(f"table: {path}")


def estimates(cells: "Iterable[Cell]", known: "Catalogue", done: set[str]) -> dict[str, Any]:
    """What is left of a plan costs, by kind: hours of one device, gigabytes. Empty `device`: nothing was measured."""
    from bench.cards import suites
    from bench.planning import costs

    left = [cell for cell in cells if cell.key not in done]
    towers = dict.fromkeys(cell.backbone for cell in left)
    tables = {device: costs.read(device) for device in costs.DEVICES}
    device = next((d for d in costs.DEVICES if towers and towers.keys() <= tables[d].keys()), "")
    device = device or next((d for d in costs.DEVICES if towers.keys() & tables[d].keys()), "")
    table = tables.get(device, {})
    found = costs.estimate(left, table, known) if device else {}
    return {
        "device": device,
        "name": ", ".join(sorted({table[t].name for t in towers if t in table})),
        "kinds": {kind: {"hours": round(e.seconds / 3600, 3), "unknown": e.unknown} for kind, e in found.items()},
        "unmeasured": [tower for tower in towers if tower not in table],
        "vectors_gigabytes": round(costs.vectors(left, table) / 1e9, 3),
        "images_gigabytes": round(costs.decoded(left, {suites.backbone(t).image_size for t in towers}) / 1e9, 3),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The estimate for people."""
    said = []
    if found["kinds"]:
        unit = "GPU-hours" if found["device"] == "cuda" else "CPU-hours"
        said.append(f"what is left, in {unit} of {found['name']} (operators' own arithmetic not counted):")
        for kind, cost in found["kinds"].items():
            unknown = f"; {cost['unknown']} cells not estimated" if cost["unknown"] else ""
            said.append(f"  {kind}: {cost['hours']:.3g}{unknown}")
    for tower in found["unmeasured"]:
        said.append(
            f"no hours for {tower}: run `bench calibrate --backbone {tower} --device cuda` (or cpu) on a machine that "
            "will run it"
        )
    disk = [
        f"{found[f'{what}_gigabytes']:.3g} GB of {text}"
        for what, text in (("vectors", "task vectors"), ("images", "decoded images"))
        if found[f"{what}_gigabytes"] >= 0.01
    ]
    if disk:
        said.append(f"disk: {', '.join(disk)}")
    return said
