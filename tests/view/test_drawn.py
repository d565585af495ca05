"""Drawn polygons in a GeoPackage: each edit and its undo, and what other commands read of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import shapely.geometry

from geohr.errors import InputError, OutputError, UsageError
from geohr.geobox import Window
from geohr.scene import Scene
from geohr.scene.area import area_of
from geohr.scene.labels import read_vector
from geohr.scene.vectors import LABELLED, LABELS
from geohr.viewer import ObjectTable, page_server
from geohr.viewer.database import from_blob, to_blob
from geohr.viewer.drawn import DrawnLayer, DrawnPolygon, Edit
from tests.makers import ORIGIN, UTM
from tests.view.browser import process, serving
from tests.view.makers import write_result
from tests.view.test_server import Client


def square(col: float, row: float, side: float = 10.0) -> Any:
    """A square in metres from the scene's upper left corner, in degrees."""
    west, north = ORIGIN[0] + col, ORIGIN[1] - row
    box = geopandas.GeoSeries([shapely.box(west, north - side, west + side, north)], crs=UTM)
    return box.to_crs("OGC:CRS84").iloc[0]


@pytest.fixture
def layer(tmp_path: Path) -> DrawnLayer:
    return DrawnLayer(tmp_path / "labels.gpkg", LABELS, UTM)


def read(layer: DrawnLayer) -> geopandas.GeoDataFrame:
    return pyogrio.read_dataframe(layer.path, layer=layer.layer, fid_as_index=True)


def put(layer: DrawnLayer, *shapes: Any, name: str = "building") -> list[int]:
    return layer.apply(Edit([DrawnPolygon(None, each, {"class": name}) for each in shapes]))[1]


