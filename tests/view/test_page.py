"""The page in Chromium: what is drawn, what the slider does, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from geohr.scene import Scene
from geohr.viewer import ObjectTable, page_server, write_page
from tests.makers import write_scene
from tests.view.browser import Page, chromium, serving
from tests.view.makers import houses, read_houses, write_objects, write_result


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_map_is_drawn_and_the_slider_filters(page: Page, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.full((3, 240, 240), 40, np.uint8))
    objects = write_objects(tmp_path / "houses.gpkg", houses(25))
    confidence = np.round(read_houses(objects)["confidence"].to_numpy(), 3)
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        assert page.text("title") == "scene.tif"
        lowest = np.floor(confidence.min() * 20) / 20
        assert page.text("count") == f"25 of 25 objects from {lowest:.2f}"
        slider = "const s = document.getElementById('threshold'); return [s.min, s.value]"
        assert [float(each) for each in page.run(slider)] == [lowest, lowest]
        drawn = "return map.queryRenderedFeatures({layers: ['objects-fill']}).map(f => f.id)"
        assert set(page.run(drawn)) == set(range(1, 26))
        page.slide(0.75)
        left = int((confidence >= 0.75).sum())
        assert 0 < left < 25
        assert page.text("count") == f"{left} of 25 objects from 0.75"
        page.idle()
        page.wait(lambda: len(set(page.run(drawn))) == left, "a filtered map")
        page.slide(1.0)
        page.wait(lambda: page.run(drawn) == [], "an empty map")
        page.idle()
        # Nothing but the scene, in its own colour, and nothing beyond it.
        assert page.pixel(0.5, 0.5) == (40, 40, 40)
        assert page.pixel(0.02, 0.5) == (216, 216, 216)
        assert page.errors() == []


def test_a_review_is_kept_and_there_after_a_restart(page: Page, tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path)
    frame = read_houses(objects)
    order = np.round(frame["confidence"], 3).sort_values(kind="stable").index.tolist()
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        page.click("next")
        page.wait(
            lambda: f"fid\n{order[0]}" in page.text("attributes").replace(" ", "\n"), "the doubtful"
        )
        page.click("accept")
        page.wait(lambda: page.text("reviewed").startswith("1 accepted, 0"), "a review")
        page.wait(lambda: page.run("return chosen") == order[1], "the next object")
        page.click("reject")
        page.wait(lambda: page.text("reviewed").startswith("1 accepted, 1"), "a review")
        page.click("accept")
        page.wait(lambda: page.text("reviewed").startswith("2 accepted, 1"), "a review")
        kept = read_houses(objects)["review"].dropna()
        assert kept.to_dict() == {
            order[0]: "accepted", order[1]: "rejected", order[2]: "accepted",
        }  # fmt: skip
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        assert page.text("reviewed") == "2 accepted, 1 rejected, 22 to go"
        page.click("next")
        page.wait(lambda: page.run("return chosen") == order[3], "the next one open")
        assert page.errors() == []


def test_undo_takes_the_last_decision_back_and_goes_there(page: Page, tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path)
    frame = read_houses(objects)
    order = np.round(frame["confidence"], 3).sort_values(kind="stable").index.tolist()
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        disabled = "return document.getElementById('undo').disabled"
        assert page.run(disabled)
        page.click("next")
        for place, button in enumerate(("accept", "reject"), start=1):
            page.click(button)
            page.wait(lambda at=place: page.run("return chosen") == order[at], "the next object")
        page.click("undo")
        page.wait(lambda: page.run("return chosen") == order[1], "the object rejected by mistake")
        assert page.text("reviewed") == "1 accepted, 0 rejected, 24 to go"
        page.click("accept")
        page.wait(lambda: page.text("reviewed").startswith("2 accepted, 0"), "another decision")
        for place in (1, 0):
            page.click("undo")
            page.wait(lambda at=place: page.run("return chosen") == order[at], "the one before")
        assert page.text("reviewed") == "0 accepted, 0 rejected, 25 to go"
        assert page.run(disabled)
        assert read_houses(objects)["review"].isna().all()
        assert page.errors() == []


def test_slider_and_legend_begin_where_objects_do(page: Page, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.full((3, 240, 240), 40, np.uint8))
    polygons = houses(25)
    polygons.columns["confidence"][:] = np.linspace(0.72, 0.86, 25)
    objects = write_objects(tmp_path / "houses.gpkg", polygons)
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        assert page.text("count") == "25 of 25 objects from 0.70"
        legend = page.text("legend").splitlines()
        assert legend == ["0.7 and more", "0.8 and more", "accepted", "rejected"]
        bars = page.run(
            "return [...document.querySelectorAll('#histogram rect')]"
            ".map(r => r.height.baseVal.value)"
        )
        assert np.flatnonzero(bars).min() <= 3


def test_objects_without_confidence_can_be_reviewed(page: Page, tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    bare = tmp_path / "bare.gpkg"
    pyogrio.write_dataframe(read_houses(objects)[["geometry"]], bare, layer="houses")
    with serving(page_server(scene, bare)) as address:
        page.open(address)
        assert page.text("count").startswith("4 of 4 objects")
        assert not page.driver.find_element("id", "filter").is_displayed()
        page.click("next")
        page.wait(lambda: page.run("return chosen") == 1, "the first object")
        page.click("reject")
        page.wait(lambda: page.text("reviewed") == "0 accepted, 1 rejected, 3 to go", "a review")
        assert page.errors() == []


@pytest.mark.parametrize(
    "green",
    [
        (124, 179, 66),
        pytest.param((26, 127, 55), marks=pytest.mark.full),
        pytest.param((90, 140, 60), marks=pytest.mark.full),
    ],
)
def test_outlines_are_seen_on_fields_of_their_own_colour(
    page: Page, tmp_path: Path, green: tuple[int, int, int]
) -> None:
    field = np.broadcast_to(np.array(green, np.uint8)[:, None, None], (3, 240, 240))
    scene = write_scene(tmp_path / "scene.tif", field)
    polygons = houses(4, spacing=60.0)
    polygons.columns["confidence"][:] = (0.85, 0.95, 0.85, 0.95)
    objects = write_objects(tmp_path / "houses.gpkg", polygons)
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        page.click("outlines")
        page.idle()
        shown = page.picture().astype(int)
        away = np.abs(shown - np.array(green)).max(axis=2)
        assert (away[100:-100, 250:-250] > 80).sum() > 1000


def test_a_click_shows_attributes_and_the_swipe_hides_objects(page: Page, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.full((3, 240, 240), 40, np.uint8))
    objects = write_objects(tmp_path / "houses.gpkg", houses(100))
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        middle = page.run(
            "const i = index.id.indexOf(45), m = map.project([(index.west[i] + index.east[i]) / 2,"
            "(index.south[i] + index.north[i]) / 2]);"
            "map.fire('click', {point: new maplibregl.Point(m.x - 3, m.y + 3)}); return [m.x, m.y]"
        )
        page.wait(lambda: "building" in page.text("attributes"), "attributes")
        assert "fid 45" in page.text("attributes")
        width, height = page.run(
            "return [map.getCanvas().clientWidth, map.getCanvas().clientHeight]"
        )
        x, y = (middle[0] - 3) / width, (middle[1] + 3) / height
        page.run("choose(null)")
        page.idle()
        assert page.pixel(x, y) != (40, 40, 40)
        page.click("compare")
        page.run("placeSwipe(1)")
        page.wait(lambda: bool(page.run("return plain.loaded()")), "the plain map")
        page.wait(lambda: page.pixel(x, y) == (40, 40, 40), "the image alone")
        page.run("placeSwipe(0)")
        assert page.pixel(x, y) != (40, 40, 40)
        assert page.errors() == []


def test_one_file_shows_everything_without_a_server(page: Page, tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path)
    out = tmp_path / "page.html"
    write_page(Scene.open(scene), ObjectTable.open(objects), out)
    assert "http-equiv" not in out.read_text("utf-8")
    page.open(out.as_uri())
    assert page.text("count").startswith("25 of 25 objects from 0.")
    assert (
        len(
            set(
                page.run(
                    "return map.queryRenderedFeatures({layers: ['objects-fill']}).map(f => f.id)"
                )
            )
        )
        == 25
    )
    page.slide(0.99)
    page.wait(lambda: page.text("count").endswith("from 0.99"), "a count")
    page.slide(0)
    page.click("next")
    page.wait(lambda: "building" in page.text("attributes"), "attributes")
    assert page.run("return document.getElementById('accept').disabled")
    fetched = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [each for each in fetched if not each.startswith(("data:", "blob:"))] == []
    assert page.errors() == []


def test_names_from_files_are_text_and_not_markup(page: Page, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "<b>scene<script>.tif", np.full((3, 60, 60), 40, np.uint8))
    polygons = houses(4)
    polygons.columns["class"][:] = "</script><img src=x onerror=alert(1)>"
    objects = write_objects(tmp_path / "a.gpkg", polygons)
    out = tmp_path / "page.html"
    write_page(Scene.open(scene), ObjectTable.open(objects), out)
    page.open(out.as_uri())
    assert page.text("title") == "<b>scene<script>.tif"
    page.click("next")
    page.wait(lambda: "onerror" in page.text("attributes"), "attributes")
    assert page.run("return document.images.length") == 0
