"""What lies beside the objects of a joined map: virtual rasters, and a STAC collection of cells.

STAC 1.1.0. The items of the collection are one ItemCollection: a country has thousands of cells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shapely

from geohr._runtime.file_store import FileStore, FolderStore, open_file_store
from geohr._runtime.messages import amount
from geohr._runtime.redact import redact
from geohr._runtime.stores import is_object
from geohr.encoding import PROBABILITY_MAX
from geohr.inference.job import Job
from geohr.outputs.stac import FIRST_AERIAL, MEDIA_TYPES, box_of, footprint, zoned
from geohr.scene.provenance import stamp
from geohr.workflows.cells.files import CLASSES, PROBABILITIES, objects_name
from geohr.workflows.cells.plan import Cell, CellPlan, Zone
from geohr.workflows.cells.run import CellResult
from geohr.workflows.cells.vrt import VrtBand, gdal_name, vrt_of


def write_catalog(
    plan: CellPlan,
    results: Mapping[str, CellResult],
    jobs: Sequence[Job],
    target: FileStore,
    out: str,
) -> list[str]:
    """Write virtual rasters and a collection beside a data set; the names of all.

    Raises:
        OutputError: When they cannot be written.
    """
    folder, stem = _beside(out)
    written = []
    assets: dict[str, Any] = {}
    if plan.asked.polygons:
        assets["objects"] = {
            "href": f"./{out.rstrip('/').rpartition('/')[2]}",
            "type": MEDIA_TYPES[".parquet"],
            "roles": ["data"],
        }
    for number, (zone, job) in enumerate(zip(plan.zones, jobs, strict=True)):
        cells = [each for each in plan.cells if each.zone == number and each.name in results]
        for kind, wanted in ((CLASSES, plan.asked.classes), (PROBABILITIES, plan.asked.probs)):
            if wanted and cells:
                name = f"{stem}.{zone.name}{kind}.vrt"
                folder.put(name, _vrt(plan, zone, cells, job, kind, folder).encode())
                written.append(name)
                assets[f"{zone.name}{kind}"] = {
                    "href": f"./{name}", "type": "application/xml", "roles": ["data"]
                }  # fmt: skip
    items = _items(plan, results, jobs)
    collection = _collection(plan, jobs, items, assets, stem)
    for name, content in (
        (f"{stem}.items.json", {"type": "FeatureCollection", "features": items}),
        (f"{stem}.collection.json", collection),
    ):
        folder.put(name, json.dumps(content, ensure_ascii=False).encode())
        written.append(name)
    return [folder.address(name) for name in written]


def _beside(out: str) -> tuple[FileStore, str]:
    """The folder of a data set, and the beginning of the names beside it."""
    text = out.rstrip("/")
    if is_object(text):
        head, _, name = text.rpartition("/")
        return open_file_store(head), name.removesuffix(".parquet")
    path = Path(text)
    return FolderStore(path.parent), path.name.removesuffix(".parquet")


def _vrt(
    plan: CellPlan, zone: Zone, cells: Sequence[Cell], job: Job, kind: str, folder: FileStore
) -> str:
    """The text of a virtual raster over the rasters of cells."""
    card = job.card
    if kind == CLASSES:
        colours = {number: each.rgb for number, each in enumerate(card.classes, start=1)}
        bands = [VrtBand("class", 1.0, colours)]
    else:
        bands = [VrtBand(each.name, 1 / PROBABILITY_MAX, None) for each in card.classes]
    sources = [
        (gdal_name(plan.store.address(f"{kind}/{cell.name}.tif")), cell.own_place(zone))
        for cell in cells
    ]
    home = str(folder.root.resolve()) if isinstance(folder, FolderStore) else ""
    return vrt_of(job.own_scene.area_geobox, bands, sources, home)


def _items(
    plan: CellPlan, results: Mapping[str, CellResult], jobs: Sequence[Job]
) -> list[dict[str, Any]]:
    """A STAC Item for each cell that is done."""
    items = []
    for cell in plan.cells:
        result = results.get(cell.name)
        if result is None:
            continue
        zone, job = plan.zones[cell.zone], jobs[cell.zone]
        shape = footprint(job.geobox.window(cell.place(zone)))
        items.append(
            {
                "type": "Feature",
                "stac_version": "1.1.0",
                "stac_extensions": [],
                "id": cell.name,
                "geometry": None if shape is None else shapely.geometry.mapping(shape),
                **({} if shape is None else {"bbox": box_of(shape)}),
                "properties": {
                    **_times(zone.acquired, result),
                    "created": stamp(datetime.fromtimestamp(result.finished, UTC)),
                    "geohr:objects": result.objects,
                    "geohr:engine": result.engine,
                },
                "links": [],
                "assets": _assets(plan, cell),
            }
        )
    return items


def _assets(plan: CellPlan, cell: Cell) -> dict[str, Any]:
    """The files of a cell."""
    wanted = [
        (CLASSES, f"{CLASSES}/{cell.name}.tif", plan.asked.classes),
        (PROBABILITIES, f"{PROBABILITIES}/{cell.name}.tif", plan.asked.probs),
        ("objects", objects_name(cell.name), plan.asked.polygons),
    ]
    return {
        kind: {
            "href": redact(plan.store.address(name)),
            "type": MEDIA_TYPES[Path(name).suffix],
            "roles": ["data"],
        }
        for kind, name, there in wanted
        if there
    }


def _times(acquired: str | None, result: CellResult) -> dict[str, Any]:
    """When the scenes were taken; where nothing says so, the range in which it must have been."""
    made = stamp(datetime.fromtimestamp(result.finished, UTC))
    first, _, last = (acquired or f"{FIRST_AERIAL}/{made}").partition("/")
    if not last:
        return {"datetime": zoned(first)}
    return {"datetime": None, "start_datetime": zoned(first), "end_datetime": zoned(last)}


def _collection(
    plan: CellPlan,
    jobs: Sequence[Job],
    items: Sequence[Mapping[str, Any]],
    assets: Mapping[str, Any],
    stem: str,
) -> dict[str, Any]:
    """The STAC Collection of all cells."""
    boxes = [each["bbox"] for each in items if "bbox" in each] or [[-180.0, -90.0, 180.0, 90.0]]
    whole = [
        min(each[0] for each in boxes), min(each[1] for each in boxes),
        max(each[2] for each in boxes), max(each[3] for each in boxes),
    ]  # fmt: skip
    properties = [each["properties"] for each in items]
    starts = [each.get("start_datetime") or each["datetime"] for each in properties]
    ends = [each.get("end_datetime") or each["datetime"] for each in properties]
    card = jobs[0].card
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": stem,
        "description": f"Objects in {redact(Path(plan.zones[0].title).name)}, found by "
        f"{card.name} {card.version} in {amount(len(items), 'cell')}",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [whole]},
            "temporal": {"interval": [[min(starts), max(ends)]]},
        },
        "links": [{"rel": "items", "href": f"./{stem}.items.json", "type": "application/geo+json"}],
        "assets": dict(assets),
    }
