"""Suites: what is measured on. A TOML file in `bench/assets/suites/` names tasks, control, backbones and recipes.

The recipe of an expert is the suite's `[recipe]`, overridden by `[methods.METHOD]`, then by `[regularizers.NAME]`, then
by what `bench search` chose on validation (`SUITE.search.json`): numbers of the loop, and options of the method and of
the regulariser by their names (`bench.cards.recipes`). All methods of a suite share seeds, splits and budget.
"""

import itertools
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from bench.cards import datasets
from bench.cards.datasets import Card, DatasetCard, Name
from bench.cards.recipes import Owner, Recipe, check_names, settle
from bench.errors import BenchError, UnknownName, retold
from bench.ground import toml_json
from bench.ground.names import Finetuning
from methods.options import Grid

ASSETS = Path(__file__).parents[1] / "assets"
NONE: Mapping[str, Any] = MappingProxyType({})
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class BackboneCard(Card):
    """An open_clip image encoder and where its weights come from (`bundled`, an open_clip tag, or a file)."""

    name: str
    architecture: str
    weights: str
    image_size: Annotated[int, Field(gt=0)]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    sha256: str = ""
    hub: str = ""
    """Hugging Face repository of the weights, to say whether they are here without importing open_clip."""

    @property
    def fingerprint(self) -> str:
        """What a key says about the backbone: its architecture, weights and preprocessing."""
        return f"{self.architecture}/{self.sha256[:16] or self.weights}/{self.image_size}"


class Suite(Card):
    """Tasks that are merged, the control task that negation must keep, backbones and recipes."""

    name: Name
    title: str
    tasks: Annotated[tuple[str, ...], Field(min_length=2)]
    control: str
    backbones: Annotated[tuple[str, ...], Field(min_length=1)]
    recipe_defaults: Annotated[dict[str, Any], Field(alias="recipe")]
    methods: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    regularizers: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    operators: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Options of merging operators that differ from their defaults here; they are part of keys and rows."""
    search: Annotated[dict[str, tuple[float, ...]], Field(default_factory=dict)]
    """Hyper-parameters and the values that `bench search` tries."""

    def card(self, task: str) -> DatasetCard:
        """The card of a task or of the control."""
        if task not in (*self.tasks, self.control):
            raise UnknownName(f"task of suite {self.name}", task, self.tasks)
        return datasets.load(task)

    def recipe(
        self, method: str, regularizer: str = "", task: str = "", known: Mapping[str, Grid] = NONE, /, **overrides: Any
    ) -> Recipe:
        """The recipe for one fine-tuning method, e.g. `recipe("att", "orthoreg", "dtd")`.

        A suite that gives no number of steps trains for the epochs of the task's card, incomplete batches included.
        `known` are the options that every known method and regulariser declares, by its name. BenchError for a name
        that none has, and for a regulariser whose strength nobody gives.
        """
        layers = [("", self.recipe_defaults), (method, self.methods.get(method, {}))]
        owners = [Owner(method, known.get(method, {}))]
        if regularizer:
            layers.append((regularizer, self.regularizers.get(regularizer, {})))
            owners.append(Owner.regularizer(regularizer, known.get(regularizer, {})))
        layers.append(("", _searched(self.name).get(str(Finetuning(method, regularizer)), {})))
        layers.append(("", overrides))
        given = {name: value for _, layer in layers for name, value in layer.items()}
        who = f"suite {self.name}: recipe of {Finetuning(method, regularizer)}"
        try:
            check_names(given, itertools.starmap(Owner, known.items()))
        except UnknownName as error:
            raise BenchError(f"{who}: {error}; correct the suite file") from error
        if "steps" not in given:
            layers.append(("", {"steps": self._steps(task, given)}))
        if not regularizer:
            layers.append(("", {"strength": 0.0}))
        elif "strength" not in given:
            layers.append(("", {"strength": self._strength(regularizer, known.get(regularizer, {}))}))
        try:
            return settle(who, layers, owners)
        except TypeError as error:
            raise BenchError(f"{who}: {error}; correct the suite file") from error

    def _strength(self, regularizer: str, grid: Grid) -> Any:
        if "strength" not in grid:
            raise BenchError(
                f"suite {self.name} gives no strength for the regulariser {regularizer}, which would train without it; "
                f"write [regularizers.{regularizer}] strength = ... into {self.name}.toml, or --recipe strength=..."
            )
        return grid["strength"][0]

    def _steps(self, task: str, chosen: dict[str, Any]) -> int:
        card = self.card(task)
        if card.recipe.epochs is None or "train" not in card.splits:
            raise BenchError(f"{task}: neither suite {self.name} gives steps nor its card epochs; add one of them")
        batch = chosen.get("batch_size")
        if not isinstance(batch, int) or batch < 1:
            raise BenchError(f"suite {self.name}: batch_size is {batch!r}; give a whole number, at least 1")
        return int(card.recipe.epochs * math.ceil(card.splits["train"].rows / batch))


@cache
def _searched(suite: str) -> dict[str, dict[str, Any]]:
    path = ASSETS / "suites" / f"{suite}.search.json"
    return read_search(path) if path.is_file() else {}


def read_search(path: Path) -> dict[str, dict[str, Any]]:
    """By fine-tuning method, the values that a search chose."""
    text = f"{path.name}: {{why}}; restore it, or run `bench search` again"
    with retold(BenchError, text, OSError, ValueError):
        chosen = toml_json.parse_object(path.read_bytes(), chosen=dict)["chosen"]
        if not all(isinstance(values, dict) for values in chosen.values()):
            raise ValueError("'chosen' is not an object of objects")
    return dict(chosen)


def names() -> list[str]:
    """Names of all suites."""
    return sorted(p.stem for p in (ASSETS / "suites").glob("*.toml"))


@cache
def load(name: str) -> Suite:
    """Read the suite `name`."""
    if name not in names():
        raise UnknownName("suite", name, names())
    return read(ASSETS / "suites" / f"{name}.toml")


def read(path: Path) -> Suite:
    """Read one suite from a file. All problems come in one message."""
    with retold(BenchError, f"suite {path.stem}: {{why}}; correct {path.name}", OSError, ValueError):
        return Suite.model_validate(_table(path))


def _table(path: Path, within: tuple[str, ...] = ()) -> dict[str, Any]:
    """A suite's file; `like` takes everything that it does not say itself from another suite."""
    table = toml_json.read_toml(path)
    if "like" not in table:
        return table
    like = table.pop("like")
    if like not in names() or like in (*within, path.stem):
        raise ValueError(f"like = {like!r} names no other suite")
    return _table(ASSETS / "suites" / f"{like}.toml", (*within, path.stem)) | table


