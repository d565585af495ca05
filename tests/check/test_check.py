"""Samples whose truth is known: a person is played by it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geohr.errors import InputError, UsageError
from geohr.workflows.check.design import LEAST, allocate
from geohr.workflows.check.estimate import estimate
from geohr.workflows.check.intervals import Interval, found_share, plus, share, total
from geohr.workflows.check.options import EstimateOptions, SampleOptions
from geohr.workflows.check.sample import PLACES, draw_sample, turns

UTM = "EPSG:32636"
SIDE = 800
"""Metres and pixels of the ground."""
EAST = 450_000
"""Near the zone's middle, where its metres are the ground's."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A map of houses, one in five of them wrong and one in four of the true ones missed."""
    folder = tmp_path_factory.mktemp("town")
    random = np.random.default_rng(0)
    right, wrong, missed = [], [], []
    for x in range(10, SIDE - 20, 25):
        for y in range(10, SIDE - 20, 25):
            west, width, height = EAST + x, random.uniform(8, 14), random.uniform(8, 14)
            shape = shapely.box(west, y, west + width, y + height)
            kind = random.choice(3, p=[0.6, 0.2, 0.2])
            (right, wrong, missed)[kind].append(shape)
    shapes = [*right, *wrong]
    confidence = np.concatenate(
        [random.uniform(0.7, 1.0, len(right)), random.uniform(0.5, 0.8, len(wrong))]
    )
    table = geopandas.GeoDataFrame(
        {"confidence": confidence, "class": "building", "geometry": shapes}, crs=UTM
    )
    table.to_file(folder / "map.gpkg", layer="map")
    truth = geopandas.GeoDataFrame(geometry=[*right, *missed], crs=UTM)
    truth.to_file(folder / "truth.gpkg")
    transform = Affine(1, 0, EAST, 0, -1, SIDE)
    drawn = rasterio.features.rasterize(
        [(each, 0.9) for each in shapes] + [(each, 0.1) for each in missed],
        out_shape=(SIDE, SIDE), transform=transform, dtype="float64",
    )  # fmt: skip
    with rasterio.open(
        folder / "probs.tif", "w", driver="GTiff", count=1, height=SIDE, width=SIDE,
        dtype="uint8", nodata=255, crs=UTM, transform=transform,
    ) as raster:  # fmt: skip
        raster.write(np.round(drawn * 254).astype(np.uint8), 1)
    return {name: folder / name for name in ("map.gpkg", "probs.tif", "truth.gpkg")}


def judge(sample: Path, truth: Path) -> None:
    """Answer a sample by the truth."""
    there = geopandas.read_file(truth)
    objects = geopandas.read_file(sample, layer="objects")
    known = set(there.geometry.to_wkb())
    answers = [shapely.to_wkb(shapely.get_geometry(each, 0)) in known for each in objects.geometry]
    objects["answer"] = np.array(answers, np.float64)
    places = geopandas.read_file(sample, layer="places")
    mapped = geopandas.read_file(truth.with_name("map.gpkg"), layer="map")
    missed = there[~there.geometry.to_wkb().isin(mapped.geometry.to_wkb())].reset_index(drop=True)
    where, which = missed.sindex.query(places.geometry, predicate="within")
    places["answer"] = 0.0
    places.loc[where, "answer"] = 1.0
    places.loc[where, "object_m2"] = missed.area.to_numpy()[which]
    objects.to_file(sample, layer="objects", mode="w")
    places.to_file(sample, layer="places", mode="w")


def test_the_truth_lies_in_the_intervals(town: dict[str, Path], tmp_path: Path) -> None:
    mapped = geopandas.read_file(town["map.gpkg"])
    there = geopandas.read_file(town["truth.gpkg"])
    both = int(mapped.geometry.to_wkb().isin(there.geometry.to_wkb()).sum())
    held = {"precision": 0, "recall": 0, "count": 0}
    for seed in range(12):
        out = tmp_path / f"check{seed}.gpkg"
        draw_sample(
            town["map.gpkg"], town["probs.tif"], out, options=SampleOptions(minutes=25, seed=seed)
        )
        judge(out, town["truth.gpkg"])
        told = estimate(out)
        for name, truth in (
            ("precision", both / len(mapped)), ("recall", both / len(there)), ("count", len(there))
        ):  # fmt: skip
            interval: Interval = getattr(told, name)
            held[name] += interval.low <= truth <= interval.high
        assert told.precision.half_width < 0.08
    # Of twelve intervals at 95% fewer than nine would hold by chance once in 3,000 times.
    assert min(held.values()) >= 9


