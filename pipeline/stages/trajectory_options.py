"""Options of `build-trajectories`, and the rule of a search as a command line gives it.

A new build takes the defaults where nothing is given. A replay takes what its slice was built with, so that the slice
comes out again unless something is changed by name.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any

import typer

from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig
from pipeline.stages.consent import FLAG
from schemas.errors import UsageError

Source = Annotated[str, typer.Option(help="Source whose questions are searched, e.g. slake.")]
Expert = Annotated[str | None, typer.Option(help="annotations, saliency, openai, hf or medplib.")]
FromCalls = Annotated[
    str | None,
    typer.Option(
        metavar="SLICE",
        help="Ask no expert: repeat the calls that this slice of trajectories recorded, failures among them, by its "
        "name ('*' for the only one). What is not given below is as in that slice.",
    ),
]
RedoRejected = Annotated[
    bool,
    typer.Option(
        "--redo-rejected",
        help="Do shards again in which the expert failed on a question. Answered calls are known and cost nothing; "
        "failed ones are asked again.",
    ),
]
IngestName = Annotated[str, typer.Option(help="Name of the ingest slice, where a source has several.")]
Name = Annotated[str | None, typer.Option(help="Name of the slice this build makes; default the expert's.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Root seed of the sampler.")]
Variants = Annotated[int, typer.Option(help="CVS variants per question (N_expert).")]
LooksMax = Annotated[int, typer.Option(help="Most looks of a trajectory (T_max).")]
GainMin = Annotated[float, typer.Option(help="Gain that keeps a drill going (δ).")]
ConfidentAt = Annotated[float, typer.Option(help="Confidence that ends the search (ξ).")]
Mass = Annotated[float, typer.Option(help="Mass of the nucleus (p₀).")]
Temperature = Annotated[float, typer.Option(help="Temperature over confidences (τ).")]
Crossing = Annotated[str, typer.Option(help="The region that crosses the mass: exclude or include.")]
Origins = Annotated[str, typer.Option(help="Ablations too: scan_only,drill_only,random.")]
ExpertSet = Annotated[list[str] | None, typer.Option(help="Setting of the expert: name=value.")]
SendRestricted = Annotated[bool, typer.Option(FLAG, help="The terms of the images allow sending them to the endpoint.")]


def given(context: typer.Context) -> dict[str, Any]:
    """The parameters that somebody wrote on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, how in sources.items() if how is not None and how.name != "DEFAULT"}


def search_config(base: SearchConfig, options: Mapping[str, Any]) -> SearchConfig:
    """`base` with the options that belong to a search."""
    try:
        changed = SearchConfig(_changed(base.navigator, options), _changed(base.sampler, options), base.origins)
        if "origins" in options:
            changed = replace(changed, origins=tuple(sorted(filter(None, options["origins"].split(",")))))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return changed


def recorded_config(config: Mapping[str, Any]) -> SearchConfig:
    """The rule in the config of a slice."""
    navigator, sampler = NavigatorConfig(**config["navigator"]), SamplerConfig(**config["sampler"])
    return SearchConfig(navigator, sampler, tuple(config["origins"]))


def _changed(config: Any, options: Mapping[str, Any]) -> Any:
    names = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in options.items() if name in names})
