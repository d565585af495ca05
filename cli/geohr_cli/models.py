"""`geohr models`: what is bundled, and what a model says of itself."""

from __future__ import annotations

import json

import click

from geohr_cli.flags import debug_option, json_option


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
        ctx.invoke(list_models, as_json=False)


@models.command("list")
@json_option
@debug_option
def list_models(as_json: bool) -> None:
    """List the bundled models, one a line.

    Example: geohr models list --json
    """
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
