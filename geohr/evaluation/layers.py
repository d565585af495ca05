"""The two layers that are compared, on one grid: class ids by window, objects by place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT

from geohr import geodesy
from geohr.encoding import IGNORE, Geometries
from geohr.errors import InputError
from geohr.evaluation.options import EvaluateOptions
from geohr.geobox import Bounds, GeoBox, Window
from geohr.options import PolygonOptions
from geohr.outputs.vector import open_vector
from geohr.polygons import Tracer, TraceSettings
from geohr.scene import open_raster
from geohr.scene.vectors import (
    LABELLED,
    LABELS,
    PARQUET,
    check_layer,
    first_layer,
    is_vector,
    read_parquet,
)

# Metres that compared objects may span: a few times what a zone of 6 degrees is made for. One stray
# object, such as one at 0, 0, would have millions of empty windows compared.
SPAN_MAX = 1_000_000.0
# The CRS of rasters that have none: any in metres will do.
NOWHERE = CRS.from_epsg(32631)
# Formats whose spatial index makes reading by place cheap; others are copied into one first.
INDEXED = (".gpkg", ".fgb")
# The number of rows of a raster that are traced at a time.
ROWS = 1024


@dataclass(frozen=True)
class Layer:
    """One of the layers that are compared, which can be read by place.

    Attributes:
        path: The file that was named.
        raster: Whether that file is a raster.
        vectors: A file with a spatial index that holds the objects of the layer.
        class_id: The class that is scored, or None for all.
        prefer: The layer of `vectors` that is read where it has it, rather than the first.
    """

    path: str
    raster: bool
    vectors: Path
    class_id: int | None
    prefer: str = LABELS

    @cached_property
    def layer(self) -> str:
        """The layer of `vectors` that holds the objects."""
        return first_layer(self.vectors, prefer=self.prefer)

    @cached_property
    def info(self) -> dict[str, Any]:
        """The layer's CRS, fields, number of features and total bounds."""
        told: dict[str, Any] = pyogrio.read_info(
            self.vectors, layer=self.layer, force_total_bounds=True
        )
        return told

    def objects(self, crs: CRS, bounds: Bounds) -> Geometries:
        """Valid polygons that touch `bounds`, both in `crs`, in the order of the file."""
        reach = rasterio.warp.transform_bounds(crs, self.info["crs"], *bounds)
        where = None
        if self.class_id is not None and "class_id" in self.info["fields"]:
            where = f"class_id = {self.class_id}"
        west, south, east, north = reach
        boxes = [reach]
        if east < west:  # in degrees, across the antimeridian
            boxes = [(west, south, 180.0, north), (-180.0, south, east, north)]
        tables = [
            pyogrio.read_dataframe(
                self.vectors, layer=self.layer, columns=[], bbox=box, where=where, fid_as_index=True
            )
            for box in boxes
        ]
        table = tables[0] if len(tables) == 1 else pd.concat(tables)
        geometry = table.geometry[~table.index.duplicated()].to_crs(crs.to_wkt()).to_numpy()
        valid = shapely.make_valid(geometry)
        return np.asarray(valid[shapely.area(valid) > 0], object)

    def mask(self, geobox: GeoBox, window: Window) -> NDArray[np.uint8]:
        """The pixels `(row, col)` of a window of a grid: 1 object, 0 none, 255 not annotated."""
        if self.raster:
            classes = read_on(self.path, geobox, window)
            wanted = classes != 0 if self.class_id is None else classes == self.class_id
            return np.where(classes == IGNORE, np.uint8(IGNORE), wanted.astype(np.uint8))
        part = geobox.window(window)
        return draw(self.objects(geobox.crs, part.bounds), part)


def draw(shapes: Geometries, geobox: GeoBox) -> NDArray[np.uint8]:
    """The pixels `(row, col)` of a grid: 1 where a polygon covers the pixel's centre, else 0."""
    if not len(shapes):
        return np.zeros(geobox.shape, np.uint8)
    drawn: NDArray[np.uint8] = rasterize(
        shapes, geobox.shape, transform=geobox.transform, dtype=np.uint8
    )
    return drawn