def test_the_same_seed_draws_the_same_sample(town: dict[str, Path], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.gpkg", "b.gpkg", "c.gpkg")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        draw_sample(town["map.gpkg"], town["probs.tif"], path, options=SampleOptions(seed=seed))
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second != third


def test_a_sample_that_was_not_judged_is_refused(town: dict[str, Path], tmp_path: Path) -> None:
    draw_sample(town["map.gpkg"], town["probs.tif"], tmp_path / "check.gpkg")
    with sqlite3.connect(tmp_path / "check.gpkg") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)
    with pytest.raises(InputError, match="judge some of both"):
        estimate(tmp_path / "check.gpkg")
    with pytest.raises(InputError, match="draw one with geohr check sample"):
        estimate(town["map.gpkg"])
    with pytest.raises(UsageError, match=r"\.gpkg"):
        draw_sample(town["map.gpkg"], town["probs.tif"], tmp_path / "check.shp")


def test_a_dearer_false_object_raises_the_threshold(town: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "check.gpkg"
    draw_sample(town["map.gpkg"], town["probs.tif"], out, options=SampleOptions(minutes=40))
    judge(out, town["truth.gpkg"])
    cheap = estimate(out, options=EstimateOptions(cost=0.1)).threshold
    assert cheap < estimate(out, options=EstimateOptions(cost=10)).threshold


def test_places_of_every_stratum_are_drawn(town: dict[str, Path], tmp_path: Path) -> None:
    counts = draw_sample(town["map.gpkg"], town["probs.tif"], tmp_path / "check.gpkg")
    assert set(counts.places) == set(PLACES)
    ground = sum(area for _, area in counts.places.values())
    assert ground == pytest.approx(SIDE * SIDE, rel=5e-3)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.integers(0, 500), st.data())
def test_allocation_gives_every_stratum_its_least(
    sizes: list[int], judgements: int, data: st.DataObject
) -> None:
    expected = data.draw(
        st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)).map(np.array)
    )
    drawn = allocate(np.array(sizes, float), expected, judgements)
    full = np.array(sizes) > 0
    assert (drawn[full] >= LEAST).all()
    assert (drawn[~full] == 0).all()
    assert drawn.sum() <= max(judgements, LEAST * full.sum()) + len(sizes)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
@settings(deadline=None)
def test_every_beginning_of_a_sample_has_its_share_of_every_stratum(names: list[str]) -> None:
    strata = np.array(names, object)
    turn = turns(strata)
    assert sorted(turn) == list(range(1, len(names) + 1))
    for stop in range(1, len(names) + 1):
        begun = strata[turn <= stop]
        for name in "abc":
            share_of = (strata == name).sum() / len(names)
            assert abs((begun == name).sum() - share_of * stop) <= 3


@pytest.mark.parametrize("truth", [0.02, 0.3, 0.9])
def test_intervals_of_shares_hold_their_level(truth: float) -> None:
    random = np.random.default_rng(3)
    sizes = np.array([300.0, 2000.0, 700.0])
    judged = np.array([15.0, 30.0, 15.0])
    held = 0
    for _ in range(600):
        right = random.binomial(judged.astype(int), truth).astype(float)
        interval = share(right, judged, sizes)
        held += interval.low <= truth <= interval.high
    assert held / 600 >= 0.93


def test_totals_of_none_have_an_upper_end() -> None:
    interval = total(np.zeros(0), 3.0)
    # Three in expectation are consistent with none at 95% (the rule of three), times the weight.
    assert (interval.value, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(3.0 * 3.69, rel=0.01)


def test_ratios_and_sums_contain_their_estimates() -> None:
    found, missed = Interval(80, 70, 88), Interval(20, 8, 45)
    recall = found_share(found, missed)
    assert recall.value == pytest.approx(0.8)
    assert recall.low < recall.value < recall.high
    both = plus(found, missed)
    assert both.low < both.value == 100 < both.high
