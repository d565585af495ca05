"""Scores against an independent implementation, closed forms and each other."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from scipy import ndimage

from geohr.errors import InputError, UsageError
from geohr.evaluation.counts import rim
from geohr.evaluation.evaluate import Evaluation, evaluate
from geohr.evaluation.layers import open_layers
from geohr.evaluation.metrics import (
    bootstrap,
    confusion,
    f1,
    iou,
    mean_iou,
    precision,
    ratio,
    recall,
)
from geohr.evaluation.objects import match
from geohr.evaluation.options import EvaluateOptions
from tests.makers import ORIGIN, UTM, write_scene

GSD = 0.5
QUICK = EvaluateOptions(replicates=0)
SAMPLE = Path(__file__).parents[2] / "examples" / "data"


def houses(seed: int, count: int = 60, *, jitter: float = 0.0) -> list[shapely.Polygon]:
    """Boxes on a lattice of 12 m, moved and stretched by up to `jitter` metres."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(4, 9, (count, 2))
    moves = rng.uniform(-jitter, jitter, (count, 4)) if jitter else np.zeros((count, 4))
    made = []
    for index, ((wide, tall), (left, down, right, up)) in enumerate(zip(sides, moves, strict=True)):
        x = ORIGIN[0] + 2 + 12 * (index % 10)
        y = ORIGIN[1] - 12 - 12 * (index // 10)
        made.append(shapely.box(x + left, y + down, x + wide + right, y + tall + up))
    return made


def write_polygons(path: Path, made: list[shapely.Polygon], *, crs: str = UTM) -> Path:
    """Polygons as a file, from UTM into another CRS."""
    geopandas.GeoDataFrame(geometry=made, crs=UTM).to_crs(crs).to_file(path)
    return path


def write_classes(path: Path, classes: np.ndarray) -> Path:
    """A class raster at 0.5 m."""
    return write_scene(path, classes[None])


@pytest.fixture
def pair_of_layers(tmp_path: Path) -> tuple[Path, Path]:
    """What was found, a little off, a fifth of it missing; and what is there."""
    truth = write_polygons(tmp_path / "truth.gpkg", houses(0))
    found = write_polygons(tmp_path / "found.gpkg", houses(0, jitter=1.5)[12:])
    return found, truth


def slow_match(truth: list[shapely.Polygon], found: list[shapely.Polygon], least: float) -> int:
    """SpaceNet's matching, written as it is told: one by one, the best that is still free."""
    free, hits = list(truth), 0
    for polygon in found:
        scores = [polygon.intersection(other).area / polygon.union(other).area for other in free]
        if scores and max(scores) >= least:
            free.pop(int(np.argmax(scores)))
            hits += 1
    return hits


def test_objects_are_scored_as_by_an_independent_implementation(
    pair_of_layers: tuple[Path, Path],
) -> None:
    found, truth = houses(0, jitter=1.5)[12:], houses(0)
    scores = evaluate(*pair_of_layers, options=QUICK).scores
    f1s = []
    for least in np.arange(0.5, 0.96, 0.05).round(2):
        hits = slow_match(truth, found, least)
        f1s.append(2 * hits / (len(truth) + len(found)))
    hits = slow_match(truth, found, 0.5)
    assert 0 < hits < len(found)
    assert scores["object_precision"] == pytest.approx(hits / len(found))
    assert scores["object_recall"] == pytest.approx(hits / len(truth))
    assert scores["object_f1"] == pytest.approx(f1s[0])
    assert scores["object_f1_50_95"] == pytest.approx(np.mean(f1s))
    areas = [sum(each.area for each in side) for side in (found, truth)]
    assert scores["area_error"] == pytest.approx(areas[0] / areas[1] - 1, abs=2e-3)
    assert scores["count_error"] == pytest.approx(len(found) / len(truth) - 1)


def test_pixels_are_scored_as_by_areas(pair_of_layers: tuple[Path, Path]) -> None:
    found = shapely.union_all(houses(0, jitter=1.5)[12:])
    truth = shapely.union_all(houses(0))
    options = EvaluateOptions(replicates=0, gsd=0.05)
    scores = evaluate(*pair_of_layers, options=options).scores
    both = found.intersection(truth).area
    assert scores["iou"] == pytest.approx(both / found.union(truth).area, abs=3e-3)
    assert scores["precision"] == pytest.approx(both / found.area, abs=3e-3)
    assert scores["recall"] == pytest.approx(both / truth.area, abs=3e-3)


def test_a_raster_and_its_polygons_score_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth, found = (
        (ndimage.gaussian_filter(rng.random((90, 110)), 3) > 0.505).astype(np.uint8)
        for _ in range(2)
    )
    rasters = [
        write_classes(tmp_path / f"{name}.tif", mask)
        for name, mask in (("found", found), ("truth", truth))
    ]
    vectors = []
    for path in rasters:
        with rasterio.open(path) as raster:
            mask = raster.read(1)
            traced = shapes(mask, mask == 1, connectivity=4, transform=raster.transform)
            made = [shapely.geometry.shape(shape) for shape, _ in traced]
        vectors.append(write_polygons(path.with_suffix(".geojson"), made))
    # GeoJSON rounds coordinates, so outlines may differ by a hair.
    aoi = EvaluateOptions(replicates=0, aoi=str(rasters[1]), by_size=True, sizes=(5.0, 50.0))
    by_raster = evaluate(rasters[0], rasters[1], options=aoi).scores
    by_vector = evaluate(vectors[0], vectors[1], options=aoi).scores
    assert by_raster == pytest.approx(by_vector, rel=1e-3, abs=1e-3)
    direct = (truth & found).sum() / (truth | found).sum()
    assert by_raster["iou"] == pytest.approx(direct)
    assert by_raster["count_truth"] == ndimage.label(truth)[1]


def test_geoparquet_scores_as_the_same_objects_in_a_geopackage(
    pair_of_layers: tuple[Path, Path], tmp_path: Path
) -> None:
    found, truth = pair_of_layers
    copy = tmp_path / "found.parquet"
    geopandas.read_file(found).to_parquet(copy)
    options = EvaluateOptions(replicates=0)
    first = evaluate(str(found), str(truth), options=options)
    assert evaluate(str(copy), str(truth), options=options).scores == first.scores


def test_what_is_not_annotated_does_not_count(tmp_path: Path) -> None:
    truth = np.zeros((60, 80), np.uint8)
    truth[5:15, 5:15] = 1
    truth[:, 40:] = 255
    found = np.zeros_like(truth)
    found[5:15, 5:15] = 1
    found[20:30, 50:60] = 1
    scores = evaluate(
        write_classes(tmp_path / "found.tif", found),
        write_classes(tmp_path / "truth.tif", truth),
        options=QUICK,
    ).scores
    assert scores["iou"] == scores["object_f1"] == scores["boundary_iou"] == 1
    assert scores["count_found"] == 1


def test_only_what_lies_in_the_area_of_interest_counts(
    pair_of_layers: tuple[Path, Path], tmp_path: Path
) -> None:
    west = shapely.box(ORIGIN[0], ORIGIN[1] - 200, ORIGIN[0] + 60, ORIGIN[1])
    aoi = write_polygons(tmp_path / "aoi.geojson", [west], crs="EPSG:4326")
    options = EvaluateOptions(replicates=0, aoi=str(aoi))
    scores = evaluate(*pair_of_layers, options=options).scores
    inside = [
        [west.contains(box) for box in side] for side in (houses(0), houses(0, jitter=1.5)[12:])
    ]
    assert scores["count_truth"] == sum(inside[0]) == 30
    assert scores["count_found"] == sum(inside[1]) == 23


def test_a_mask_of_another_grid_is_read_where_it_lies(tmp_path: Path) -> None:
    truth = np.zeros((80, 80), np.uint8)
    truth[16:48, 16:48] = 1
    coarse = np.zeros((20, 20), np.uint8)
    coarse[4:12, 4:12] = 1
    transform = rasterio.Affine(2.0, 0, ORIGIN[0], 0, -2.0, ORIGIN[1])
    found = write_scene(tmp_path / "coarse.tif", coarse[None], transform=transform)
    scores = evaluate(found, write_classes(tmp_path / "t.tif", truth), options=QUICK).scores
    assert scores["iou"] == 1
    assert scores["object_f1"] == 1


def test_windows_do_not_change_the_scores(
    pair_of_layers: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(*pair_of_layers, options=EvaluateOptions(replicates=50))
    monkeypatch.setattr("geohr.evaluation.counts.WINDOW", 61)
    cut = evaluate(*pair_of_layers, options=EvaluateOptions(replicates=50))
    assert cut.scores == pytest.approx(whole.scores)
    assert list(cut.intervals) == list(whole.intervals)
    assert np.array(list(cut.intervals.values())) == pytest.approx(
        np.array(list(whole.intervals.values()))
    )


def test_size_classes_part_the_objects(pair_of_layers: tuple[Path, Path]) -> None:
    options = EvaluateOptions(replicates=0, by_size=True, sizes=(30.0, 50.0))
    scores = evaluate(*pair_of_layers, options=options).scores
    names = ("under_30_m2", "30_to_50_m2", "from_50_m2")
    areas = np.array([box.area for box in houses(0)])
    counts = [scores[f"count_truth_{name}"] for name in names]
    assert counts == list(np.histogram(areas, [0, 30, 50, np.inf])[0])
    weighted = sum(
        scores[f"object_recall_{name}"] * count for name, count in zip(names, counts, strict=True)
    )
    assert weighted / sum(counts) == pytest.approx(scores["object_recall"])


def test_intervals_hold_the_score_and_shrink_with_more_ground(tmp_path: Path) -> None:
    widths = []
    for count in (20, 90):
        truth = write_polygons(tmp_path / f"t{count}.gpkg", houses(2, count))
        found = write_polygons(tmp_path / f"f{count}.gpkg", houses(2, count, jitter=2.0))
        told = evaluate(found, truth, options=EvaluateOptions(replicates=400))
        low, high = told.intervals["iou"]
        assert low < told.scores["iou"] < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_objects_are_written_to_look_at(pair_of_layers: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "objects.gpkg"
    scores = evaluate(*pair_of_layers, options=QUICK, objects_out=out).scores
    table = pyogrio.read_dataframe(out)
    told = table["outcome"].value_counts()
    assert told["matched"] + told["false"] == scores["count_found"] == 48
    assert told["missed"] == 60 - told["matched"]
    assert (table.loc[table["outcome"] == "matched", "iou"] >= 0.5).all()
    with pytest.raises(UsageError, match=r"written as \.gpkg"):
        evaluate(*pair_of_layers, objects_out=tmp_path / "objects.shp")


def test_the_json_holds_what_is_printed(pair_of_layers: tuple[Path, Path]) -> None:
    told = evaluate(*pair_of_layers, options=EvaluateOptions(replicates=20))
    content = json.loads(told.to_json())
    assert content["scores"] == told.scores
    assert set(content["intervals_95"]) <= set(content["scores"])
    assert "object f1 " in told.describe()
    assert "\nIn brackets: 95% intervals" in told.describe()
    assert told._repr_html_().startswith("<pre>iou ")
    assert isinstance(told, Evaluation)


def test_one_class_of_several_is_scored_alone(tmp_path: Path) -> None:
    truth = np.zeros((40, 60), np.uint8)
    truth[5:15, 5:15], truth[5:15, 30:45] = 1, 2
    found = np.where(truth == 2, 1, truth).astype(np.uint8)
    paths = (
        write_classes(tmp_path / "found.tif", found),
        write_classes(tmp_path / "truth.tif", truth),
    )
    both = evaluate(*paths, options=QUICK).scores
    first = evaluate(*paths, options=EvaluateOptions(replicates=0, class_id=1)).scores
    assert both["iou"] == 1
    assert first["iou"] == pytest.approx(100 / 250)
    assert (first["object_precision"], first["object_recall"]) == (0.5, 1.0)


def test_the_sample_agrees_with_itself() -> None:
    truth = SAMPLE / "kampala_buildings.gpkg"
    scores = evaluate(truth, truth, options=QUICK).scores
    assert scores["iou"] == scores["object_f1"] == scores["panoptic_quality"] == 1
    assert scores["count_truth"] == len(pyogrio.read_dataframe(truth))


def test_real_outlines_against_a_slow_implementation() -> None:
    """Real buildings, moved by a metre, in degrees and in UTM."""
    truth = pyogrio.read_dataframe(SAMPLE / "kampala_buildings.gpkg").to_crs("EPSG:32736")
    moved = [shapely.affinity.translate(shape, 1.0, -0.7) for shape in truth.geometry]
    hits = match(truth.geometry.to_numpy(), np.array(moved, object))
    assert len(hits.truth) == slow_match(list(truth.geometry), moved, 0.5)
    assert 0 < len(hits.truth) < len(truth)


@given(seed=st.integers(0, 500), least=st.sampled_from([0.5, 0.7]))
def test_matching_pairs_each_object_once(seed: int, least: float) -> None:
    truth, found = houses(seed, 12), houses(seed, 12, jitter=2.5)
    pairs = match(np.array(truth, object), np.array(found, object), least=least)
    assert len(set(pairs.truth)) == len(set(pairs.found)) == len(pairs.iou)
    assert len(pairs.iou) == slow_match(truth, found, least)
    for one, two, value in zip(pairs.truth, pairs.found, pairs.iou, strict=True):
        a, b = truth[one], found[two]
        assert value == pytest.approx(a.intersection(b).area / a.union(b).area)


def test_overlapping_finds_count_once() -> None:
    box = shapely.box(0, 0, 10, 10)
    twice = np.array([shapely.box(0, 0, 10, 8), box], object)
    pairs = match(np.array([box], object), twice)
    assert (list(pairs.found), list(pairs.iou)) == ([1], [1.0])


@given(seed=st.integers(0, 100), width=st.floats(0.5, 4))
def test_the_rim_is_what_erosion_takes_away(seed: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((30, 30)), 2) > 0.5
    rows, cols = np.ogrid[-6:7, -6:7]
    disc = rows**2 + cols**2 <= (max(width, 0.5) + 0.5) ** 2
    kept = ndimage.binary_erosion(np.pad(mask, 8, mode="edge"), disc)[8:-8, 8:-8]
    expected = mask & ~kept
    inner = slice(8, -8)
    assert (rim(mask, width)[inner, inner] == expected[inner, inner]).all()


def test_formulas() -> None:
    table = confusion(
        np.array([[0, 1, 1, 255]], np.uint8), np.array([[1, 1, 0, 1]], np.uint8), classes=1
    )
    assert table.tolist() == [[0, 1], [1, 1]]
    assert mean_iou(table) == pytest.approx(1 / 3)
    assert mean_iou(np.array([[5, 0], [0, 0]])) == 1
    assert float(iou(1, 1, 1)) == pytest.approx(1 / 3)
    assert float(f1(1, 1, 1)) == float(precision(1, 1)) == float(recall(1, 1)) == 0.5
    assert float(ratio(0, 0)) == 1


def test_the_bootstrap_draws_as_many_blocks_as_there_are() -> None:
    counts = np.ones((7, 2)) * [1, 3]
    assert (bootstrap(counts, 20) == [7, 21]).all()
    uneven = np.arange(10.0)[:, None]
    drawn = bootstrap(uneven, 4000)
    assert drawn.mean() == pytest.approx(45, abs=0.6)
    assert drawn.std() == pytest.approx(np.sqrt(10) * uneven.std(), rel=0.05)


def test_rasters_without_a_crs_are_compared_pixel_by_pixel(tmp_path: Path) -> None:
    mask = np.zeros((1, 60, 80), np.uint8)
    mask[:, 10:30, 10:30] = 1
    moved = np.roll(mask, 5, axis=2)
    there = write_scene(tmp_path / "t.tif", mask), write_scene(tmp_path / "p.tif", moved)
    bare = [
        write_scene(tmp_path / f"bare_{name}.tif", pixels, crs=None)
        for name, pixels in (("t", mask), ("p", moved))
    ]
    options = EvaluateOptions(replicates=0, gsd=0.5)
    scores = evaluate(bare[1], bare[0], options=options).scores
    assert scores["iou"] == pytest.approx(15 / 25)
    known = evaluate(there[1], there[0], options=options).scores
    assert scores == pytest.approx(known, abs=1e-6, nan_ok=True)
    small = write_scene(tmp_path / "s.tif", mask[:, 1:], crs=None)
    with pytest.raises(InputError, match="pixel by pixel, but are 80 x 60 and 80 x 59 pixels"):
        evaluate(bare[0], small)


def test_bad_input_is_named(pair_of_layers: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = pair_of_layers
    with pytest.raises(InputError, match="no such file"):
        evaluate(tmp_path / "none.tif", truth)
    with pytest.raises(InputError, match="not vectors that can be read"):
        evaluate(tmp_path / "none.gpkg", truth)
    bare = write_scene(tmp_path / "bare.tif", np.zeros((1, 9, 9), np.uint8), crs=None)
    with pytest.raises(InputError, match="has no CRS"):
        evaluate(bare, truth)
    deep = write_scene(tmp_path / "deep.tif", np.zeros((1, 9, 9), np.uint16))
    with pytest.raises(InputError, match="uint16 pixels; a class raster is uint8"):
        evaluate(found, deep)
    with pytest.raises(UsageError, match="sizes must ascend"):
        EvaluateOptions(sizes=(50.0, 20.0))


def test_rasterised_polygons_are_the_pixels_they_cover(tmp_path: Path) -> None:
    boxes = houses(4, 30)
    with rasterio.open(write_classes(tmp_path / "t.tif", np.zeros((120, 260), np.uint8))) as raster:
        drawn = rasterize(boxes, raster.shape, transform=raster.transform, dtype=np.uint8)
    truth = write_classes(tmp_path / "t.tif", drawn)
    found = write_polygons(tmp_path / "f.gpkg", boxes)
    scores = evaluate(found, truth, options=QUICK).scores
    assert scores["iou"] == 1
    assert scores["count_found"] == scores["count_truth"] == 30


def test_an_error_in_a_count_of_none_is_not_defined(tmp_path: Path) -> None:
    empty = write_polygons(tmp_path / "empty.gpkg", [])
    found = write_polygons(tmp_path / "found.gpkg", houses(0, 20))
    told = evaluate(found, empty, options=EvaluateOptions(replicates=50))
    content = json.loads(told.to_json())
    assert content["scores"]["count_error"] is None
    assert content["scores"]["area_error"] is None
    assert content["scores"]["object_precision"] == 0
    assert "count error" in told.describe()
    assert "not defined" in told.describe()


def beside_the_antimeridian() -> list[shapely.Polygon]:
    """Boxes of 20 m in Fiji, on both sides of 180 degrees."""
    boxes = [shapely.box(x, 8_120_000, x + 20, 8_120_020) for x in range(819_000, 820_200, 60)]
    table = geopandas.GeoSeries(boxes, crs="EPSG:32760").to_crs("EPSG:4326")
    kept = [each for each in table if each.bounds[2] - each.bounds[0] < 1]
    assert {each.bounds[0] > 0 for each in kept} == {True, False}
    return kept


def test_objects_across_the_antimeridian_are_compared_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "fiji.gpkg"
    geopandas.GeoDataFrame(geometry=beside_the_antimeridian(), crs="EPSG:4326").to_file(path)
    with open_layers(str(path), str(path), QUICK) as (_, _, _, geobox, _):
        assert geobox.crs.to_epsg() in (32701, 32760)
        assert geobox.width < 10_000
    scores = evaluate(path, path, options=QUICK).scores
    assert scores["iou"] == scores["object_f1"] == 1
    assert scores["count_truth"] == len(beside_the_antimeridian())


def test_objects_near_a_pole_are_compared_in_its_own_projection(tmp_path: Path) -> None:
    path = tmp_path / "ice.gpkg"
    box = shapely.box(1_000, 50_000, 1_200, 50_100)
    geopandas.GeoDataFrame(geometry=[box], crs="EPSG:3413").to_file(path)
    with open_layers(str(path), str(path), QUICK) as (_, _, _, geobox, _):
        assert "Polar_Stereographic" in geobox.crs.to_wkt()
    assert evaluate(path, path, options=QUICK).scores["iou"] == 1


def test_a_stray_object_is_named_and_not_compared_for_hours(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "truth.gpkg", houses(0), crs="EPSG:3857")
    table = geopandas.read_file(path)
    stray = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 10, 10)], crs="EPSG:3857")
    pd.concat([table, stray]).to_file(path)
    # Either may hold it.
    with pytest.raises(InputError, match=r"truth\.gpkg and .*astray"):
        evaluate(path, path, options=QUICK)