def read_on(path: str, geobox: GeoBox, window: Window) -> NDArray[np.uint8]:
    """The class ids of a raster in a window of a grid, nearest neighbour; 255 beyond the raster."""
    with (
        open_raster(path) as raster,
        WarpedVRT(
            raster,
            crs=geobox.crs,
            transform=geobox.transform,
            height=geobox.height,
            width=geobox.width,
            resampling=Resampling.nearest,
            src_nodata=IGNORE,
            nodata=IGNORE,
        ) as view,
    ):
        classes: NDArray[np.uint8] = view.read(1, window=window.slices)
    return classes


@contextmanager
def open_layers(
    predicted: str, truth: str, options: EvaluateOptions
) -> Iterator[tuple[Layer, Layer, Layer | None, GeoBox, float]]:
    """Open both layers and the area of interest, and choose the grid on which they are compared.

    Yields:
        The predicted layer, the truth, the area of interest or None, the grid, and the side of its
        pixels in metres on the ground.

    Raises:
        InputError: When one cannot be read, or but one has a CRS.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="geohr-evaluate-")))
        predicted, truth = placed(predicted, truth, folder, options)
        layers = [
            open_layer(path, folder / f"{name}.gpkg", class_id, prefer)
            for name, path, class_id, prefer in (
                ("predicted", predicted, options.class_id, LABELS),
                ("truth", truth, options.class_id, LABELS),
                ("aoi", options.aoi, None, LABELLED),
            )
            if path is not None
        ]
        aoi = layers[2] if options.aoi is not None else None
        yield layers[0], layers[1], aoi, *common_grid(layers, options.gsd)


def placed(predicted: str, truth: str, folder: Path, options: EvaluateOptions) -> tuple[str, str]:
    """Two rasters without a CRS as copies that have one, so that pixels of one lie on the other's.

    Raises:
        InputError: When they are not of one size.
    """
    if options.aoi is not None or is_vector(predicted) or is_vector(truth):
        return predicted, truth
    with open_raster(predicted) as found, open_raster(truth) as true:
        if found.crs is not None or true.crs is not None:
            return predicted, truth
        if found.shape != true.shape:
            sizes = (f"{each.width} x {each.height}" for each in (found, true))
            raise InputError(
                f"{predicted} and {truth}: without a CRS they are compared pixel by pixel, but are "
                f"{' and '.join(sizes)} pixels"
            )
        transform = Affine(options.gsd, 0, 500_000, 0, -options.gsd, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            for raster, name in ((found, "predicted.tif"), (true, "truth.tif")):
                rasterio.shutil.copy(raster, folder / name, driver="GTiff")
                with rasterio.open(folder / name, "r+") as copy:
                    copy.crs, copy.transform = NOWHERE, transform
    return str(folder / "predicted.tif"), str(folder / "truth.tif")


def open_layer(path: str, copy: Path, class_id: int | None, prefer: str) -> Layer:
    """An input as a layer; `copy` is where its objects go if it has no spatial index itself."""
    suffix = Path(path).suffix.lower()
    if not is_vector(path):
        trace_raster(path, copy, class_id)
        return Layer(path, True, copy, class_id)
    try:
        if suffix == PARQUET:
            table = read_parquet(path)
            check_layer(path, table.crs, [], [])
        else:
            name = first_layer(path, prefer=prefer)
            check_layer(path, pyogrio.read_info(path, layer=name)["crs"], [], [])
            if suffix in INDEXED:
                return Layer(path, False, Path(path), class_id, prefer)
            table = pyogrio.read_dataframe(path, layer=name)
        kept = [name for name in table.columns if name in ("class_id", "geometry")]
        pyogrio.write_dataframe(table[kept], copy, promote_to_multi=True)
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{path}: not vectors that can be read ({error})") from error
    return Layer(path, False, copy, class_id)


def trace_raster(path: str, out: Path, class_id: int | None) -> None:
    """Write a class raster's objects, groups of pixels joined by their sides, as polygons."""
    with open_raster(path) as raster:
        if raster.crs is None:
            raise InputError(f"{path}: has no CRS, so areas are unknown; georeference it first")
        if raster.dtypes[0] != "uint8":
            raise InputError(
                f"{path}: {raster.dtypes[0]} pixels; a class raster is uint8 with class ids, "
                "255 where nothing is annotated"
            )
        tracer = Tracer(
            TraceSettings(
                GeoBox(raster.crs, raster.transform, raster.height, raster.width),
                options=PolygonOptions(connectivity=4),
            )
        )
        with open_vector(out, crs=raster.crs) as sink:
            for row in range(0, raster.height, ROWS):
                height = min(ROWS, raster.height - row)
                classes = raster.read(1, window=Window(row, 0, height, raster.width).slices)
                objects = classes != 0 if class_id is None else classes == class_id
                objects &= classes != IGNORE
                sink.write(tracer.push(objects.astype(np.uint8)))
            sink.write(tracer.finish())


