"""`geohr clean`: remove what interrupted runs have left behind."""

from __future__ import annotations

from pathlib import Path

import click

from geohr_cli.flags import debug_option


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path)
)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@debug_option
def clean(folders: tuple[Path, ...], dry_run: bool) -> None:
    """Remove finished blocks and temporary files from FOLDERS of outputs or work folders.

    Files that a run is using stay. Interrupted runs cannot be resumed afterwards.

    Example: geohr clean results/
    """
    from geohr.inference.cleanup import clean_folder

    for folder in folders:
        for path, size in clean_folder(folder, dry_run=dry_run):
            verb = "would remove" if dry_run else "removed"
            click.echo(f"{verb} {path} ({size / 1e6:.1f} MB)")
