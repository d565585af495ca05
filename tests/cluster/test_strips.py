"""Strips of rows finished apart give the outputs of one pass from top to bottom."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from benchmarks.scenes import write_town
from geohr.encoding import Batch
from geohr.inference.executor import LocalExecutor
from geohr.inference.pipeline import predict_rows
from geohr.inference.postprocess import (
    chunks_of_strips,
    cut_edges,
    cut_strips,
    finish_edge,
    finish_strip,
    postprocess,
)
from geohr.inference.prepare import prepare
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.outputs.write import OutputPaths, StripRasters, WriteCounts, write_outputs
from geohr.polygons.watershed import SQUARE
from geohr.stitching.blocks import BlockScores
from geohr.tiling.blocks import Block, BlockSize

NAMES = ("a.gpkg", "a.tif", "probs.tif")


class Soft:
    """A predictor for `benchmarks.scenes`: the brighter, the likelier a house."""

    batch = workers = 1
    engine = "none"

    def predict(self, pixels: Batch) -> Batch:
        return np.asarray(1 / (1 + np.exp(-3 * pixels[:, :1])), np.float32)


class Held:
    """Blocks in memory."""

    def __init__(self) -> None:
        self.finished: frozenset[int] = frozenset()
        self.blocks: dict[int, BlockScores] = {}

    def begin(self, block: Block) -> None:
        """Nothing."""

    def save(self, block: Block, scores: BlockScores) -> None:
        self.blocks[block.index] = scores

    def load(self, block: Block) -> BlockScores:
        return self.blocks[block.index]


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def both_ways(
    scene: Path, model: Path, options: SegmentOptions, cut: BlockSize, rows: int, folder: Path
) -> tuple[WriteCounts, WriteCounts]:
    """Write the outputs at one go and by strips of so many rows, into two folders."""
    job = prepare(scene, Model.load(model), options, LocalExecutor(Soft()), block_size=cut)
    held = Held()
    counts = []
    work = folder / "work"
    work.mkdir()
    for name in ("whole", "strips"):
        into = folder / name
        into.mkdir()
        targets = OutputPaths((into / NAMES[0], into / NAMES[1]), probs=into / NAMES[2])
        if name == "whole":
            finished = predict_rows(
                job.scene,
                job.grid,
                Soft(),
                normalizer=job.normalizer,
                classes=1,
                blend="hann",
                block_size=cut,
                store=held,
            )
            chunks = postprocess(job, finished)
        else:
            # Sent to a worker and back, as on a cluster.
            job = replace(job, rasters=StripRasters.of(job, targets))
            job = pickle.loads(pickle.dumps(job))
            strips = cut_strips(job, rows)
            assert len(strips) > 2
            for strip in reversed(strips):
                finish_strip(job, strip, work, held.load)
            for edge in reversed(cut_edges(job, strips)):
                finish_edge(job, edge, work)
            chunks = chunks_of_strips(job, work, strips)
        counts.append(write_outputs(job, chunks, targets))
    return counts[0], counts[1]


def test_a_job_is_small_when_it_is_sent(scene: Path, model: Path) -> None:
    """A cluster's workers get it whole: with neither weights nor the list of its blocks."""
    options = SegmentOptions(tile=32)
    job = prepare(scene, Model.load(model), options, LocalExecutor(Soft()))
    assert len(pickle.dumps(job)) < 10_000 < model.stat().st_size


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("town") / "town.tif"
    return write_town(path, height=400, width=350, compress="deflate")


@pytest.mark.parametrize("rows", [16, 33, 120])
@pytest.mark.parametrize(
    "options",
    [
        SegmentOptions(tile=32, threshold=0.5),
        SegmentOptions(tile=32, threshold=0.5, overlap=0.5, outline="contour", simplify=0.5),
        SegmentOptions(tile=32, threshold=0.5, connectivity=8, min_area=1.0),
        SegmentOptions(tile=32, threshold=0.5, regularize=True),
    ],
    ids=["plain", "contour", "corners", "walls"],
)
def test_strips_of_any_height_give_the_same_bytes(
    rows: int, options: SegmentOptions, scene: Path, model: Path, tmp_path: Path
) -> None:
    whole, strips = both_ways(scene, model, options, BlockSize(2, 3), rows, tmp_path)
    assert outputs(tmp_path / "strips") == outputs(tmp_path / "whole")
    assert whole == strips
    assert whole.found.objects.total() > 20


def test_strips_of_an_area_give_the_same_bytes(scene: Path, model: Path, tmp_path: Path) -> None:
    with rasterio.open(scene) as raster:
        left, bottom, right, top = raster.bounds
        crs = raster.crs
    radius = (top - bottom) / 4
    area = shapely.Point((left + right) / 2, (top + bottom) / 2).buffer(radius)
    geopandas.GeoDataFrame(geometry=[area], crs=crs).to_file(tmp_path / "area.gpkg")
    options = SegmentOptions(tile=32, threshold=0.5, aoi=str(tmp_path / "area.gpkg"))
    whole, strips = both_ways(scene, model, options, BlockSize(1, 2), 40, tmp_path)
    assert outputs(tmp_path / "strips") == outputs(tmp_path / "whole")
    assert whole == strips
    assert whole.found.objects.total() > 5


def test_strips_of_parted_objects_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    scene = write_town(tmp_path / "high.tif", height=3 * SQUARE + 40, width=120, compress="deflate")
    options = SegmentOptions(tile=64, threshold=0.5, instances=0.95, instance_area=2.0)
    whole, strips = both_ways(scene, model, options, BlockSize(3, 1), SQUARE, tmp_path)
    assert outputs(tmp_path / "strips") == outputs(tmp_path / "whole")
    assert whole == strips
