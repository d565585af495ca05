"""The page inside a notebook's cell."""

from __future__ import annotations

import html
import tempfile
import weakref
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pyogrio

from geohr.options import SceneOptions
from geohr.scene.vectors import first_layer
from geohr.viewer.server import PageServer, page_server

if TYPE_CHECKING:
    import geopandas

# Height of the page in a cell, in pixels.
HEIGHT = 640


class ServedPage:
    """A page that this process serves until `stop` is called or the object is gone.

    Attributes:
        address: The page's URL.
        objects: The GeoPackage that reviews are kept in.
    """

    def __init__(self, server: PageServer, objects: Path) -> None:
        self.address = server.address
        self.objects = objects
        self._thread = Thread(target=serve, args=(server,), daemon=True)
        self._thread.start()
        self._shutdown = weakref.finalize(self, server.shutdown)

    def stop(self) -> None:
        """Stop the server."""
        self._shutdown()
        self._thread.join()

    def read(self) -> geopandas.GeoDataFrame:
        """The objects as they are now, with the reviews made so far in the column `review`."""
        layer = first_layer(self.objects)
        return pyogrio.read_dataframe(self.objects, layer=layer, fid_as_index=True)

    def _repr_html_(self) -> str:
        """The page in a frame, and a link to it for browsers that show no frame."""
        address = html.escape(self.address)
        return (
            f'<iframe src="{address}" width="100%" height="{HEIGHT}" style="border:0"></iframe>'
            f'<p><a href="{address}" target="_blank">{address}</a></p>'
        )


def serve(server: PageServer) -> None:
    """Answer until the server is shut down, then close its port."""
    with server:
        server.serve_forever()


def view(
    scene: str | Path,
    objects: str | Path | geopandas.GeoDataFrame,
    *,
    options: SceneOptions | None = None,
    port: int = 0,
) -> ServedPage:
    """Serve the page that `geohr view` serves; a notebook shows it in the cell.

    Args:
        scene: A raster file, or any name GDAL can open.
        objects: A GeoPackage, or polygons such as `segment` gives. Polygons are written to a
            temporary GeoPackage first; `ServedPage.read` gives them back with their reviews.
        options: Bands and nodata where the file does not say.
        port: The port to listen on; 0 takes a free one.

    Returns:
        The page, which is served as long as this object is held. Only browsers on this machine
        reach it; elsewhere, share the file that `geohr view --html` writes.

    Raises:
        InputError: When scene or objects cannot be used.
        UsageError: When the objects are no GeoPackage, or the port is taken.
        EngineError: When the extra `view` is not installed.
    """
    if not isinstance(objects, str | Path):
        folder = tempfile.TemporaryDirectory(prefix="geohr-view-")
        path = Path(folder.name) / "objects.gpkg"
        objects.to_file(path, layer="objects", engine="pyogrio")
    else:
        folder, path = None, Path(objects)
    page = ServedPage(
        page_server(scene, path, options=options, port=port, framed=True), objects=path
    )
    if folder is not None:
        weakref.finalize(page, folder.cleanup)
    return page
