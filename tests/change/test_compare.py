"""Changes whose truth is known by construction."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from xml.etree import ElementTree as Xml

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from geohr.encoding import Floats
from geohr.errors import InputError, UsageError
from geohr.scene import footprints
from geohr.workflows.change.compare import Date, compare
from geohr.workflows.change.counts import ChangeCounts
from geohr.workflows.change.options import ChangeOptions
from geohr.workflows.change.osm import write_osm
from geohr.workflows.change.output import COLOURS
from geohr.workflows.change.shift import ShiftField, fit_field

UTM = "EPSG:32636"
EAST, NORTH = 450_000.0, 30_000.0


def house(x: float, y: float, width: float = 10.0, height: float = 8.0) -> shapely.Polygon:
    return shapely.box(EAST + x, NORTH + y, EAST + x + width, NORTH + y + height)


def village(side: int = 8, gap: float = 25.0, seed: int = 0) -> list[shapely.Polygon]:
    """Houses of many sizes on a loose grid, each turned by its own angle."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(side):
        for col in range(side):
            width, height = rng.uniform(6, 14, 2)
            shape = house(
                col * gap + rng.uniform(0, 5), row * gap + rng.uniform(0, 5), width, height
            )
            made.append(shapely.affinity.rotate(shape, rng.uniform(0, 90)))
    return made


def write(path: Path, shapes: list[shapely.Polygon], **columns: object) -> str:
    table = geopandas.GeoDataFrame({"geometry": shapes, **columns}, crs=UTM)
    table.to_file(path, layer="objects")
    return str(path)


def by_kind(counts: ChangeCounts) -> dict[str, int]:
    return {kind: number for kind, number in counts.objects.items() if number}


def run(
    folder: Path, before: list[shapely.Polygon], after: list[shapely.Polygon], **options: object
) -> ChangeCounts:
    return compare(
        Date(write(folder / "before.gpkg", before)),
        Date(write(folder / "after.gpkg", after)),
        folder / "changes.gpkg",
        options=ChangeOptions(**options),  # type: ignore[arg-type]
        overwrite=True,
    )


def test_a_date_is_the_same_as_itself(tmp_path: Path) -> None:
    assert by_kind(run(tmp_path, village(), village())) == {"same": 64}


@pytest.mark.parametrize("move", [(0.7, 0.7), (-2.0, 1.5), (0.0, -2.8)])
def test_a_shift_and_careless_outlines_are_no_change(
    tmp_path: Path, move: tuple[float, float]
) -> None:
    rng = np.random.default_rng(1)
    corners = [shapely.get_coordinates(each)[:-1] for each in village()]
    drawn = [shapely.Polygon(each + rng.normal(0, 0.3, each.shape)) for each in corners]
    after = [shapely.affinity.translate(each, *move) for each in drawn]
    counts = run(tmp_path, village(), after)
    assert by_kind(counts) == {"same": 64}
    assert counts.shift.at(np.array([[EAST + 100, NORTH + 100]]))[0] == pytest.approx(move, abs=0.3)


def test_each_kind_of_change_is_told(tmp_path: Path) -> None:
    common = village()
    far = 300.0
    before = [
        *common,
        house(far, 0),
        house(far, 50, 20, 10),
        house(far, 100),
        house(far, 150, 20, 10),
    ]
    after = [
        *common,
        house(far, 50, 10, 10),  # half of it is gone
        house(far, 100, 16, 8),
        house(far + 5, 145, 10, 20),  # turned by a quarter
        house(far, 200),
    ]
    counts = run(tmp_path, before, after)
    assert by_kind(counts) == {
        "new": 1, "gone": 1, "grown": 1, "shrunk": 1, "reshaped": 1, "same": 64,
    }  # fmt: skip
    found = geopandas.read_file(tmp_path / "changes.gpkg", layer="changes").set_index("change")
    assert found.loc["new", "area_after_m2"] == pytest.approx(80, rel=2e-3)
    assert found.loc["gone", "before_ids"] == "65"
    assert found.loc["grown", "area_after_m2"] == pytest.approx(128, rel=2e-3)


def test_split_and_merged_houses_are_one_group(tmp_path: Path) -> None:
    two = [house(300, 0, 10, 8), house(310, 0, 10, 8)]
    one = [house(300, 0, 20, 8)]
    assert by_kind(run(tmp_path, [*village(), *two], [*village(), *one])) == {"same": 65}
    assert by_kind(run(tmp_path, [*village(), *one], [*village(), *two])) == {"same": 65}


