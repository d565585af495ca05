"""The two dates of a comparison, from scenes, results or footprints that exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import rasterio

from geohr._runtime.files import check_writable
from geohr._runtime.stop import Stop
from geohr.api.segment import segment_to_files
from geohr.errors import UsageError
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene.files import open_raster
from geohr.scene.vectors import is_vector
from geohr.workflows.change.compare import ChangeCounts, Date, compare
from geohr.workflows.change.options import ChangeOptions

Progress = Callable[[int, int], None]


def change(
    before: str | Path,
    after: str | Path,
    out: str | Path,
    *,
    probabilities: tuple[str | Path | None, str | Path | None] = (None, None),
    model: str | Path | Model | None = None,
    options: ChangeOptions | None = None,
    segment_options: SegmentOptions | None = None,
    raster: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work_dir: Path | None = None,
    stop: Stop | None = None,
) -> ChangeCounts:
    """Find what changed between two dates, and write footprints to a GeoPackage.

    A date is a scene, which is segmented first, or a vector file of objects: a result of geohr, or
    footprints that exist. What is found in a scene is kept beside `out`, as `STEM_before.gpkg` and
    `STEM_before_probs.tif` (and `STEM_after...`), and is used again by a later call with the same
    scene, model and options; a call that was killed goes on where it stopped.

    Args:
        before: The earlier date.
        after: The later date.
        out: The GeoPackage; see `geohr.workflows.change.compare.compare` for its layers.
        probabilities: Rasters that geohr wrote for dates that are vector files, or None.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The thresholds of change.
        segment_options: The options with which scenes are segmented; `aoi` also bounds the
            comparison.
        raster: A .tif for the probability of change, pixel by pixel; for dates with probabilities.
        overwrite: Replace `out` and `raster` if they exist.
        progress: Called with what is done and how much there is, for each scene and for the
            comparison.
        work_dir: The folder of finished blocks of scenes; by default beside the outputs.
        stop: When requested, the blocks in hand are finished and the run ends with an error.

    Returns:
        Counts, areas and intervals by kind of change, and the shift that was taken out.

    Raises:
        UsageError: When an output exists, or an option cannot be.
        InputError: When an input cannot be read, or the dates do not fit each other.
        OutputError: When an output cannot be written.
        EngineError: When the device is not there.
        InterruptedRunError: When `stop` was requested.
    """
    out = Path(out)
    check_writable(out, overwrite=overwrite)
    network = None
    dates = []
    for name, given, probs in zip(("before", "after"), (before, after), probabilities, strict=True):
        if is_vector(str(given)):
            dates.append(Date(str(given), None if probs is None else str(probs)))
            continue
        if probs is not None:
            raise UsageError(
                f"{given}: is a scene, whose probabilities are made; leave {probs} out"
            )
        network = network or resolve_model(model)
        stem = out.with_name(f"{out.stem}_{name}")
        dates.append(
            segment_date(
                str(given),
                stem,
                model=network,
                options=segment_options or SegmentOptions(),
                progress=progress,
                work_dir=work_dir,
                stop=stop,
            )
        )
    return compare(dates[0], dates[1], out, options=options, overwrite=overwrite, progress=progress)


def segment_date(
    scene: str,
    stem: Path,
    *,
    model: Model,
    options: SegmentOptions,
    progress: Progress | None,
    work_dir: Path | None,
    stop: Stop | None,
) -> Date:
    """Segment the scene of one date, unless its result exists already.

    Raises:
        UsageError: When files of these names are there that are no such result.
    """
    objects = stem.with_suffix(".gpkg")
    probs = stem.with_name(f"{stem.name}_probs.tif")
    date = Date(str(objects), str(probs), scene)
    there = [each for each in (objects, probs) if each.exists()]
    if there:
        made = provenance_of(probs) if probs.exists() else {}
        noted = prepare(scene, model, options, LocalExecutor()).provenance()
        # A TIFF keeps no empty tags.
        wanted = {name: text for name, text in noted.items() if text}
        if len(there) == 2 and made.items() >= wanted.items():
            return date
        if not made:
            raise UsageError(f"{there[0]}: exists and is no result of geohr; move it away")
    segment_to_files(
        scene,
        [objects],
        probs=probs,
        model=model,
        options=options,
        overwrite=True,
        progress=progress,
        work_dir=work_dir,
        stop=stop,
    )
    return date


def provenance_of(raster: Path) -> dict[str, str]:
    """The provenance that geohr wrote into a raster; empty for rasters of other programs."""
    try:
        with open_raster(str(raster)) as opened:
            tags: dict[str, str] = dict(opened.tags())
    except rasterio.errors.RasterioError:
        return {}
    return {name: text for name, text in tags.items() if name.startswith("geohr_")}
