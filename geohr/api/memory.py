"""A scene to memory: objects as a GeoDataFrame, probabilities as an array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from affine import Affine

from geohr._runtime.keywords import with_keywords
from geohr._runtime.messages import python_words
from geohr._runtime.progress import watched
from geohr.api.keywords import SegmentKeywords
from geohr.api.prediction import Prediction
from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress
from geohr.inference.postprocess import Chunk
from geohr.inference.prepare import prepare
from geohr.inference.readings import predict_readings
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.polygons import concatenate
from geohr.scene.memory import SceneInput, named
from geohr.scene.prepare import display_name

if TYPE_CHECKING:
    import geopandas


def segment(
    scene: SceneInput,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    transform: Affine | None = None,
    crs: object = None,
    progress: Progress | Literal["auto"] | None = "auto",
    **keywords: Unpack[SegmentKeywords],
) -> geopandas.GeoDataFrame:
    """Find objects in a scene.

    Args:
        scene: A raster file, a URL, a STAC item, or several of them as one mosaic; an open
            rasterio dataset; an xarray DataArray with the georeference of rioxarray; or an array
            `(band, row, col)`.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The options of segmentation; by default those of the model card.
        transform: Of an array: from (col, row) of pixel corners to coordinates.
        crs: Of an array: its CRS, such as `EPSG:32636`.
        progress: A function of windows done and windows in all; `auto` shows a bar on a terminal
            or in a notebook and nothing elsewhere, None shows nothing.
        keywords: Single options by name, such as `threshold=0.4` or `regularize=False`: the fields
            of `SegmentOptions`, taken over `options`.

    Returns:
        A polygon a row, in the scene's coordinate reference system or `out_crs`, with `class`,
        `confidence` (mean probability), `area_m2` and `perimeter_m` on the ground, and what else
        `geohr.polygons.Polygons` lists.

    Raises:
        UsageError: For a keyword that is no option, or a value that is not allowed.
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    with _predicted(
        scene, model, options, keywords, progress, transform=transform, crs=crs, verb="segment"
    ) as (job, chunks):
        polygons = concatenate([chunk.polygons for chunk in chunks])
        return job.to_crs(polygons).to_geodataframe(job.crs)


def predict(
    scene: SceneInput,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    transform: Affine | None = None,
    crs: object = None,
    progress: Progress | Literal["auto"] | None = "auto",
    **keywords: Unpack[SegmentKeywords],
) -> Prediction:
    """Predict the probabilities of a whole scene as an array, for scenes that fit into memory.

    Args:
        scene: As for `segment`.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The options of segmentation; by default those of the model card.
        transform: Of an array: from (col, row) of pixel corners to coordinates.
        crs: Of an array: its CRS, such as `EPSG:32636`.
        progress: A function of windows done and windows in all, `auto` or None.
        keywords: Single options by name, taken over `options`.

    Returns:
        On the pixel grid on which the scene is read, which `gsd` may make another than its own.

    Raises:
        UsageError: For a keyword that is no option, or a value that is not allowed.
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    with _predicted(
        scene, model, options, keywords, progress, transform=transform, crs=crs, verb="predict"
    ) as (job, chunks):
        stacked = np.concatenate([chunk.probabilities for chunk in chunks], axis=1)
    probabilities = stacked.astype(np.float32) / np.float32(PROBABILITY_MAX)
    probabilities[stacked == NODATA] = np.nan
    names = tuple(label.name for label in job.card.classes)
    return Prediction(probabilities, job.geobox.transform, job.geobox.crs, names)


@contextmanager
def _predicted(
    scene: SceneInput,
    model: str | Path | Model | None,
    options: SegmentOptions | None,
    keywords: Mapping[str, Any],
    progress: Progress | Literal["auto"] | None,
    *,
    transform: Affine | None,
    crs: object,
    verb: Literal["segment", "predict"],
) -> Iterator[tuple[Job, Iterator[Chunk]]]:
    """Predict a scene in this process; yields the job, and its chunks from top to bottom."""
    executor = LocalExecutor()
    with python_words(), named(scene, transform=transform, crs=crs) as path:
        options = with_keywords(options or SegmentOptions(), keywords, source=verb)
        job = prepare(path, resolve_model(model), options, executor, polygons=verb == "segment")
        with (
            TemporaryDirectory(prefix="geohr-") as folder,
            watched(progress, f"{verb} {Path(display_name(path)).name}") as report,
        ):
            read = predict_readings(job, executor, Path(folder), progress=report)
            told = read.moved(report, job.windows)
            with closing(executor.chunks(read.job, progress=told)) as chunks:
                yield job, chunks
