"""Scenes of two dates, from pixels to changes, and runs that are cut short on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pyarrow import parquet
from rasterio.warp import Resampling, calculate_default_transform, reproject

from geohr._runtime.files import STYLE_SUFFIXES
from geohr._runtime.stop import Stop
from geohr.errors import InputError, InterruptedRunError, LockedError, UsageError
from geohr.inference.checkpoint import WORK_FOLDER, work_name
from geohr.options import SegmentOptions
from geohr.workflows.change import dates as dates_module
from geohr.workflows.change.dates import change, output_lock
from geohr.workflows.change.inputs import ChangeOutputs
from tests.command import Geohr
from tests.makers import ORIGIN, UTM, Local, random_model, write_scene

OPTIONS = SegmentOptions(tile=32, gsd="native")
SIDE = 160
HOUSES = [(row, col) for row in range(10, 140, 30) for col in range(8, 140, 34)]
"""Upper left pixels of houses of 12 x 16 pixels, 6 x 8 m."""
ADDED = (96, 138)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of pixels in place of the network: what is bright is a building."""
    local = Local(1, batch=4)
    monkeypatch.setattr("geohr.inference.executor.open_predictor", lambda *_, **__: local)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model") / "model.safetensors")


def scene(path: Path, houses: list[tuple[int, int]], *, side: int = SIDE, **profile: Any) -> Path:
    """A dark scene with bright houses."""
    pixels = np.random.default_rng(0).integers(20, 30, (3, side, side), dtype=np.uint8)
    for row, col in houses:
        pixels[:, row : row + 12, col : col + 16] = 250
    return write_scene(path, pixels, **profile)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two dates: one house is gone, one is new."""
    return (
        scene(tmp_path / "2019.tif", HOUSES),
        scene(tmp_path / "2024.tif", [*HOUSES[1:], ADDED]),
    )


def kinds(counts: Any) -> dict[str, int]:
    return {kind: number for kind, number in counts.objects.items() if number}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def outputs(folder: Path) -> ChangeOutputs:
    folder.mkdir(exist_ok=True)
    named = (folder / f"changes{end}" for end in (".gpkg", ".tif", ".osc", ".parquet"))
    return ChangeOutputs(*named)


def test_scenes_are_segmented_kept_and_compared(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    out = outputs(tmp_path / "out")
    counts = change(*pair, out, model=model, segment_options=OPTIONS)
    assert kinds(counts) == {"new": 1, "gone": 1, "same": len(HOUSES) - 1}
    kept = {"changes_before.gpkg", "changes_before_probs.tif"}
    kept |= {"changes_after.gpkg", "changes_after_probs.tif"}
    kept |= {f"changes_{date}{end}" for date in ("before", "after") for end in STYLE_SUFFIXES}
    assert set(contents(tmp_path / "out")) == kept | {each.name for each in out.paths}
    with rasterio.open(tmp_path / "out" / "changes.tif") as raster:
        difference = raster.read(1)
    row, col = ADDED
    assert difference[row + 3 : row + 9, col + 4 : col + 12].min() > 180
    assert np.median(difference) < 80
    # What was kept is not made again.
    before = (tmp_path / "out" / "changes_before.gpkg").stat().st_mtime_ns
    change(*pair, out, model=model, segment_options=OPTIONS, overwrite=True)
    assert (tmp_path / "out" / "changes_before.gpkg").stat().st_mtime_ns == before
    # But what other options made is not taken for it.
    (tmp_path / "out" / "changes.gpkg").unlink()
    with pytest.raises(UsageError, match=r"changes_before.gpkg: exists, and is not what"):
        change(
            *pair, tmp_path / "out" / "changes.gpkg", model=model,
            segment_options=SegmentOptions(tile=32, gsd="native", threshold=0.8),
        )  # fmt: skip


def test_the_same_scene_twice_is_no_change(
    pair: tuple[Path, Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    ended = geohr(
        "change", pair[0], pair[0], "--out", tmp_path / "c.gpkg", "--model", model, "--tile", "32",
        "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)["kinds"]
    assert {kind: each["objects"] for kind, each in told.items() if each["objects"]} == {
        "same": len(HOUSES)
    }


def test_dates_without_objects_are_no_change(model: Path, tmp_path: Path, geohr: Geohr) -> None:
    bare = [scene(tmp_path / f"{year}.tif", []) for year in (2019, 2024)]
    out = tmp_path / "c.gpkg"
    ended = geohr(
        "change", *bare, "--out", out, "--out-raster", tmp_path / "c.tif", "--model", model,
        "--tile", "32", "--report", tmp_path / "c.html",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "new: 0" in ended.out
    assert len(geopandas.read_file(out, layer="changes")) == 0


def test_objects_where_only_one_date_looks_are_no_change(model: Path, tmp_path: Path) -> None:
    before = scene(tmp_path / "before.tif", [(20, 10)])
    transform = rasterio.Affine(0.5, 0, ORIGIN[0] + SIDE / 4, 0, -0.5, ORIGIN[1])
    after = scene(tmp_path / "after.tif", [(90, 130)], transform=transform)
    counts = change(before, after, tmp_path / "c.gpkg", model=model, segment_options=OPTIONS)
    assert kinds(counts) == {}


def test_an_area_bounds_the_comparison_of_scenes(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    east, north = ORIGIN
    area = shapely.box(east, north - 40, east + SIDE / 2, north)
    geopandas.GeoDataFrame(geometry=[area], crs=UTM).to_file(tmp_path / "area.gpkg")
    options = SegmentOptions(tile=32, gsd="native", aoi=str(tmp_path / "area.gpkg"))
    counts = change(*pair, tmp_path / "c.gpkg", model=model, segment_options=options)
    assert counts.objects["gone"] == 1
    assert counts.objects["new"] == 0


def test_dates_in_other_crss_and_resolutions_are_compared_on_the_ground(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tif"
    with rasterio.open(pair[1]) as raster:
        transform, width, height = calculate_default_transform(
            raster.crs, "EPSG:3857", raster.width, raster.height, *raster.bounds, resolution=0.4
        )
        profile = {
            **raster.profile, "crs": "EPSG:3857", "transform": transform, "width": width,
            "height": height,
        }  # fmt: skip
        with rasterio.open(other, "w", **profile) as target:
            for band in (1, 2, 3):
                reproject(
                    rasterio.band(raster, band), rasterio.band(target, band),
                    resampling=Resampling.bilinear,
                )  # fmt: skip
    counts = change(pair[0], other, tmp_path / "c.gpkg", model=model, segment_options=OPTIONS)
    assert kinds(counts) == {"new": 1, "gone": 1, "same": len(HOUSES) - 1}


def test_the_shift_between_two_images_is_no_change(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = [(row, col) for row in range(10, 320, 50) for col in range(8, 320, 50)]
    houses = [tuple(np.add(each, rng.integers(0, 30, 2)).tolist()) for each in corners]
    before = scene(tmp_path / "before.tif", houses, side=360)
    transform = rasterio.Affine(0.5, 0, ORIGIN[0] + 1.5, 0, -0.5, ORIGIN[1] - 1)
    after = scene(tmp_path / "after.tif", houses[1:], side=360, transform=transform)
    options = SegmentOptions(tile=64, gsd="native")
    counts = change(before, after, tmp_path / "c.gpkg", model=model, segment_options=options)
    assert kinds(counts) == {"gone": 1, "same": len(houses) - 1}
    assert counts.shift.at(np.array([ORIGIN]))[0] == pytest.approx((1.5, -1), abs=0.1)


def test_bad_dates_are_refused_before_anything_is_segmented(
    pair: tuple[Path, Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dates_module, "segment_to_files", None)
    transform = rasterio.Affine(0.5, 0, ORIGIN[0] + 9000, 0, -0.5, ORIGIN[1])
    far = scene(tmp_path / "far.tif", HOUSES, transform=transform)
    with pytest.raises(InputError, match=r"2019.tif and .*far.tif: do not overlap"):
        change(pair[0], far, tmp_path / "c.gpkg", model=model, segment_options=OPTIONS)
    nowhere = scene(tmp_path / "nowhere.tif", HOUSES, crs=None)
    with pytest.raises(InputError, match="has no CRS, so it cannot be laid on another date"):
        change(pair[0], nowhere, tmp_path / "c.gpkg", model=model, segment_options=OPTIONS)
    with pytest.raises(UsageError, match=r"c\.xml: name a file that ends in \.osc"):
        change(*pair, ChangeOutputs(tmp_path / "c.gpkg", osm=tmp_path / "c.xml"), model=model)
    jpeg = ChangeOutputs(tmp_path / "c.gpkg", creation_options={"COMPRESS": "JPEG"})
    with pytest.raises(UsageError, match="COMPRESS=JPEG"):
        change(*pair, jpeg, model=model)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "2019.tif", "2024.tif", "far.tif", "nowhere.tif",
    ]  # fmt: skip


def test_no_output_is_an_input(pair: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    objects = tmp_path / "changes_after.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=UTM).to_file(objects)
    known = objects.read_bytes()
    changes = tmp_path / "changes.gpkg"
    for dates, targets in (
        (pair, ChangeOutputs(changes, raster=pair[1])),
        ((objects, objects), ChangeOutputs(objects)),
        # What is found in the later scene would be kept under the name of the earlier date.
        ((objects, pair[1]), ChangeOutputs(changes)),
    ):
        with pytest.raises(UsageError, match="is an input"):
            change(*dates, targets, model=model, segment_options=OPTIONS, overwrite=True)
    objects.unlink()
    assert contents(tmp_path) == before
    assert known


def test_two_runs_do_not_write_the_same_changes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = ChangeOutputs(tmp_path / "c.gpkg")
    with output_lock(out), pytest.raises(LockedError, match="another run is writing"):
        change(*pair, ChangeOutputs(tmp_path / "c.gpkg", osm=tmp_path / "c.osc"))


@pytest.mark.parametrize("place", ["first scene", "second scene", "comparison", "last file"])
def test_a_run_that_was_cut_short_goes_on_and_gives_the_same_bytes(
    place: str, pair: tuple[Path, Path], model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = outputs(tmp_path / "whole")
    change(*pair, whole, model=model, segment_options=OPTIONS)
    out = outputs(tmp_path / "out")
    stop = Stop()
    seen = [0, 0]

    def watch(done: int, total: int) -> None:
        seen[0] += done < seen[1]
        seen[1] = done
        if done >= total // 2 and place == ("first scene", "second scene", "")[seen[0]]:
            stop.request()

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "comparison":
            patch.setattr("geohr.workflows.change.output.ChangeWriter.changes", fail)
        elif place == "last file":
            patch.setattr(dates_module, "write_overture", fail)
        with pytest.raises((InterruptedRunError, KeyboardInterrupt)):
            change(
                *pair, out, model=model, segment_options=OPTIONS, stop=stop, progress=watch
            )  # fmt: skip
    assert not any(path.exists() for path in out.paths)
    change(*pair, out, model=model, segment_options=OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert [each.name for each in (tmp_path / "out").iterdir() if each.is_dir()] == []


def test_blocks_that_a_kill_left_beside_finished_scenes_are_removed(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    out = outputs(tmp_path / "out")
    change(*pair, out, model=model, segment_options=OPTIONS)
    # As after SIGKILL between the names of the outputs and the end of the work folder.
    work = tmp_path / "out" / WORK_FOLDER / work_name(out.kept("before")) / "0123"
    work.mkdir(parents=True)
    (work / "block-000000.npz").write_bytes(b"scores")
    change(*pair, out, model=model, segment_options=OPTIONS, overwrite=True)
    assert [each.name for each in (tmp_path / "out").iterdir() if each.is_dir()] == []


def test_new_buildings_have_the_columns_of_overture(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    out = outputs(tmp_path / "out")
    change(*pair, out, model=model, segment_options=OPTIONS)
    assert out.overture is not None
    table = geopandas.read_parquet(out.overture)
    assert table.crs == "OGC:CRS84"
    assert len(table) == 1
    new = table.iloc[0]
    assert (new["version"], new["has_parts"]) == (1, False)
    assert new["sources"][0]["property"] == ""
    assert new["sources"][0]["dataset"] == "geohr"
    assert 0 < new["sources"][0]["confidence"] <= 1
    box = parquet.read_table(out.overture, columns=["bbox"])["bbox"][0].as_py()
    assert (box["xmin"], box["ymin"], box["xmax"], box["ymax"]) == new.geometry.bounds
    # As its own files, it can be asked for a part.
    assert len(geopandas.read_parquet(out.overture, bbox=(0, 50, 1, 51))) == 0


def test_the_report_shows_both_dates(
    pair: tuple[Path, Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    ended = geohr(
        "change", *pair, "--out", tmp_path / "c.gpkg", "--model", model, "--tile", "32",
        "--report", tmp_path / "c.html", "--out-raster", tmp_path / "c.tif", "--co",
        "COMPRESS=ZSTD",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    page = (tmp_path / "c.html").read_text("utf-8")
    assert "<h1>2019.tif and 2024.tif: 2 changes</h1>" in page
    # The later date as a whole, and each change on both.
    assert page.count("<img") == 1 + 2 * 2
    assert "<td>new</td><td>1</td>" in page
    with rasterio.open(tmp_path / "c.tif") as raster:
        assert raster.profile["compress"] == "zstd"
