"""`geohr adapt`: a model fitted to one place with a few labels."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.training.options import AdaptOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("scene", nargs=-1, required=True)
@click.option(
    "--labels",
    required=True,
    metavar="FILE",
    help="Polygons of objects, and in the layer labelled the ground that is completely labelled.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.safetensors",
    help="Model to write.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Model to start from; by default the bundled building model.",
)
@options_of(AdaptOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace a model that exists.")
@json_option
@debug_option
def adapt(
    scene: tuple[str, ...],
    labels: str,
    out: Path,
    model: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fit a model to SCENE with a few labels, unless these show that it becomes worse.

    Example: geohr adapt scene.tif --labels labels.gpkg --minutes 10 --out mine.safetensors
    """
    options = chosen(AdaptOptions)

    from geohr._runtime.files import check_writable
    from geohr.training.adapt import adapt as adapt_model

    check_writable(out, overwrite=overwrite, inputs=[*scene, labels, model, options.areas])
    with progress(f"adapt {out.name}") as report:
        outcome = adapt_model(
            list(scene), labels, out, model=model, options=options, progress=report
        )
    facts = {
        "outputs": [out],
        "objects": outcome.objects,
        "area_m2": round(outcome.hectares * 10_000, 1),
        "steps": outcome.steps,
        "scores": outcome.gain.as_dict(),
        "taken": outcome.gain.taken,
        "seconds": outcome.seconds,
    }
    tell(f"{out}: {outcome.describe()}", facts, as_json=as_json)
