"""What the site is built with besides its pages: the page of commands, and Mermaid's script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

PAGE = "reference/commands.md"
MERMAID = "javascripts/mermaid.tiny.js"
# The most characters that a line of code has room for beside both columns of navigation.
WIDTH = 78


def on_config(config: Any) -> Any:
    """Find the command line beside the documentation, installed or not."""
    sys.path.insert(0, str(Path(config.config_file_path).parent / "cli"))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the page of commands."""
    return markdown + commands() if page.file.src_uri == PAGE else markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load Mermaid from this site where a page has a diagram.

    The theme would fetch it from another server; it is 2.5 MB, so other pages do without.
    """
    if 'class="mermaid"' not in output:
        return output
    up = "../" * page.url.count("/")
    return output.replace("</head>", f'<script src="{up}{MERMAID}"></script></head>', 1)


def commands() -> str:
    """A section for each command: its help as the terminal shows it."""
    from geohr_cli.main import geohr

    parts = []
    root = click.Context(geohr, info_name="geohr", max_content_width=WIDTH, terminal_width=WIDTH)
    for name in geohr.list_commands(root):
        command = geohr.get_command(root, name)
        if command is not None:
            parts.append(section(name, command, root))
    return "".join(parts)


def section(name: str, command: click.Command, parent: click.Context) -> str:
    """The help of a command, and of the commands within it."""
    context = click.Context(command, parent=parent, info_name=name)
    text = f"\n## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                text += section(inner, found, context)
    return text
