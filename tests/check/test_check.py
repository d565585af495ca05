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
from geohr.workflows.check.candidates import spread_out
from geohr.workflows.check.design import LEAST, allocate, by_expected
from geohr.workflows.check.estimate import estimate
from geohr.workflows.check.intervals import Interval, draw_missed, draw_right, share
from geohr.workflows.check.options import EstimateOptions, SampleOptions
from geohr.workflows.check.sample import draw_sample, turns
from geohr.workflows.check.windows import WINDOW_M
from tests.command import Geohr

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
    where, _ = missed.set_geometry(missed.centroid).sindex.query(places.geometry, "contains")
    counts = np.bincount(where, minlength=len(places))
    places["answer"] = (counts > 0).astype(np.float64)
    places["missed"] = counts.astype(np.float64)
    objects.to_file(sample, layer="objects", mode="w")
    places.to_file(sample, layer="places", mode="w")


def test_the_truth_lies_in_the_intervals(town: dict[str, Path], tmp_path: Path) -> None:
    mapped = geopandas.read_file(town["map.gpkg"])
    there = geopandas.read_file(town["truth.gpkg"])
    both = int(mapped.geometry.to_wkb().isin(there.geometry.to_wkb()).sum())
    held = {"precision": 0, "recall": 0, "count": 0}
    for seed in range(8):
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
        assert told.recall.half_width < 0.12
    # Of eight intervals at 95% fewer than six would hold by chance once in 2,700 times.
    assert min(held.values()) >= 6


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


def test_places_are_windows_of_every_stratum(town: dict[str, Path], tmp_path: Path) -> None:
    counts = draw_sample(town["map.gpkg"], town["probs.tif"], tmp_path / "check.gpkg")
    assert counts.ground == pytest.approx(SIDE * SIDE, rel=5e-3)
    windows = (SIDE / WINDOW_M) ** 2
    assert sum(number for _, number in counts.places.values()) == pytest.approx(windows, rel=5e-2)
    assert all(0 < drawn <= there for drawn, there in counts.places.values())
    places = geopandas.read_file(tmp_path / "check.gpkg", layer="places")
    assert places.area.max() == pytest.approx(WINDOW_M**2, rel=0.01)
    # Where more is expected more is looked for.
    shares = [drawn / there for drawn, there in counts.places.values()]
    assert shares[-1] > shares[0]


