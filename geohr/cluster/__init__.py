"""Scenes segmented by the workers of a Dask cluster.

    with geohr.cluster.connected("tcp://scheduler:8786") as client:
        geohr.cluster.segment(client, "scene.tif", [Path("buildings.gpkg")])

Scene and work folder must be where all workers find them under the same name. What passes the
scheduler are names and numbers; blocks go from the workers to the work folder, and from there
into the outputs.
"""

from __future__ import annotations

from geohr.errors import EngineError

try:
    import distributed  # noqa: F401  without it there is nothing to do here
except ImportError as error:
    raise EngineError("clusters need Dask; pip install 'geohr[dask]'") from error

from geohr.cluster.connect import connected, served
from geohr.cluster.executor import DaskExecutor
from geohr.cluster.segment import segment

__all__ = ["DaskExecutor", "connected", "segment", "served"]
