"""The page of all commands, made from the commands themselves when the site is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

PAGE = "reference/commands.md"


def on_config(config: Any) -> Any:
    """Find the command line beside the documentation, installed or not."""
    sys.path.insert(0, str(Path(config.config_file_path).parent / "cli"))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the page of commands."""
    return markdown + commands() if page.file.src_uri == PAGE else markdown


def commands() -> str:
    """A part for each command: its help as the terminal shows it."""
    from geohr_cli.main import geohr

    parts = []
    root = click.Context(geohr, info_name="geohr", max_content_width=100, terminal_width=100)
    for name in geohr.list_commands(root):
        command = geohr.get_command(root, name)
        if command is None:
            continue
        context = click.Context(command, parent=root, info_name=name)
        parts.append(f"\n## geohr {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)