def test_a_roof_that_leans_is_no_change(tmp_path: Path) -> None:
    counts = run(tmp_path, [*village(), house(300, 0, 5, 5)], [*village(), house(303.5, 0, 5, 5)])
    assert by_kind(counts) == {"same": 65}
    found = geopandas.read_file(tmp_path / "changes.gpkg", layer="changes")
    assert found["moved_m"].max() == pytest.approx(3.5, abs=0.3)
    counts = run(
        tmp_path, [*village(), house(300, 0, 5, 5)], [*village(), house(306.5, 0, 5, 5)], lean=1.0
    )
    assert by_kind(counts) == {"same": 64, "new": 1, "gone": 1}


def test_the_cut_into_strips_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = village(seed=1), [each for each in village(seed=1) if each.area > 50]
    after += [house(400, 30), house(400, 100)]
    run(tmp_path, before, after)
    whole = geopandas.read_file(tmp_path / "changes.gpkg", layer="changes")
    monkeypatch.setattr(footprints, "STRIP_OBJECTS", 20)
    run(tmp_path, before, after)
    cut = geopandas.read_file(tmp_path / "changes.gpkg", layer="changes")
    keys = ["before_ids", "after_ids"]
    whole, cut = (each.sort_values(keys).reset_index(drop=True) for each in (whole, cut))
    assert whole.drop(columns="geometry").equals(cut.drop(columns="geometry"))
    assert (shapely.hausdorff_distance(whole.geometry, cut.geometry) < 1e-6).all()


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    run(tmp_path, village(), village(seed=2))
    first = (tmp_path / "changes.gpkg").read_bytes()
    with sqlite3.connect(tmp_path / "changes.gpkg") as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (sld,) = database.execute("SELECT styleSLD FROM layer_styles").fetchone()
    assert version == 10300
    assert all(colour in sld for colour in COLOURS.values())
    run(tmp_path, village(), village(seed=2))
    assert (tmp_path / "changes.gpkg").read_bytes() == first


def probabilities(path: Path, value: Floats, *, pixel: float = 0.5) -> str:
    """A raster over the village's ground."""
    size = value.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=size[0], width=size[1], dtype="uint8",
        nodata=255, crs=UTM, transform=Affine(pixel, 0, EAST - 20, 0, -pixel, NORTH + 230),
    ) as raster:  # fmt: skip
        raster.write(np.where(np.isnan(value), 255, np.round(value * 254)).astype(np.uint8), 1)
    return str(path)


def test_what_the_other_date_half_sees_is_unsure(tmp_path: Path) -> None:
    faint, there, unseen = house(60, 60), house(120, 60), house(120, 120)
    ground = np.full((500, 700), 0.02)
    transform = Affine(0.5, 0, EAST - 20, 0, -0.5, NORTH + 230)
    early = rasterio.features.rasterize(
        [(faint, 0.45), (unseen.buffer(5), -1.0)], out=ground.copy(), transform=transform
    )
    early[early < 0] = np.nan
    late = rasterio.features.rasterize(
        [(each, 0.95) for each in (faint, there, unseen)], out=ground.copy(), transform=transform
    )
    anchor = house(200, 200)
    counts = compare(
        Date(write(tmp_path / "a.gpkg", [anchor]), probabilities(tmp_path / "a.tif", early)),
        Date(
            write(tmp_path / "b.gpkg", [anchor, faint, there, unseen]),
            probabilities(tmp_path / "b.tif", late),
        ),
        tmp_path / "changes.gpkg",
    )
    assert by_kind(counts) == {"same": 1, "new": 1, "unsure": 1}
    assert counts.unseen == 1
    left = geopandas.read_file(tmp_path / "changes.gpkg", layer="not_compared")
    assert left.geometry[0].intersects(unseen)


def test_ground_that_one_date_does_not_show_is_neither_gained_nor_lost(tmp_path: Path) -> None:
    # The raster of the later date ends in the middle of the first house.
    edge, shrunk = house(322, 60, 16, 10), house(250, 60, 16, 10)
    cut, half = house(322, 60, 8, 10), house(250, 60, 8, 10)
    there = [*village(), cut, half]
    late = rasterio.features.rasterize(
        [(each, 0.95) for each in there],
        out=np.full((500, 700), 0.02),
        transform=Affine(0.5, 0, EAST - 20, 0, -0.5, NORTH + 230),
    )
    counts = compare(
        Date(write(tmp_path / "a.gpkg", [*village(), edge, shrunk]), reference=True),
        Date(write(tmp_path / "b.gpkg", there), probabilities(tmp_path / "b.tif", late)),
        tmp_path / "changes.gpkg",
    )
    assert by_kind(counts) == {"same": 65, "shrunk": 1}


def test_footprints_in_the_wrong_place_are_refused_with_the_shift(tmp_path: Path) -> None:
    after = [shapely.affinity.translate(each, 9, 0) for each in village()]
    with pytest.raises(InputError, match=r"lies (8\.\d|9\.\d) m from .*allow more with --shift"):
        run(tmp_path, village(), after)
    assert not (tmp_path / "changes.gpkg").exists()
    assert by_kind(run(tmp_path, village(), after, shift=12)) == {"same": 64}


