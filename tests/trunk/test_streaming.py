"""The whole path from file to finished rows, with predictors that are known exactly."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geohr.api.segment import segment_to_files
from geohr.encoding import NODATA, PROBABILITY_MAX, Batch
from geohr.engines.predictor import AveragePredictor, Predictor
from geohr.errors import OutputError
from geohr.inference.pipeline import predict_rows
from geohr.options import SceneOptions
from geohr.scene import Scene, reflect
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer
from tests.makers import Constant, Local, noise, one_class_card, random_model, write_scene

RAW = Normalizer(0, 255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), clip=False)


def whole(
    path: Path,
    predictor: Predictor,
    *,
    tile: int,
    overlap: int,
    options: SceneOptions | None = None,
) -> NDArray[np.uint8]:
    scene = Scene.open(path, options)
    grid = Grid(scene.height, scene.width, tile, overlap)
    rows = list(predict_rows(scene, grid, predictor, normalizer=RAW, classes=1, blend="hann"))
    assert [each.start for each in rows] == np.cumsum(
        [0, *(each.probabilities.shape[1] for each in rows[:-1])]
    ).tolist()
    return np.concatenate([each.probabilities for each in rows], axis=1)


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 777), (2, 3), (63, 64), (64, 64), (65, 63), (200, 31), (513, 300), (1025, 777)],
)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_constant_predictor_is_constant_everywhere(
    tmp_path: Path, height: int, width: int, batch: int
) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(height, width))
    found = whole(path, Constant(0.3, batch=batch), tile=64, overlap=16)
    assert found.shape == (1, height, width)
    assert (found == round(0.3 * PROBABILITY_MAX)).all()


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 48, "blockysize": 48}])
def test_tiles_equal_the_whole_image_away_from_their_borders(
    tmp_path: Path, layout: dict[str, object]
) -> None:
    height, width, tile, overlap, radius = 333, 250, 96, 32, 5
    pixels = noise(height, width)
    path = write_scene(tmp_path / "scene.tif", pixels, **layout)
    found = whole(path, Local(radius, batch=3), tile=tile, overlap=overlap)[0]

    margin = overlap // 2
    rows = reflect(-margin, height + margin, height)
    cols = reflect(-margin, width + margin, width)
    padded = np.empty((1, 3, len(rows), len(cols)), np.float32)
    RAW.apply(pixels[:, rows[:, None], cols], np.ones((len(rows), len(cols)), bool), padded[0])
    expected = Local(radius).predict(padded)[0, 0, margin:-margin, margin:-margin]

    grid = Grid(height, width, tile, overlap)
    inner = np.ones((height, width), bool)
    for starts, axis in ((grid.row_starts, 0), (grid.col_starts, 1)):
        for start in starts:
            for border in (start, start + tile):
                low, high = max(border - radius, 0), max(border + radius, 0)
                inner[(slice(None),) * axis + (slice(low, high),)] = False
    assert inner.mean() > 0.3
    difference = np.abs(found[inner] - expected[inner] * PROBABILITY_MAX)
    assert difference.max() <= 0.5 + 0.5 * PROBABILITY_MAX / 4095 + 1e-3


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(200, 170))
    found = [whole(path, Local(3, batch=batch), tile=64, overlap=16) for batch in (1, 2, 7)]
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_reading_order_and_file_layout_do_not_matter(tmp_path: Path) -> None:
    pixels = noise(300, 280)
    striped = write_scene(tmp_path / "a.tif", pixels)
    tiled = write_scene(
        tmp_path / "b.tif", pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate"
    )
    found = [whole(path, Local(3), tile=64, overlap=16) for path in (striped, tiled)]
    assert (found[0] == found[1]).all()


def test_nodata_is_neither_predicted_nor_a_class(tmp_path: Path) -> None:
    pixels = noise(256, 256)
    pixels[:, :128] = 0
    path = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    scene = Scene.open(path)
    rows = list(
        predict_rows(
            scene,
            Grid(256, 256, 64, 16),
            Constant(0.9),
            normalizer=RAW,
            classes=1,
            blend="hann",
        )
    )
    found = np.concatenate([each.probabilities for each in rows], axis=1)
    assert (found[:, :128] == NODATA).all()
    assert (found[:, 128:] == round(0.9 * PROBABILITY_MAX)).all()
    grid = Grid(256, 256, 64, 16)
    touching = sum(window.row_stop > 128 for window in grid)
    assert sum(each.windows for each in rows) == touching < len(grid)


def test_a_scene_without_a_valid_pixel_is_all_nodata(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", np.zeros((3, 100, 90), np.uint8), nodata=0)
    assert (whole(path, Constant(0.9), tile=64, overlap=16) == NODATA).all()


def test_an_error_in_the_predictor_reaches_the_caller(tmp_path: Path) -> None:
    class Failing(Constant):
        def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            raise RuntimeError("engine lost")

    path = write_scene(tmp_path / "scene.tif", noise(200, 200))
    with pytest.raises(RuntimeError, match="engine lost"):
        whole(path, Failing(0.5), tile=64, overlap=16)


class Failing(Constant):
    """Fails after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__(0.5, batch=1)
        self.left = batches

    def predict(self, pixels: Batch) -> Batch:
        self.left -= 1
        if self.left < 0:
            raise ValueError("no more")
        return super().predict(pixels)


@pytest.mark.parametrize("batches", [0, 3, 9])
def test_a_failed_run_leaves_no_thread_behind(tmp_path: Path, batches: int) -> None:
    """Though the error that is kept holds all that the run consisted of."""
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(200, 200)))
    grid = Grid(200, 200, 64, 16)
    before = set(threading.enumerate())
    rows = predict_rows(scene, grid, Failing(batches), normalizer=RAW, classes=1, blend="hann")
    with pytest.raises(ValueError, match="no more") as kept:
        list(rows)
    assert set(threading.enumerate()) <= before
    assert kept.value.__traceback__ is not None


def test_rows_that_are_not_taken_leave_no_thread_behind(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(2000, 100)))
    grid = Grid(2000, 100, 64, 16)
    before = set(threading.enumerate())
    predictor = Constant(0.5, batch=1)
    with closing(
        predict_rows(scene, grid, predictor, normalizer=RAW, classes=1, blend="hann")
    ) as rows:
        next(rows)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before


def test_an_output_that_fails_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(2000, 100))
    model = random_model(tmp_path / "m.safetensors", card=one_class_card(tile=64))
    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: Constant(0.5, batch=1)
    )

    def fail(_: object, rows: object) -> None:
        raise OutputError("the disk is gone")

    monkeypatch.setattr("geohr.outputs.cog.RasterWriter.write", fail)
    before = set(threading.enumerate())
    with pytest.raises(OutputError, match="the disk is gone") as kept:
        segment_to_files(scene, [tmp_path / "out.tif"], model=model)
    assert set(threading.enumerate()) <= before
    assert kept.value.__traceback__ is not None


def test_turned_and_mirrored_predictions_are_turned_back() -> None:
    class Ramp(Constant):
        """Scores that follow the pixels, so that turning the window turns the scores."""

        def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            return pixels[:, :1]

    pixels = np.random.default_rng(1).random((2, 3, 32, 32), np.float32)
    np.testing.assert_allclose(
        AveragePredictor(Ramp(0.5, batch=2)).predict(pixels), pixels[:, :1], rtol=1e-6
    )
