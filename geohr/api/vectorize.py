"""Anyone's class raster, or probabilities of `geohr segment`, into polygons, strip by strip."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from geohr import __version__
from geohr._runtime.files import check_writable
from geohr._runtime.messages import amount, warn
from geohr._runtime.progress import phase
from geohr._runtime.redact import redact
from geohr._runtime.threads import Stages
from geohr.api.options import VectorizeOptions
from geohr.encoding import NODATA, Bytes
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox
from geohr.geodesy import in_plane
from geohr.outputs.vector import check_extension, open_vector
from geohr.polygons.table import Polygons
from geohr.polygons.tracer import Tracer, TraceSettings
from geohr.scene.files import open_raster, settings
from geohr.scene.prepare import OFF_GRID
from geohr.scene.stac import acquired
from geohr.stitching.mosaic import classify


@dataclasses.dataclass(frozen=True)
class VectorizeResult:
    """What came of tracing a raster.

    Attributes:
        path: The file of polygons.
        objects: Polygons in it.
        area_m2: Their area in square metres; None without a CRS.
        classes: `objects` and `area_m2` of each class that was found.
    """

    path: Path
    objects: int
    area_m2: float | None
    classes: dict[str, dict[str, float | None]]

    def describe(self) -> str:
        """The result in one line."""
        if self.objects == 0:
            return f"{self.path}: no object found; the layer is empty"
        return f"{self.path}: {amount(self.objects, 'polygon')}"


Rows = tuple[Bytes, Bytes | None]
"""Class ids `(row, col)` of some rows, and their probabilities `(class, row, col)` or None."""
STRIP_PIXELS = 2**23
"""Pixels read at a time, in whole rows of the file's blocks."""
CACHE_BYTES = 2**26
"""GDAL's cache of blocks, which are read once: it would take a share of all memory."""
PICTURE = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
"""Colours of the bands of a picture."""
EVEN = 0.5
"""The probability of contours, if none is given."""


