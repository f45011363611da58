"""Options that verbs share in groups: which cells, and how they run. A group is a dataclass, its fields are options."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from bench.cli.options import (
    STORE,
    BackbonesOption,
    GridOption,
    IncludeOption,
    MethodsOption,
    RecipeOption,
    RuntimeOption,
    StoreOption,
    SuiteOption,
    absolute,
    names,
    offered,
)
from bench.work.runtime import How, option, parse

if TYPE_CHECKING:
    from bench.planning.selection import Selection


def grouped(verb: Callable[..., Any]) -> Callable[..., Any]:
    """`verb`, for Typer: in place of each parameter whose type is a dataclass stand options for its fields."""
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, tuple[Any, list[Parameter]]] = {}
    parameters = []
    for name, given in signature(verb).parameters.items():
        if not is_dataclass(hints[name]):
            parameters.append(given.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))
            continue
        values = hints[name]() if given.default is Parameter.empty else given.default
        groups[name] = hints[name], _options(values)
        parameters += groups[name][1]

    @functools.wraps(verb)
    def flat(**given: Any) -> Any:
        made = {}
        for name, (group, options) in groups.items():
            values = {option.name: given.pop(option.name) for option in options}
            rare = parse(values.pop("runtime", ()))
            made[name] = group(**values, **rare)
        return verb(**given, **made)

    flat.__signature__ = signature(verb).replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat


def _options(values: Any) -> list[Parameter]:
    """The options of a group whose defaults are `values`; of `How` they are what its fields say of themselves."""
    types = get_type_hints(type(values), include_extras=True)
    options = []
    for one in fields(values):
        kind = types[one.name]
        if isinstance(values, How):
            if option(one) in ("-", "--runtime"):
                continue
            bounds = one.metadata["least"] if kind in (int, float) and not one.metadata["wanted"] else None
            kind = Annotated[kind, typer.Option(option(one), min=bounds, help=one.metadata["says"])]
        options.append(Parameter(one.name, Parameter.KEYWORD_ONLY, default=getattr(values, one.name), annotation=kind))
    if isinstance(values, How):
        options.append(Parameter("runtime", Parameter.KEYWORD_ONLY, default=None, annotation=RuntimeOption))
    return options


@dataclass(frozen=True)
class Which:
    """The cells that a command line asks for."""

    grid: GridOption = "smoke"
    suite: SuiteOption = ""
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds: 3 runs seeds 0, 1 and 2.")] = 1
    methods: MethodsOption = None
    operators: Annotated[
        list[str] | None,
        typer.Option(
            "--operators",
            help="Merging operators, e.g. ties,tsv_m (replaces the grid's).",
            autocompletion=offered("operators"),
        ),
    ] = None
    backbones: BackbonesOption = None
    subsets: Annotated[
        int | None,
        typer.Option(
            "--subsets", min=1, help="Sets of tasks of each size; fewer are among more (replaces the grid's)."
        ),
    ] = None
    sweep: Annotated[
        Literal["coarse-to-fine", "whole"] | None,
        typer.Option("--sweep", help="Scaling coefficients that validation looks at (replaces the grid's)."),
    ] = None
    recipe: RecipeOption = None
    include: IncludeOption = None
    store: StoreOption = STORE

    @property
    def selection(self) -> "Selection":
        """The same as plain values."""
        from bench.cards.recipes import parse as parse_recipe
        from bench.planning.selection import Selection

        return Selection(
            grid=self.grid,
            suite=self.suite,
            seeds=range(self.seeds),
            methods=names(self.methods),
            operators=names(self.operators),
            backbones=names(self.backbones),
            subsets=self.subsets,
            sweep=self.sweep or "",
            recipe=parse_recipe(self.recipe or ()),
            include=absolute(self.include),
            store=self.store,
        )
