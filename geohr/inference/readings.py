"""A scene read at several resolutions in one run, whose probabilities are joined.

What is larger than a window shows no outline at a fine resolution, and what is small is not seen at
a coarse one. So a scene may be read at coarser resolutions besides the one on whose grid objects
are traced. Each coarser reading is predicted first, by a job of its own, into a raster in the work
folder. Its probabilities come on the grid of the first reading as a scene's pixels come on another
grid (`geohr.scene.warped`), and are joined there row by row, by whoever finishes rows.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.windows import Window as RasterWindow

from geohr._runtime.files import as_output_error, written_whole
from geohr._runtime.stop import Stop
from geohr.encoding import NODATA
from geohr.geobox import Window
from geohr.inference.checkpoint import WorkFolder
from geohr.inference.executor import Executor
from geohr.inference.job import CoarserJob, Job
from geohr.inference.pipeline import Progress
from geohr.inference.postprocess import Chunk
from geohr.scene import CACHE_BYTES, Scene
from geohr.scene.files import FAILURES
from geohr.scene.prepare import warp

# The side in pixels of the tiles of a reading's raster.
BLOCK = 512
# The entry of a reading's raster that holds how many windows were predicted for it.
WINDOWS_TAG = "geohr_windows"
# Where such a raster lies is known, and kept nowhere else: not every CRS has a place in a GeoTIFF.
# GDAL warns of files without any.
NO_PLACE = Affine.scale(2)


@dataclasses.dataclass(frozen=True)
class Readings:
    """A job whose coarser readings are predicted.

    Attributes:
        job: The job, which joins them to what is predicted for it.
        windows: Windows of the coarser readings.
        predicted: Those of them with a valid pixel.
        blocks: Blocks of the coarser readings.
        reused: Those of them that an earlier run had finished.
    """

    job: Job
    windows: int = 0
    predicted: int = 0
    blocks: int = 0
    reused: int = 0

    def moved(self, progress: Progress | None, total: int) -> Progress | None:
        """Progress of what comes after these readings, as a part of `total` windows."""
        if progress is None:
            return None
        return lambda done, _: progress(self.windows + done, total)


def predict_readings(
    job: Job,
    executor: Executor,
    folder: Path,
    *,
    progress: Progress | None = None,
    keeps: bool = False,
    stop: Stop | None = None,
) -> Readings:
    """Predict the coarser readings of a job, each into a raster that appears when it is whole.

    Args:
        job: A job that was prepared with this executor.
        executor: The executor that predicts.
        folder: For the rasters; those that are there already are taken as they are.
        progress: Called with windows done and windows in all, the job's own among them.
        keeps: Whether finished blocks are kept in the folder, too.
        stop: When requested, the blocks in hand are finished and no other is begun.

    Raises:
        InputError: When the scene cannot be read.
        OutputError: When the folder cannot be written.
        EngineError: When what predicts is gone.
        InterruptedRunError: When `stop` was requested.
    """
    told = Readings(job)
    for reading in job.coarser:
        coarse = reading.job
        home = (folder / f"reading-{coarse.scene.gsd:.6g}").resolve()
        raster, reused = home.with_name(f"{home.name}.tif"), len(coarse.blocks)
        if not raster.exists():
            store = WorkFolder(home, {"gsd": coarse.scene.gsd}) if keeps else None
            reused = len(store.finished) if store else 0
            chunks = executor.chunks(
                coarse, progress=told.moved(progress, job.windows), store=store, stop=stop
            )
            with closing(chunks):
                write_reading(raster, reading, chunks)
            shutil.rmtree(home, ignore_errors=True)
        with rasterio.open(raster) as written:
            predicted = int(written.tags()[WINDOWS_TAG])
        told = Readings(
            dataclasses.replace(told.job, joined=(*told.job.joined, on_grid(job, reading, raster))),
            windows=told.windows + len(coarse.grid),
            predicted=told.predicted + predicted,
            blocks=told.blocks + len(coarse.blocks),
            reused=told.reused + reused,
        )
    return told


def write_reading(path: Path, reading: CoarserJob, chunks: Iterable[Chunk]) -> None:
    """Write the probabilities of a reading as a raster of its whole grid.

    Args:
        path: The target; it appears when it is whole.
        reading: The reading; what its job leaves out of the grid is nodata, and takes no room.
        chunks: What its job gives.

    Raises:
        OutputError: When it cannot be written.
    """
    scene, (height, width) = reading.job.scene, reading.made.shape
    bands = len(reading.job.card.classes)
    row, col = scene.corner
    windows = 0
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": bands,
        "height": height,
        "width": width,
        "transform": NO_PLACE,
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "lzw",
        "bigtiff": "if_safer",
        "sparse_ok": True,
    }
    cache = CACHE_BYTES + 2 * BLOCK * width * bands
    with written_whole(path) as part, rasterio.Env(GDAL_CACHEMAX=cache):
        try:
            with rasterio.open(part, "w", **profile) as raster:
                for chunk in chunks:
                    windows += chunk.windows
                    rows = chunk.probabilities
                    if rows.shape[1]:
                        place = RasterWindow(col, row, rows.shape[2], rows.shape[1])
                        raster.write(rows, window=place)
                        row += rows.shape[1]
                raster.update_tags(**{WINDOWS_TAG: windows})
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, path) from error


def on_grid(job: Job, reading: CoarserJob, raster: Path) -> Scene:
    """A reading's raster as a scene on the grid of the job's."""
    made = dataclasses.replace(Scene.open(raster), geobox=reading.made)
    part = Window(*job.scene.corner, *job.scene.geobox.shape)
    return warp(made, reading.onto, by_centre=True).crop(part)