def vectorize(
    raster: str | Path,
    out: str | Path,
    *,
    options: VectorizeOptions | None = None,
    probabilities: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VectorizeResult:
    """Trace the objects of a raster of any size into a vector file.

    Nodata (the file's value, its mask, or 255) and the background are not traced. A raster of
    probabilities that geohr wrote is classified by `options.threshold` first, and gives the
    polygons that `segment` would have given with that threshold: what the options leave open is as
    it was when the probabilities were made.

    Args:
        raster: Whole numbers from 0 to 254, one class each; or probabilities written by geohr.
        out: See `geohr.outputs.vector.EXTENSIONS`.
        options: The options of tracing.
        probabilities: uint8 raster on the same grid, band i for class i: probability x 254, 255 =
            no data. Gives confidences, and contours their place.
        overwrite: Replace `out` if it exists.
        progress: Called with rows done and rows in all.

    Raises:
        UsageError: For an extension, an option or an existing output.
        InputError: For a raster that does not hold classes, or has no CRS where metres are asked.
        OutputError: When `out` cannot be written.
    """
    options = options or VectorizeOptions()
    out = Path(out)
    check_extension(out)
    check_writable(out, overwrite=overwrite, inputs=[raster, probabilities])
    with Stages() as stages:
        source = stages.enter_context(open_raster(raster))
        rows: Iterator[Rows]
        tags: dict[str, str] = {}
        if probabilities is None and _holds_probabilities(source):
            options = _as_recorded(source, options)
            tags = {name: text for name, text in source.tags().items() if name.startswith("geohr_")}
            rows = _probability_rows(source, options.threshold)
        else:
            rows = _checked_rows(source, probabilities, options, stages)
        options = dataclasses.replace(options, simplify=options.tolerance)
        names = dict(enumerate(source.descriptions, start=1)) if tags else {}
        tracer = Tracer(_trace_settings(source, options, names, _recorded(tags).get("scene_gsd")))
        sink = stages.enter_context(
            open_vector(
                out,
                crs=source.crs,
                multi=options.connectivity == 8,
                constants={
                    "scene": tags.get("geohr_scene", redact(Path(raster).name)),
                    "acquired": _acquired(source),
                },
                provenance=_provenance(raster, options, tags),
            )
        )
        done = 0
        phase("drawing")
        for count, polygons in stages.ahead(_traced(tracer, stages.ahead(rows))):
            sink.write(polygons)
            done += count
            if progress is not None:
                progress(done, source.height)
    found = sink.found
    return VectorizeResult(out, sink.count, found.area_m2, found.by_class())


def _checked_rows(
    source: Any, probabilities: str | Path | None, options: VectorizeOptions, stack: ExitStack
) -> Iterator[Rows]:
    """The rows of a raster of classes, with their probabilities if a raster of these is named.

    Raises:
        InputError: When the raster does not hold classes, or the other no probabilities of it.
    """
    _check_classes(source, options.band)
    scores = None
    if probabilities is not None:
        scores = stack.enter_context(open_raster(probabilities))
        _check_scores(scores, source)
    return _class_rows(source, scores, options.band, options.background)


def _trace_settings(
    source: Any, options: VectorizeOptions, class_names: dict[int, str], gsd: float | None
) -> TraceSettings:
    """The settings with which the raster is traced, in metres if its resolution was told."""
    return TraceSettings(
        in_plane(GeoBox(source.crs, source.transform, source.height, source.width), gsd),
        options=options,
        class_names=class_names,
        background=options.background,
        threshold=options.threshold or EVEN,
    )


def _recorded(tags: dict[str, str]) -> dict[str, Any]:
    """The options of the run that wrote a raster."""
    found: dict[str, Any] = json.loads(tags.get("geohr_options", "{}"))
    return found


def _holds_probabilities(source: Any) -> bool:
    """Whether geohr wrote the raster, and as probabilities: only these have a scale."""
    return "geohr_options" in source.tags() and source.scales[0] != 1


def _as_recorded(source: Any, options: VectorizeOptions) -> VectorizeOptions:
    """The options, with those that are left open as they were when probabilities were made.

    Raises:
        InputError: When the raster does not say how it was made.
        UsageError: For options of class rasters.
    """
    if (options.band, options.background) != (1, 0):
        raise UsageError(
            f"{source.name}: holds probabilities; --band and --background are for class rasters"
        )
    try:
        recorded = json.loads(source.tags()["geohr_options"])
        made = VectorizeOptions(
            **{
                each.name: recorded[each.name]
                for each in dataclasses.fields(VectorizeOptions)
                if each.name in recorded
            }
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source.name}: holds probabilities, and its geohr_options cannot be read ({error}); "
            "segment the scene again with --probs"
        ) from error
    chosen = {
        each.name: getattr(options, each.name)
        for each in dataclasses.fields(VectorizeOptions)
        if getattr(options, each.name) != each.default
    }
    if chosen.get("regularize") is False and made.regularize:
        chosen.setdefault("simplify", 0.0)  # what was recorded is how far walls may move
    return dataclasses.replace(made, **chosen)


def _acquired(source: Any) -> str | None:
    """When the raster's scene was taken: as `geohr segment` noted it, else as its file says."""
    noted = source.tags().get("geohr_scene_acquired")
    return noted or acquired((), (source.name,))


def _check_classes(source: Any, band: int) -> None:
    """Refuse rasters that cannot hold classes."""
    if band > source.count:
        raise InputError(f"{source.name}: band {band} asked for, the raster has {source.count}")
    if band == 1 and source.colorinterp[:3] == PICTURE:
        warn(
            f"{source.name}: its bands are red, green and blue, as those of a picture; band 1 is "
            "traced as classes, a polygon for each shade. For a picture use geohr segment"
        )
    if "geohr_options" in source.tags():
        warn(
            f"{source.name}: class ids do not tell touching objects apart, nor which are too "
            "small, so that there are more polygons than objects of geohr segment; for these, "
            "vectorize its probabilities"
        )
    dtype = np.dtype(source.dtypes[band - 1])
    if dtype.kind not in "iub":
        raise InputError(
            f"{source.name}: classes must be whole numbers from 0 to 254, the band is {dtype}; "
            "give a raster of class ids, and probabilities by --probs"
        )


def _check_scores(scores: Any, source: Any) -> None:
    """Refuse probabilities that do not lie on the classes' grid."""
    a, b, c, d, e, f = (~source.transform @ scores.transform)[:6]
    apart = max(
        abs(a * col + b * row + c - col) + abs(d * col + e * row + f - row)
        for col, row in ((0, 0), (source.width, 0), (0, source.height))
    )
    if (scores.width, scores.height) != (source.width, source.height) or apart > OFF_GRID:
        raise InputError(
            f"{scores.name}: probabilities must lie on the grid of {source.name} "
            f"({source.height} x {source.width}), these are {scores.height} x {scores.width} and "
            f"lie up to {apart:.3g} pixels off"
        )
    if scores.crs != source.crs:
        raise InputError(
            f"{scores.name}: probabilities must have the CRS of {source.name}, {source.crs}; they "
            f"have {scores.crs}"
        )
    if any(dtype != "uint8" for dtype in scores.dtypes):
        raise InputError(
            f"{scores.name}: probabilities must be uint8 (probability x 254), "
            f"got {scores.dtypes[0]}"
        )