def test_dates_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    after = [shapely.affinity.translate(each, 50_000, 0) for each in village()]
    with pytest.raises(InputError, match="do not overlap"):
        run(tmp_path, village(), after)


def test_invalid_polygons_are_repaired_and_counted(tmp_path: Path) -> None:
    x, y = EAST + 300, NORTH
    bow = shapely.Polygon([(x, y), (x + 10, y + 10), (x + 10, y), (x, y + 10)])
    counts = run(tmp_path, [*village(), bow], [*village(), bow])
    assert by_kind(counts) == {"same": 65}
    assert counts.repaired >= 2


def test_changes_go_to_a_geopackage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gpkg"):
        compare(Date("a.gpkg"), Date("b.gpkg"), tmp_path / "changes.shp")


def test_new_buildings_become_an_osm_change_file(tmp_path: Path) -> None:
    court = house(300, 0, 20, 20).difference(house(305, 5, 5, 5))
    run(tmp_path, village(), [*village(), house(300, 60), court])
    assert write_osm(tmp_path / "changes.gpkg", tmp_path / "new.osc", source="test") == 2
    root = Xml.parse(tmp_path / "new.osc").getroot()
    (create,) = root
    assert [each.tag for each in create.findall("relation")] == ["relation"]
    tags = [each.attrib for each in create.iter("tag") if each.attrib["k"] == "building"]
    assert len(tags) == 2
    known = {each.attrib["id"] for each in create}
    assert all(int(each) < 0 for each in known)
    assert {each.attrib["ref"] for each in create.iter() if "ref" in each.attrib} <= known


def test_a_field_is_not_pulled_by_windows_that_changed() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1000, (40, 2))
    moves = np.column_stack([1 + points[:, 0] / 1000, np.full(40, -0.5)])
    moves[:12] = rng.uniform(-20, 20, (12, 2))
    field = fit_field(points, moves)
    assert field.at(np.array([[0.0, 0.0], [1000.0, 500.0]])) == pytest.approx(
        np.array([[1.0, -0.5], [2.0, -0.5]]), abs=0.05
    )
    assert ShiftField.none().at(points).tolist() == np.zeros((40, 2)).tolist()


def test_an_area_bounds_the_comparison(tmp_path: Path) -> None:
    write(tmp_path / "area.gpkg", [shapely.box(EAST - 20, NORTH - 20, EAST + 300, NORTH + 60)])
    counts = compare(
        Date(write(tmp_path / "before.gpkg", village())),
        Date(write(tmp_path / "after.gpkg", [*village(), house(210, 40), house(210, 150)])),
        tmp_path / "changes.gpkg",
        aoi=str(tmp_path / "area.gpkg"),
    )
    assert by_kind(counts) == {"new": 1, "same": 24}


def test_the_probability_of_change_is_that_of_two_independent_dates(tmp_path: Path) -> None:
    built, moved = house(250, 60), (0.0, -1.0)
    ground = np.full((500, 700), 0.1)
    transform = Affine(0.5, 0, EAST - 20, 0, -0.5, NORTH + 230)
    early = rasterio.features.rasterize(
        [(each, 0.9) for each in village()], out=ground.copy(), transform=transform
    )
    later = [shapely.affinity.translate(each, *moved) for each in village()]
    late = rasterio.features.rasterize(
        [(each, 0.9) for each in [*later, built]], out=ground.copy(), transform=transform
    )
    late[:, :20] = np.nan
    counts = compare(
        Date(write(tmp_path / "a.gpkg", village()), probabilities(tmp_path / "a.tif", early)),
        Date(write(tmp_path / "b.gpkg", later), probabilities(tmp_path / "b.tif", late)),
        tmp_path / "changes.gpkg",
        raster=tmp_path / "change.tif",
    )
    assert counts.shift.at(np.array([[EAST, NORTH]]))[0] == pytest.approx(moved, abs=0.2)
    with rasterio.open(tmp_path / "change.tif") as raster:
        change = raster.read(1)
        assert raster.shape == (500, 700)
    assert (change[:, :20] == 255).all()
    inside = rasterio.features.rasterize([built.buffer(-1)], (500, 700), transform=transform)
    known = (change != 255) & (inside == 0)
    assert change[inside == 1] / 254 == pytest.approx(0.82, abs=0.01)
    # Where both dates say the same, once they lie on each other, 2 x 0.9 x 0.1 is left.
    assert np.median(change[known]) / 254 == pytest.approx(0.18, abs=0.01)
    assert (change[known] > 128).mean() < 0.03
    with pytest.raises(UsageError, match="probabilities of both"):
        compare(
            Date(str(tmp_path / "a.gpkg")), Date(str(tmp_path / "b.gpkg")),
            tmp_path / "more.gpkg", raster=tmp_path / "more.tif",
        )  # fmt: skip