@cache
def _backbones() -> dict[str, BackboneCard]:
    return read_backbones(ASSETS / "backbones.toml")


def read_backbones(path: Path) -> dict[str, BackboneCard]:
    """Read the cards of all backbones from a file."""
    with retold(BenchError, f"{path.name}: {{why}}; correct it", OSError, ValueError, TypeError):
        table = toml_json.read_toml(path)
        return {name: BackboneCard.model_validate({**fields, "name": name}) for name, fields in table.items()}


def backbone_names() -> list[str]:
    """Names of all backbones with a card."""
    return sorted(_backbones())


def backbone(name: str) -> BackboneCard:
    """The card of a backbone, or of any other open_clip model as `ARCHITECTURE/TAG` (`ViT-B-32/laion2b_s34b_b79k`)."""
    if "/" in name and name not in _backbones():
        architecture, _, tag = name.partition("/")
        return BackboneCard(name=name, architecture=architecture, weights=tag, image_size=_image_size(architecture))
    if name not in _backbones():
        raise UnknownName("backbone", name, backbone_names())
    return _backbones()[name]


def architecture(name: str) -> dict[str, Any]:
    """An architecture's configuration as open_clip writes it, from its package or ours; empty for an unknown name."""
    path = _configs().get(name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}


@cache
def _configs() -> dict[str, Path]:
    spec = find_spec("open_clip")
    folder = Path(spec.origin or "").parent / "model_configs" if spec else Path()
    return {p.stem: p for p in (*folder.glob("*.json"), ASSETS / "mini.json")}


def _image_size(name: str) -> int:
    """Side of the images that an open_clip architecture reads."""
    if not architecture(name):
        raise UnknownName("open_clip architecture", name, _configs())
    return int(architecture(name)["vision_cfg"]["image_size"])