def test_outlines_count_in_the_window_that_their_middle_lies_in(
    town: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "check.gpkg"
    draw_sample(town["map.gpkg"], town["probs.tif"], out)
    judge(out, town["truth.gpkg"])
    told = estimate(out)
    places = geopandas.read_file(out, layer="places")
    there = geopandas.read_file(town["truth.gpkg"])
    mapped = geopandas.read_file(town["map.gpkg"], layer="map")
    missed = there[~there.geometry.to_wkb().isin(mapped.geometry.to_wkb())]
    missed[missed.centroid.within(places.union_all())].to_file(out, layer="traced")
    places["missed"] = np.nan
    places.to_file(out, layer="places", mode="w")
    again = estimate(out)
    assert again.recall == told.recall
    assert again.missed_m2.value == pytest.approx(told.missed_m2.value, rel=0.3)
    # Without outlines a window of which the answer is yes has one; here none has more.
    with sqlite3.connect(out) as database:
        database.execute("DELETE FROM gpkg_contents WHERE table_name = 'traced'")
        database.execute("DROP TABLE traced")
    assert estimate(out).missed.value == told.missed.value


def test_a_map_that_was_judged_whole_is_known(town: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "check.gpkg"
    draw_sample(town["map.gpkg"], town["probs.tif"], out, options=SampleOptions(minutes=1000))
    judge(out, town["truth.gpkg"])
    told = estimate(out)
    mapped = geopandas.read_file(town["map.gpkg"])
    there = geopandas.read_file(town["truth.gpkg"])
    both = int(mapped.geometry.to_wkb().isin(there.geometry.to_wkb()).sum())
    assert told.recall.as_list() == pytest.approx([both / len(there)] * 3)
    assert told.precision.as_list() == pytest.approx([both / len(mapped)] * 3)


def test_a_half_width_sets_the_size_of_the_sample(town: dict[str, Path], tmp_path: Path) -> None:
    sizes = []
    for width in (0.1, 0.05):
        out = tmp_path / f"{width}.gpkg"
        counts = draw_sample(
            town["map.gpkg"], town["probs.tif"], out, options=SampleOptions(half_width=width)
        )
        sizes.append(
            [sum(each for each, _ in part.values()) for part in (counts.objects, counts.places)]
        )
        judge(out, town["truth.gpkg"])
        told = estimate(out)
        assert told.precision.half_width < 1.2 * width
        assert told.recall.half_width < 1.2 * width
    assert sizes[0][0] < sizes[1][0]
    assert sizes[0][1] < sizes[1][1]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.integers(0, 500), st.data())
def test_allocation_gives_every_stratum_its_least(
    sizes: list[int], judgements: int, data: st.DataObject
) -> None:
    spread = data.draw(
        st.lists(st.floats(0.1, 3), min_size=len(sizes), max_size=len(sizes)).map(np.array)
    )
    members = np.array(sizes)
    drawn = allocate(members, spread, judgements)
    assert (drawn >= np.minimum(members, LEAST)).all()
    assert (drawn <= members).all()
    wanted = min(max(judgements, int(np.minimum(members, LEAST).sum())), int(members.sum()))
    assert drawn.sum() == wanted


@given(st.lists(st.floats(0, 6), min_size=1, max_size=200).map(np.array), st.integers(1, 6))
def test_strata_rise_with_what_is_expected(expected: np.ndarray, count: int) -> None:
    strata = by_expected(expected, count)
    order = np.argsort(expected, kind="stable")
    assert (np.diff(strata[order]) >= 0).all()
    assert strata.min() >= 0
    assert strata.max() < count


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


@pytest.mark.parametrize("judged", [10, 40, 95])
def test_intervals_of_small_maps_hold_their_level(judged: int) -> None:
    """Of a map of a hundred objects nearly all may be judged."""
    random = np.random.default_rng(5)
    there = np.repeat([1.0, 0.0], [88, 12])
    held = 0
    for _ in range(300):
        right = np.array([random.choice(there, judged, replace=False).sum()])
        draws = draw_right(right, np.array([judged]), np.array([100]), random)
        interval = Interval.of(float(right[0] / judged), draws / 100)
        held += interval.low <= 0.88 <= interval.high
    assert held / 300 >= 0.93


@pytest.mark.parametrize(("mean", "cluster"), [(0.05, 1), (0.5, 1), (1.5, 2)])
def test_intervals_of_missed_objects_hold_their_level(mean: float, cluster: int) -> None:
    random = np.random.default_rng(7)
    expected, members, judged = np.array([0.1, 1.0]), np.array([200, 60]), np.array([15, 25])
    held = 0
    for _ in range(300):
        rates = np.repeat(mean * np.array([0.4, 2.5]), members)
        counts = random.poisson(rates / cluster) * cluster
        parts = np.split(counts, [200])
        seen = [random.choice(part, n, False) for part, n in zip(parts, judged, strict=True)]
        sums = np.array([part.sum() for part in seen], float)
        squares = np.array([(part**2).sum() for part in seen], float)
        draws = draw_missed((sums, squares), judged, members, expected, random)
        low, high = np.quantile(draws, (0.025, 0.975))
        held += low <= counts.sum() <= high
    assert held / 300 >= 0.91


def test_none_that_was_seen_has_an_upper_end() -> None:
    none = np.zeros(1)
    draws = draw_missed(
        (none, none), np.array([50]), np.array([1000]), np.array([0.1]), np.random.default_rng(0)
    )
    assert np.quantile(draws, 0.025) == 0
    # Three in the sample are consistent with none at 95% (the rule of three).
    assert 20 < np.quantile(draws, 0.975) < 90


def test_next_windows_are_doubtful_and_unlike_each_other(
    town: dict[str, Path], tmp_path: Path, geohr: Geohr
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 40, (3, SIDE, SIDE)).astype(np.uint8)
    pixels[0, :, SIDE // 2 :] += 200
    scene = tmp_path / "scene.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", count=3, height=SIDE, width=SIDE, dtype="uint8", crs=UTM,
        transform=Affine(1, 0, EAST, 0, -1, SIDE),
    ) as raster:  # fmt: skip
        raster.write(pixels)
    out = tmp_path / "next.gpkg"
    files = (scene, town["map.gpkg"], "--probs", town["probs.tif"], "--out", out)
    run = geohr("check", "next", *files, "--windows", "6")
    assert run.code == 0, run.err
    assert run.out == f"{out}: 6 windows to label\n"
    chosen = geopandas.read_file(out, layer="places")
    assert chosen["turn"].tolist() == [1, 2, 3, 4, 5, 6]
    assert chosen["answer"].isna().all()
    assert len(geopandas.read_file(out, layer="objects")) == 0
    # More doubtful than most, and both sorts of ground are among them.
    assert chosen["score"].min() > 1
    east = chosen.centroid.x > EAST + SIDE / 2
    assert 2 <= east.sum() <= 4
    assert geohr("check", "next", *files).code == 2


def test_what_is_unlike_is_chosen_before_what_is_a_little_more_doubtful() -> None:
    looks = np.array([[0.0], [0.1], [5.0], [5.1]])
    assert spread_out(np.array([1.0, 0.99, 0.8, 0.7]), looks, 2).tolist() == [0, 2]
    assert sorted(spread_out(np.ones(3), np.zeros((3, 2)), 9).tolist()) == [0, 1, 2]


def test_the_estimate_writes_the_best_part_of_the_map_and_a_page(
    town: dict[str, Path], tmp_path: Path, geohr: Geohr
) -> None:
    out, kept, page = (tmp_path / name for name in ("check.gpkg", "kept.gpkg", "check.html"))
    draw_sample(town["map.gpkg"], town["probs.tif"], out)
    judge(out, town["truth.gpkg"])
    wanted = ("--map", town["map.gpkg"], "--out-map", kept, "--report", page, "--cost", "2")
    run = geohr("check", "estimate", out, *wanted)
    assert run.code == 0, run.err
    told = estimate(out, options=EstimateOptions(cost=2))
    assert run.out.splitlines() == told.describe().splitlines()
    mapped = geopandas.read_file(town["map.gpkg"], layer="map")
    best = mapped[mapped["confidence"] >= told.threshold]
    left = geopandas.read_file(kept, layer="map")
    assert 0 < len(left) == len(best) < len(mapped)
    assert left.columns.tolist() == mapped.columns.tolist()
    text = page.read_text("utf-8")
    assert f"{told.recall.value:.0%} (" in text
    assert "A false object costs as much as 2 missed" in text
    assert text.count("<polyline") == 2
    assert geohr("check", "estimate", out, *wanted).code == 2
    assert geohr("check", "estimate", out, "--out-map", tmp_path / "other.gpkg").code == 2
