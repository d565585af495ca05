"""`geohr models`: what is bundled."""

from __future__ import annotations

import click

from geohr_cli.flags import debug_option


@click.command()
@click.argument("name", required=False)
@debug_option
def models(name: str | None) -> None:
    """List the bundled models, or show the card of the model NAME (bundled, or a file).

    Example: geohr models buildings
    """
    from geohr.models.model import bundled_models, resolve_model

    if name is None:
        for each in bundled_models():
            card = resolve_model(each).card
            classes = ", ".join(label.name for label in card.classes)
            click.echo(
                f"{each}: {classes}; {card.architecture} on {card.encoder}; "
                f"{card.gsd[0]:g} to {card.gsd[1]:g} m a pixel; {card.licence}"
            )
        return
    card = resolve_model(name).card
    click.echo(card.describe())