def _class_rows(source: Any, scores: Any | None, band: int, background: int) -> Iterator[Rows]:
    """Class rows and probability rows, from top to bottom."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **settings(source.name)):
        for window in _strips(source, band):
            with _reading(source, window):
                values = source.read(band, window=window)
                empty = None
                if has_nodata(source, band, background):
                    empty = source.read_masks(band, window=window) == 0
                probability = None if scores is None else scores.read(window=window)
            classes = _classes(values, empty, source.name)
            if scores is not None:
                _check_known(classes, scores, background)
            yield classes, probability


def _probability_rows(source: Any, threshold: float | None) -> Iterator[Rows]:
    """Read rows of probabilities, with their classes, from top to bottom."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **settings(source.name)):
        for window in _strips(source, 1):
            with _reading(source, window):
                probability = source.read(window=window)
            yield classify(probability, threshold), probability


def _strips(source: Any, band: int) -> Iterator[Window]:
    """Windows of whole rows, as high as the file's blocks and memory suggest."""
    block = source.block_shapes[band - 1][0]
    rows = max(block, STRIP_PIXELS // source.width // block * block)
    rows = min(rows, max(1, 4 * STRIP_PIXELS // source.width))
    for start in range(0, source.height, rows):
        yield Window(0, start, source.width, min(rows, source.height - start))


@contextmanager
def _reading(source: Any, window: Window) -> Iterator[None]:
    """Name the rows where reading fails.

    Raises:
        InputError: When rasterio cannot read the raster.
    """
    try:
        yield
    except rasterio.errors.RasterioError as error:
        raise InputError(
            f"{source.name}: rows {window.row_off} to {window.row_off + window.height} cannot be "
            f"read ({error})"
        ) from error


def has_nodata(source: Any, band: int, background: int) -> bool:
    """Whether some pixels may hold nothing; a nodata value that is the background's says no."""
    flags = source.mask_flag_enums[band - 1]
    if flags == [MaskFlags.nodata]:
        return bool(source.nodatavals[band - 1] != background)
    return bool(flags != [MaskFlags.all_valid])


def _check_known(classes: Bytes, scores: Any, background: int) -> None:
    """Refuse a class that has no probabilities."""
    unknown = classes[(classes > scores.count) & (classes != NODATA) & (classes != background)]
    if background != 0:
        unknown = np.append(unknown, classes[classes == 0])
    if len(unknown):
        raise InputError(
            f"{scores.name}: class {unknown[0]} has no band of probabilities (band i is class i, "
            f"there are {scores.count}); leave the probabilities out, or give one a class"
        )


def _traced(tracer: Tracer, rows: Iterator[Rows]) -> Iterator[tuple[int, Polygons]]:
    """Trace some rows, and return the objects that they complete."""
    for classes, probability in rows:
        yield len(classes), tracer.push(classes, probability)
    yield 0, tracer.finish()


def _classes(values: Any, empty: Any | None, name: str) -> Bytes:
    """Convert rows of classes to uint8.

    Raises:
        InputError: For ids that do not fit.
    """
    if empty is not None and empty.any():
        wide = values if values.dtype == np.uint8 else values.astype(np.int64)
        values = np.where(empty, NODATA, wide)
    if values.dtype != np.uint8:
        low, high = values.min(), values.max()
        if low < 0 or high > NODATA:
            worst = low if low < 0 else high
            raise InputError(
                f"{name}: class ids must lie in 0 to 254 (255 = no data), found {worst}; "
                "give the classes lower numbers"
            )
    return np.ascontiguousarray(values, np.uint8)


def _provenance(
    raster: str | Path, options: VectorizeOptions, tags: dict[str, str]
) -> dict[str, str]:
    """The output's provenance: program, options, and `tags`, those of the run that predicted it."""
    made = {**_recorded(tags), **dataclasses.asdict(options)}
    path, changed = Path(raster), ""
    if path.is_file():
        time = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        changed = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        **tags,
        "geohr_version": __version__,
        "geohr_raster": redact(path.name),
        "geohr_raster_modified": changed,
        "geohr_options": json.dumps(made, sort_keys=True),
    }
