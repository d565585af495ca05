"""`geohr clean`: what runs that were cut short have left."""

from __future__ import annotations

from pathlib import Path

import click

from geohr_cli.flags import debug_option


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path)
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@debug_option
def clean(folders: tuple[Path, ...], dry_run: bool) -> None:
    """Remove finished blocks and temporary files from FOLDERS of outputs or work folders.

    What a run is using at the moment stays. Runs that were cut short begin anew afterwards.

    Example: geohr clean results/
    """
    from geohr.inference.cleanup import clean_folder

    for folder in folders:
        for path, size in clean_folder(folder, dry_run=dry_run):
            verb = "would remove" if dry_run else "removed"
            click.echo(f"{verb} {path} ({size / 1e6:.1f} MB)")