def common_grid(layers: list[Layer], gsd: float) -> tuple[GeoBox, float]:
    """The grid of the first raster among truth, area of interest and prediction, else a new one.

    Returns:
        The grid, and the side of a pixel in metres on the ground.
    """
    predicted, truth, *aoi = layers
    for layer in (truth, *aoi, predicted):
        if layer.raster:
            with open_raster(layer.path) as raster:
                middle = np.array([shapely.box(*raster.bounds)], object)
                area = float(geodesy.measure(middle, raster.crs).area[0])
                side = float(np.sqrt(area / (raster.height * raster.width)))
                grid = GeoBox(raster.crs, raster.transform, raster.height, raster.width)
                return grid, side
    return new_grid(aoi or [truth, predicted], gsd), gsd


def new_grid(layers: list[Layer], gsd: float) -> GeoBox:
    """A grid in the local metric CRS of some layers that covers them.

    Raises:
        InputError: When they hold no object, or span more ground than one such CRS can map.
    """
    filled = [layer for layer in layers if layer.info["features"]]
    if not filled:
        raise InputError(f"{layers[0].path}: holds no object, and neither does the other layer")
    west, south, east, north = degrees = degrees_of(filled)
    crs = CRS.from_wkt(
        geodesy.local_metric_crs("EPSG:4326", (west + east) / 2, (south + north) / 2).to_wkt()
    )
    left, bottom, right, top = rasterio.warp.transform_bounds("EPSG:4326", crs, *degrees)
    if not max(right - left, top - bottom) <= SPAN_MAX:
        named = " and ".join(str(each.path) for each in filled)
        raise InputError(
            f"{named}: objects lie from {west:.4f}, {south:.4f} to {east:.4f}, "
            f"{north:.4f} degrees, which is more than {SPAN_MAX / 1000:.0f} km; is one of them "
            "astray? Say with --aoi where to compare"
        )
    height, width = (
        int(np.ceil((end - start) / gsd)) + 2 for start, end in ((bottom, top), (left, right))
    )
    return GeoBox(crs, Affine(gsd, 0, left - gsd, 0, -gsd, top + gsd), height, width)


def degrees_of(layers: list[Layer]) -> Bounds:
    """West, south, east and north of all objects; east may lie beyond 180 degrees."""
    boxes: list[Bounds] = []
    for layer in layers:
        crs = layer.info["crs"]
        west, south, east, north = rasterio.warp.transform_bounds(
            crs, "EPSG:4326", *layer.info["total_bounds"]
        )
        if east < west or east - west > 180:
            # Across the antimeridian the bounds of all objects go the long way round.
            each = pyogrio.read_bounds(layer.vectors, layer=layer.layer)[1]
            corners = each[[0, 0, 2, 2]].ravel(), each[[1, 3, 1, 3]].ravel()
            lon, lat = map(np.asarray, rasterio.warp.transform(crs, "EPSG:4326", *corners))
            lon = _beside(lon, lon[0])
            west, south, east, north = lon.min(), lat.min(), lon.max(), lat.max()
        middle = (west + east) / 2
        turns = 0.0 if not boxes else _beside(middle, boxes[0][0]) - middle
        boxes.append((west + turns, south, east + turns, north))
    found = np.array(boxes)
    west, south = found[:, :2].min(axis=0)
    east, north = found[:, 2:].max(axis=0)
    return float(west), float(south), float(east), float(north)


def _beside(lon: Any, middle: float) -> Any:
    """Longitudes with as many turns added as bring them nearest to another one."""
    return lon + 360 * np.round((middle - lon) / 360)
