"""`geohr completion`: tab completion of commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from geohr_cli.flags import debug_option

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: add to ~/.bashrc      eval "$(geohr completion bash)"
    zsh:  add to ~/.zshrc       eval "$(geohr completion zsh)"
    fish: geohr completion fish > ~/.config/fish/completions/geohr.fish

    Example: geohr completion bash
    """  # noqa: D301  click looks for the backspace itself
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"this click has no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(script(root, {}, "geohr", "_GEOHR_COMPLETE").source())
