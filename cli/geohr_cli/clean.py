"""`geohr clean`: remove what interrupted runs have left behind."""

from __future__ import annotations

from pathlib import Path

import click

from geohr_cli.facts import json_option, tell
from geohr_cli.flags import debug_option


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path)
)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@json_option
@debug_option
def clean(folders: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Remove finished blocks and temporary files from FOLDERS of outputs or work folders.

    Files that a run is using stay. Interrupted runs cannot be resumed afterwards.

    Example: geohr clean results/
    """
    from geohr.inference.cleanup import clean_folder

    removed = [each for folder in folders for each in clean_folder(folder, dry_run=dry_run)]
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {path} ({size / 1e6:.1f} MB)" for path, size in removed]
    facts = {"removed": dict(removed), "bytes": sum(size for _, size in removed)}
    if removed or as_json:
        tell("\n".join(lines), facts, as_json=as_json)
