"""Bands of rows finished apart give the outputs of one pass from top to bottom."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from benchmarks.scenes import write_town
from geohr.encoding import Batch
from geohr.inference.job import prepare
from geohr.inference.postprocess import (
    Postprocessor,
    Products,
    chunks_of_strips,
    finish_rows,
    finish_strip,
)
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.outputs.write import OutputPaths, WriteCounts, write_outputs
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
    """Write the outputs at one go and by bands of so many rows, into two folders."""
    run = prepare(
        scene, Model.load(model), options, cut=lambda _: cut, opener=lambda *_, **__: Soft()
    )
    held, wanted = Held(), Products(polygons=True, rows=True)
    told = []
    bands = folder / "work"
    bands.mkdir()
    finishing = Postprocessor.of(run, wanted, bands)
    for name in ("whole", "bands"):
        into = folder / name
        into.mkdir()
        if name == "whole":
            pieces = finish_rows(run, run.rows(None, store=held), wanted)
        else:
            parts = finishing.bands(rows)
            assert len(parts) > 2
            for band in reversed(parts):
                finish_strip(finishing, band, held.load)
            pieces = chunks_of_strips(finishing, parts)
        targets = OutputPaths((into / NAMES[0], into / NAMES[1]), probs=into / NAMES[2])
        told.append(write_outputs(run, pieces, targets))
    return told[0], told[1]


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
def test_bands_of_any_height_give_the_same_bytes(
    rows: int, options: SegmentOptions, scene: Path, model: Path, tmp_path: Path
) -> None:
    whole, bands = both_ways(scene, model, options, BlockSize(2, 3), rows, tmp_path)
    assert outputs(tmp_path / "bands") == outputs(tmp_path / "whole")
    assert whole == bands
    assert whole.objects > 20


def test_bands_of_an_area_give_the_same_bytes(scene: Path, model: Path, tmp_path: Path) -> None:
    with rasterio.open(scene) as raster:
        left, bottom, right, top = raster.bounds
        crs = raster.crs
    radius = (top - bottom) / 4
    area = shapely.Point((left + right) / 2, (top + bottom) / 2).buffer(radius)
    geopandas.GeoDataFrame(geometry=[area], crs=crs).to_file(tmp_path / "area.gpkg")
    options = SegmentOptions(tile=32, threshold=0.5, aoi=str(tmp_path / "area.gpkg"))
    whole, bands = both_ways(scene, model, options, BlockSize(1, 2), 40, tmp_path)
    assert outputs(tmp_path / "bands") == outputs(tmp_path / "whole")
    assert whole == bands
    assert whole.objects > 5


def test_bands_of_parted_objects_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    scene = write_town(tmp_path / "high.tif", height=3 * SQUARE + 40, width=120, compress="deflate")
    options = SegmentOptions(tile=64, threshold=0.5, instances=0.95, instance_area=2.0)
    whole, bands = both_ways(scene, model, options, BlockSize(3, 1), SQUARE, tmp_path)
    assert outputs(tmp_path / "bands") == outputs(tmp_path / "whole")
    assert whole == bands
