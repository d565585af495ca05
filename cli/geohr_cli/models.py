"""`geohr models`: what is bundled, and what a model says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geohr.api.import_options import ImportOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of

if TYPE_CHECKING:
    from geohr.api.import_model import ImportResult

out_option = click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.safetensors", help="The model file."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a file that exists.")


class Models(click.Group):
    """A group in which a word that is no command names a model, whose card is shown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; `geohr models buildings` is `geohr models show buildings`."""
        known = self.get_command(ctx, args[0]) is not None
        return super().resolve_command(ctx, args if known else ["show", *args])


@click.group(cls=Models, invoke_without_command=True, subcommand_metavar="[COMMAND | NAME]")
@debug_option
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the bundled models, or show the card of the model NAME (bundled, or a file).

    Example: geohr models buildings
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, remote=False, as_json=False)


@models.command("list")
@click.option("--remote", is_flag=True, help="List the models that `pull` brings instead.")
@json_option
@debug_option
def list_models(remote: bool, as_json: bool) -> None:
    """List the bundled models, one a line, or those that others publish.

    Example: geohr models list --remote
    """
    if remote:
        list_remote(as_json)
        return
    from geohr.models.model import bundled_models, resolve_model

    cards = {name: resolve_model(name).card for name in bundled_models()}
    if as_json:
        click.echo(json.dumps({name: json.loads(card.to_json()) for name, card in cards.items()}))
        return
    for name, card in cards.items():
        classes = ", ".join(label.name for label in card.classes)
        click.echo(
            f"{name}: {classes}; {card.architecture} on {card.encoder}; "
            f"{card.gsd[0]:g} to {card.gsd[1]:g} m a pixel; {card.licence}"
        )


@models.command("show")
@click.argument("name")
@json_option
@debug_option
def show_model(name: str, as_json: bool) -> None:
    """Show the card of the model NAME: a bundled name or a .safetensors file.

    Example: geohr models show buildings
    """
    from geohr.models.model import resolve_model

    card = resolve_model(name).card
    click.echo(card.to_json() if as_json else card.describe())


def list_remote(as_json: bool) -> None:
    """Print the registry."""
    import dataclasses

    from geohr.models.registry import remote_models

    rows = remote_models()
    if as_json:
        click.echo(json.dumps({name: dataclasses.asdict(row) for name, row in rows.items()}))
        return
    for row in rows.values():
        click.echo(row.describe())


@models.command("import")
@click.argument("source")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.safetensors",
    help="The model file.",
)
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    metavar="ITEM.json",
    help="What describes the model: a STAC Item of the MLM extension, or a card.",
)
@options_of(ImportOptions)
@config_option
@overwrite_option
@json_option
@debug_option
def import_(source: str, out: Path, card: Path | None, overwrite: bool, as_json: bool) -> None:
    """Make a model file of SOURCE: a checkpoint of SMP, ONNX, TorchScript, OpenVINO's IR, hf://.

    Example: geohr models import net.pth --architecture unet --encoder resnet34 --gsd 0.2,0.3
    --out mine.safetensors
    """
    options = chosen(ImportOptions)

    from geohr.api.import_model import import_model

    result = import_model(source, out, options=options, card=card, overwrite=overwrite)
    tell(result.describe(), import_facts(result), as_json=as_json)


def import_facts(result: ImportResult) -> dict[str, object]:
    """What `--json` prints of a model that was imported."""
    card = result.model.card
    return {
        "outputs": [result.path],
        "format": result.format,
        "bands": card.bands,
        "classes": [each.name for each in card.classes],
        "assumed": result.assumed,
    }


@models.command("pull")
@click.argument("name")
@out_option
@overwrite_option
@json_option
@debug_option
def pull(name: str, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Fetch the model NAME of `geohr models list --remote` from the Hugging Face hub.

    Example: geohr models pull flair-rgb-15
    """
    from geohr.api.hub_models import pull_model

    target = out or Path(f"{name}.safetensors")
    result = pull_model(name, target, overwrite=overwrite)
    tell(result.describe(), import_facts(result), as_json=as_json)


@models.command("push")
@click.argument("model")
@click.argument("target", metavar="hf://OWNER/NAME")
@json_option
@debug_option
def push(model: str, target: str, as_json: bool) -> None:
    """Publish MODEL, a bundled name or a file, on the Hugging Face hub.

    Example: geohr models push mine.safetensors hf://me/mine
    """
    from geohr.api.hub_models import push_model

    page = push_model(model, target)
    tell(page, {"outputs": [page]}, as_json=as_json)


@models.command("card")
@click.argument("model")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["mlm", "json"]),
    default="mlm",
    show_default=True,
    help="A STAC Item of the MLM extension, or geohr's own card.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Default stdout.")
@overwrite_option
@debug_option
def card_(model: str, kind: str, out: Path | None, overwrite: bool) -> None:
    """Write the card of MODEL, a bundled name or a file, for other tools.

    Example: geohr models card buildings --format mlm --out buildings.json
    """
    from geohr._runtime.files import check_writable, written_whole
    from geohr.models.metadata import mlm_item
    from geohr.models.model import resolve_model

    resolved = resolve_model(model)
    href = f"./{resolved.path.name}" if resolved.path is not None else "./model.safetensors"
    item = mlm_item(resolved, href=href)
    text = (
        json.dumps(item, indent=2, ensure_ascii=False) if kind == "mlm" else resolved.card.to_json()
    )
    if out is None:
        click.echo(text)
        return
    check_writable(out, overwrite=overwrite, inputs=[resolved.path])
    with written_whole(out) as part:
        part.write_text(text + "\n", encoding="utf-8")
