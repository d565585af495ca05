"""`geohr view`: a page to look at a result and review it."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import SceneOptions
from geohr_cli.flags import chosen, debug_option, options_of


@click.command()
@click.argument("scenes", metavar="[BEFORE] SCENE", nargs=-1, required=True)
@click.argument("objects", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="File that labels are drawn into.  [default: SCENE.labels.gpkg beside OBJECTS]",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="A sample of geohr check sample, to be judged.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a single HTML file that needs no server, instead of serving a page.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to serve on; by default any."
)
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@options_of(SceneOptions)
@click.option("--overwrite", is_flag=True, help="Replace an HTML file that exists.")
@debug_option
def view(
    scenes: tuple[str, ...],
    objects: Path,
    labels: Path | None,
    check: Path | None,
    html: Path | None,
    port: int,
    browser: bool,
    overwrite: bool,
) -> None:
    """Show the raster SCENE with OBJECTS, a .gpkg, on a page that only this machine can open.

    Review objects, those of lowest confidence first; label by drawing outlines; judge the sample
    of a check. Everything is kept as it is done. With an earlier raster BEFORE, and changes as
    OBJECTS, a divider swipes between both dates.

    Example: geohr view scene.tif buildings.gpkg

    Example: geohr view before.tif after.tif changes.gpkg
    """
    options = chosen(SceneOptions)
    if len(scenes) > 2:
        raise UsageError(f"{len(scenes)} rasters; a page shows one, or BEFORE and SCENE")
    *before, scene = scenes

    from geohr._runtime.files import check_writable
    from geohr.scene import Scene
    from geohr.scene.provenance import files_behind
    from geohr.viewer import ObjectTable, page_server, write_page

    if html is not None:
        if before or labels or check:
            raise UsageError(
                "a page that is one file shows one date, and nothing is drawn or "
                "judged on it; leave out --html, or BEFORE, --labels and --check"
            )
        check_writable(html, overwrite=overwrite, inputs=[*files_behind(scene), objects])
        write_page(Scene.open(scene, options), ObjectTable.open(objects), html)
        click.echo(f"{html}: {max(html.stat().st_size // 1000, 1):,} kB")
        return
    with page_server(
        scene, objects, before=before[0] if before else None, labels=labels, check=check,
        options=options, port=port,
    ) as server:  # fmt: skip
        click.echo(f"{server.address} shows {objects}; stop with Ctrl-C")
        if browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped")
