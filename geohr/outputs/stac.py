"""A STAC Item about a run: what it made, of which scene, and by which model.

STAC 1.1.0 with the extensions processing 1.2.0 and MLM (machine learning model) 1.5.0. It is the
one output that tells the time of the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.polygon import orient

from geohr._runtime.files import written_whole
from geohr._runtime.redact import redact
from geohr.geobox import GeoBox
from geohr.inference.job import Job
from geohr.models.metadata import mlm_properties
from geohr.polygons.antimeridian import transform_polygons
from geohr.scene.provenance import modified, stamp

EXTENSIONS = (
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
)
SUFFIX = ".stac.json"
"""The Item lies beside the first output, under its name with this."""
MEDIA_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".shp": "application/vnd.shp",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
}
# The year of Nadar's photographs from a balloon over Paris, the first from the air.
FIRST_AERIAL = "1858-01-01T00:00:00Z"
EDGE_POINTS = 16
"""Points on each side of the footprint, whose sides are bent in longitude and latitude."""
STRAIGHT = 1e-7
"""Degrees by which a side must be bent to need points."""


def item_beside(output: str | Path) -> str | Path:
    """The path or URL of the Item of an output."""
    text = str(output)
    name = text.rpartition("/")[2]
    beside = text.removesuffix(name) + name.removesuffix(Path(name).suffix) + SUFFIX
    return Path(beside) if isinstance(output, Path) else beside


def write_item(path: Path, job: Job, outputs: Sequence[str | Path]) -> None:
    """Write the Item of a run, whose outputs have their final paths beside it.

    Raises:
        OutputError: When it cannot be written.
    """
    item = describe(job, outputs, now=datetime.now(UTC))
    with written_whole(path) as part:
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def describe(job: Job, outputs: Sequence[str | Path], *, now: datetime) -> dict[str, Any]:
    """The Item as a dictionary."""
    names = [str(each).rpartition("/")[2] for each in outputs]
    provenance = job.provenance()
    shape = footprint_of(job)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": Path(names[0]).stem,
        "geometry": None,
        "properties": {
            **times(job, now=now),
            "created": stamp(now),
            "processing:datetime": stamp(now),
            "processing:lineage": f"Objects in {provenance['geohr_scene']}, "
            f"found by {provenance['geohr_model']}",
            "processing:software": {
                "geohr": provenance["geohr_version"],
                "engine": provenance["geohr_engine"],
            },
            **mlm_properties(job.card, job.options.tile or job.card.tile),
            **{name.replace("_", ":", 1): value for name, value in provenance.items()},
        },
        "links": [{"rel": "derived_from", "href": source(job), "type": "image/tiff"}],
        "assets": {name: asset(name) for name in names},
    }
    item["assets"]["model"] = {
        "href": f"urn:sha256:{job.digest}",
        "title": f"{job.card.name} {job.card.version}",
        "type": "application/octet-stream; application=safetensors",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
    }
    if shape is not None:
        item["geometry"] = shapely.geometry.mapping(shape)
        item["bbox"] = box_of(shape)
    return item


def asset(name: str) -> dict[str, Any]:
    """One output as an asset of the Item."""
    return {
        "href": f"./{name}",
        "type": MEDIA_TYPES[Path(name).suffix.lower()],
        "roles": ["data"],
    }


def source(job: Job) -> str:
    """The scene, without credentials, and without folders where it is a file."""
    path = redact(job.scene.path)
    return path if "://" in path else Path(path).name


def times(job: Job, *, now: datetime) -> dict[str, Any]:
    """When the scene was taken; where nothing says so, the range in which it must have been."""
    # STAC wants a time: an image is no older than photography from the air, and no younger than
    # the file that holds it.
    unknown = f"{FIRST_AERIAL}/{modified(job.scene.files) or stamp(now)}"
    first, _, last = (job.acquired or unknown).partition("/")
    if not last:
        return {"datetime": zoned(first)}
    return {"datetime": None, "start_datetime": zoned(first), "end_datetime": zoned(last)}


def footprint_of(job: Job) -> Any | None:
    """The footprint of the outputs in longitude and latitude; None without a CRS."""
    return footprint(job.scene.area_geobox)


def footprint(geobox: GeoBox) -> Any | None:
    """The footprint of a pixel grid in longitude and latitude; None without a CRS."""
    if geobox.crs is None:
        return None
    frame = shapely.box(0, 0, geobox.width, geobox.height)
    fine = shapely.segmentize(frame, max(geobox.shape) / EDGE_POINTS)

    def place(points: Any) -> Any:
        return np.column_stack(geobox.to_world(points[:, 0], points[:, 1]))

    on_ground = np.array([shapely.transform(fine, place)])
    placed = transform_polygons(on_ground, geobox.crs, "OGC:CRS84")[0]
    plain = shapely.simplify(placed, STRAIGHT)
    return orient(plain) if plain.geom_type == "Polygon" else plain


def box_of(shape: Any) -> list[float]:
    """West, south, east and north; across the antimeridian, west is the larger (RFC 7946, 5.2)."""
    west, south, east, north = shape.bounds
    if shape.geom_type == "MultiPolygon":
        west = min(part.bounds[0] for part in shape.geoms if part.bounds[2] == 180)
        east = max(part.bounds[2] for part in shape.geoms if part.bounds[0] == -180)
    return [west, south, east, north]


def zoned(time: str) -> str:
    """A time that says its zone; one that does not is taken for UTC."""
    return time if re.search(r"(Z|[+-]\d\d:\d\d)$", time) else f"{time}Z"