def test_a_label_is_kept_where_it_was_drawn(layer: DrawnLayer) -> None:
    assert layer.count() == 0
    assert layer.tile((0, 0, 1, 1)) == b""
    assert put(layer, square(10, 20)) == [1]
    kept = read(layer)
    assert kept["class"].tolist() == ["building"]
    assert kept.crs.to_epsg() == int(UTM.removeprefix("EPSG:"))
    wanted = shapely.box(ORIGIN[0] + 10, ORIGIN[1] - 30, ORIGIN[0] + 20, ORIGIN[1] - 20)
    assert kept.geometry.iloc[0].hausdorff_distance(wanted) < 1e-3
    # Other programs find it by its place, and know its bounds without reading it.
    assert len(pyogrio.read_dataframe(layer.path, layer=LABELS, bbox=wanted.bounds)) == 1
    told = pyogrio.read_info(layer.path, layer=LABELS)["total_bounds"]
    assert np.allclose(told, wanted.bounds, atol=1e-3)
    with closing(sqlite3.connect(layer.path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_every_edit_is_taken_back_and_done_again(layer: DrawnLayer) -> None:
    first, second = put(layer, square(0, 0), square(40, 0), name="shed")
    states = [read(layer)]
    line = shapely.LineString([square(-5, 4, 1).centroid, square(20, 5, 1).centroid])
    edits = []
    for change in (
        lambda: layer.apply(Edit([DrawnPolygon(first, square(1, 1), {"class": "house"})])),
        lambda: layer.split(first, line),
        lambda: layer.apply(Edit(drop=[second])),
        lambda: layer.merge(read(layer).index.tolist()),
    ):
        edits.append(change()[0])
        states.append(read(layer))
    assert [len(each) for each in states] == [2, 2, 3, 2, 1]
    assert states[-1].geometry.iloc[0].area == pytest.approx(100, abs=0.1)
    again = []
    for edit, before in zip(reversed(edits), reversed(states[:-1]), strict=True):
        again.append(layer.apply(edit)[0])
        assert_same(read(layer), before)
    for edit, after in zip(reversed(again), states[1:], strict=True):
        layer.apply(edit)
        assert_same(read(layer), after)


def assert_same(found: geopandas.GeoDataFrame, wanted: geopandas.GeoDataFrame) -> None:
    """Same numbers, classes and shapes, to a tenth of a millimetre."""
    assert found.index.tolist() == wanted.index.tolist()
    assert found["class"].tolist() == wanted["class"].tolist()
    pairs = zip(found.geometry, wanted.geometry, strict=True)
    assert all(one.hausdorff_distance(other) < 1e-4 for one, other in pairs)


def test_an_edit_that_fails_leaves_nothing(layer: DrawnLayer) -> None:
    (there,) = put(layer, square(0, 0))
    bow = shapely.Polygon([(32, 0), (32.001, 0.001), (32.001, 0), (32, 0.001)])
    with pytest.raises(UsageError, match="crosses itself"):
        layer.apply(Edit([DrawnPolygon(None, square(20, 0)), DrawnPolygon(None, bow)]))
    with pytest.raises(InputError, match="has no labels 99"):
        layer.apply(Edit([DrawnPolygon(None, square(20, 0))], [there, 99]))
    with pytest.raises(UsageError, match="no column colour"):
        layer.apply(Edit([DrawnPolygon(there, square(20, 0), {"colour": "red"})]))
    with pytest.raises(UsageError, match="does not cross"):
        layer.split(there, shapely.LineString([(0, 0), (1, 0)]))
    with pytest.raises(UsageError, match="more than 1 m apart"):
        layer.merge([there, *put(layer, square(30, 0))])
    with pytest.raises(UsageError, match="at least two"):
        layer.merge([there, there])
    assert len(read(layer)) == 2


def test_merging_closes_a_narrow_gap(layer: DrawnLayer) -> None:
    ids = put(layer, square(0, 0), square(10.6, 0))
    layer.merge(ids)
    assert read(layer).geometry.iloc[0].area == pytest.approx(206, abs=0.5)


def test_holes_that_a_new_outline_cuts_are_cut(layer: DrawnLayer) -> None:
    outer, hole = square(0, 0, 20), square(15, 5, 10)
    drawn = shapely.Polygon(outer.exterior, [hole.exterior])
    put(layer, drawn)
    assert read(layer).geometry.iloc[0].area == pytest.approx(350, abs=0.5)


def test_objects_of_the_map_are_copied_once(tmp_path: Path) -> None:
    _, result = write_result(tmp_path, 4)
    table = ObjectTable.open(result)
    layer = DrawnLayer(tmp_path / "labels.gpkg", LABELS, table.crs)
    undo, ids = layer.copy(table, [2, 3])
    assert undo.drop == ids
    shapes, names = table.shapes([2, 3])
    kept = read(layer)
    assert kept["class"].tolist() == names == ["building"] * 2
    assert all(
        one.hausdorff_distance(other) < 1e-3
        for one, other in zip(kept.geometry, shapes, strict=True)
    )
    assert layer.copy(table, [1, 2, 3, 4])[1] == [3, 4]


def test_labels_of_other_programs_keep_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gpkg"
    frame = geopandas.GeoDataFrame(
        {"storeys": [3], "note": ["old"]}, geometry=[square(0, 0)], crs="EPSG:4326"
    )
    frame.to_file(path, layer=LABELS)
    layer = DrawnLayer(path, LABELS, UTM)
    undo, _ = layer.apply(Edit(drop=[1]))
    layer.apply(undo)
    kept = read(layer)
    assert kept[["storeys", "note"]].to_numpy().tolist() == [[3, "old"]]
    put(layer, square(30, 0), name="shed")
    assert read(layer)["class"].fillna("").tolist() == ["", "shed"]
    assert read(layer).crs.to_epsg() == 4326


def test_a_file_that_another_program_holds_is_told(
    layer: DrawnLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(layer, square(0, 0))
    monkeypatch.setattr("geohr.viewer.database.WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(layer.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match="close other programs that hold the file"):
            put(layer, square(20, 0))
    layer.path.unlink()
    put(layer, square(20, 0))
    assert len(read(layer)) == 1


def test_geometries_are_read_as_gdal_writes_them() -> None:
    point, house = shapely.Point(1, 2), shapely.box(0, 0, 2, 1)
    assert from_blob(b"GP\0\x01\0\0\0\0" + shapely.to_wkb(point)).equals(point)
    assert from_blob(to_blob(house, 4326)).equals(house)
    with pytest.raises(ValueError, match="no geometry"):
        from_blob(b"no geometry at all")


def test_train_and_evaluate_read_labels_and_labelled_areas_of_one_file(tmp_path: Path) -> None:
    scene, result = write_result(tmp_path, 4)
    path = tmp_path / "scene.labels.gpkg"
    table = ObjectTable.open(result)
    area = DrawnLayer(path, LABELLED, table.crs)
    area.apply(Edit([DrawnPolygon(None, square(0, 0, 40))]))
    put(DrawnLayer(path, LABELS, table.crs), square(10, 10, 5))
    opened = Scene.open(scene)
    whole = Window(0, 0, opened.height, opened.width)
    labels = read_vector(str(path), opened, whole)
    inside = read_vector(str(path), opened, whole, prefer=LABELLED)
    assert ((labels == 1).sum(), (inside == 1).sum()) == (10 * 10, 80 * 80)
    assert area_of(opened.geobox, "scene", aoi=str(path), bbox=None).shape.area == pytest.approx(
        6400, rel=1e-3
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    scene, objects = write_result(tmp_path)
    with serving(page_server(scene, objects)) as address:
        yield Client(address, scene, objects)


def send(client: Client, body: Any, path: str = "/edit") -> tuple[int, Any]:
    status, _, text = client.ask(
        path, method="POST", body=json.dumps(body), Content_Type="application/json"
    )
    return status, json.loads(text)


def test_the_server_keeps_an_edit_and_says_how_to_take_it_back(client: Client) -> None:
    geometry = shapely.geometry.mapping(square(10, 10))
    drawn = {"id": None, "geometry": geometry, "properties": {"class": "building"}}
    status, told = send(client, {"layer": "labels", "put": [drawn], "drop": []})
    assert (status, told["ids"], told["count"]) == (200, [1], 1)
    one = json.loads(client.ask("/drawn/labels/1")[2])
    assert one["properties"] == {"class": "building"}
    zoom, col, row = tile_of(square(10, 10))
    before = client.ask(f"/drawn/labels/{zoom}/{col}/{row}")[2]
    assert before
    assert send(client, told["undo"])[1]["count"] == 0
    assert client.ask(f"/drawn/labels/{zoom}/{col}/{row}")[2] == b""
    assert client.ask("/drawn/labels/1")[0] == 404


def test_an_edit_that_is_sent_again_after_a_kill_is_kept_once(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    geometry = shapely.geometry.mapping(square(10, 10))
    drawn = {"id": None, "geometry": geometry, "properties": {"class": "building"}}
    edit = {"layer": "labels", "put": [drawn], "drop": []}
    # The server is killed after it has written, and its first answer may never have come.
    with process(0, scene, objects) as address:
        first = send(Client(address, scene, objects), edit)
    with process(0, scene, objects) as address:
        again = send(Client(address, scene, objects), edit)
    assert first == again
    assert (again[0], again[1]["count"], again[1]["undo"]["drop"]) == (200, 1, [1])
    assert len(pyogrio.read_dataframe(tmp_path / "scene.labels.gpkg", layer="labels")) == 1


def tile_of(shape: Any) -> tuple[int, int, int]:
    """Zoom, column and row of a tile that holds a shape's middle."""
    from morecantile import tms

    tile = tms.get("WebMercatorQuad").tile(shape.centroid.x, shape.centroid.y, 18)
    return tile.z, tile.x, tile.y


POLYGON = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 404),
        ({"layer": "houses", "put": [], "drop": []}, 404),
        ({"layer": "traced", "put": [], "drop": []}, 404),
        ({"layer": "labels"}, 400),
        ({"layer": "labels", "put": [{}], "drop": []}, 400),
        ({"layer": "labels", "put": [], "drop": ["1"]}, 400),
        ({"layer": "labels", "put": [], "drop": [True]}, 400),
        ({"layer": "labels", "put": [], "drop": [7]}, 404),
        ({"layer": "labels", "merge": [1]}, 400),
        ({"layer": "labels", "copy": [99]}, 404),
        ({"layer": "labels", "split": 1, "line": POLYGON}, 400),
        *(
            ({"layer": "labels", "put": [{"id": None, "geometry": each, "properties": {}}],
              "drop": []}, 400)
            for each in (
                None, {"type": "Point", "coordinates": [0, 0]}, {"type": "Polygon"},
                {"type": "Polygon", "coordinates": []},
                {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
                {"type": "Polygon", "coordinates": [[[0, 0], ["a", 1], [1, 1], [0, 0]]]},
                {"type": "Polygon", "coordinates": [[[0, 0], [900, 0], [1, 1], [0, 0]]]},
                {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
            )
        ),
        ({"layer": "labels", "put": [{"id": None, "geometry": POLYGON,
                                      "properties": {"class": ["a"]}}], "drop": []}, 400),
    ],
    ids=str,
)  # fmt: skip
def test_the_server_refuses_what_is_no_edit(client: Client, body: Any, status: int) -> None:
    got, told = send(client, body)
    assert (got, set(told)) == (status, {"error"})
    assert not (client.objects.with_name("scene.labels.gpkg")).exists() or (
        DrawnLayer(client.objects.with_name("scene.labels.gpkg"), LABELS, UTM).count() == 0
    )


def test_labels_are_drawn_into_the_layer_that_a_file_has(tmp_path: Path) -> None:
    scene, result = write_result(tmp_path, 4)
    theirs = tmp_path / "theirs.gpkg"
    frame = geopandas.GeoDataFrame(geometry=[square(0, 0)], crs="EPSG:4326")
    frame.to_file(theirs, layer="footprints")
    drawn = {"id": None, "geometry": POLYGON, "properties": {"class": "shed"}}
    with serving(page_server(scene, result, labels=theirs)) as address:
        client = Client(address, scene, result)
        told = send(client, {"layer": "labels", "put": [drawn], "drop": []})[1]
        assert (told["ids"], told["count"], told["undo"]["layer"]) == ([2], 2, "labels")
    assert pyogrio.list_layers(theirs)[:, 0].tolist() == ["footprints"]
    with pytest.raises(UsageError, match="GeoPackage"):
        page_server(scene, result, labels=tmp_path / "labels.json")


def test_without_a_sample_nothing_is_checked(client: Client) -> None:
    assert client.ask("/tasks")[0] == client.ask("/estimate")[0] == 404
    assert send(client, {"layer": "objects", "id": 1, "answer": 1}, "/answer")[0] == 404
