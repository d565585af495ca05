"""`geohr view`: a page to look at a result and review it."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from geohr.options import SceneOptions
from geohr_cli.flags import chosen, debug_option, options_of


@click.command()
@click.argument("scene")
@click.argument("objects", type=click.Path(path_type=Path))
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
    scene: str, objects: Path, html: Path | None, port: int, browser: bool, overwrite: bool
) -> None:
    """Show the raster SCENE with OBJECTS, a .gpkg, on a page that only this machine can open.

    A slider filters by confidence. Objects can be accepted or rejected, those of lowest confidence
    first; the decisions are kept in the column `review` of OBJECTS.

    Example: geohr view scene.tif buildings.gpkg
    """
    options = chosen(SceneOptions)

    from geohr._runtime.files import check_writable
    from geohr.scene import Scene
    from geohr.viewer import ObjectTable, page_server, write_page

    if html is not None:
        check_writable(html, overwrite=overwrite, inputs=[scene, objects])
        write_page(Scene.open(scene, options), ObjectTable.open(objects), html)
        click.echo(f"{html}: {html.stat().st_size / 1e6:.1f} MB")
        return
    with page_server(scene, objects, options=options, port=port) as server:
        click.echo(f"{server.address} shows {objects}; stop with Ctrl-C")
        if browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped")
