"""Labels drawn in Chromium, by mouse and by keys, and kept whatever dies."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import pyogrio
import pytest
import shapely
from selenium.webdriver.common.action_chains import ActionChains

from geohr.viewer import page_server
from tests.view.browser import Page, chromium, process, serving
from tests.view.makers import write_result

SAMPLE = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def read(path: Path, layer: str = "labels") -> geopandas.GeoDataFrame:
    return pyogrio.read_dataframe(path, layer=layer, fid_as_index=True)


def click(page: Page, *places: tuple[float, float], shift: bool = False) -> None:
    """Click the map at longitudes and latitudes, as a mouse does."""
    size = page.run("const c = map.getCanvas(); return [c.clientWidth / 2, c.clientHeight / 2]")
    for place in places:
        x, y = page.run("const p = map.project(arguments[0]); return [p.x, p.y]", list(place))
        canvas = page.run("return map.getCanvas()")
        hand = ActionChains(page.driver, duration=0)
        hand.move_to_element_with_offset(canvas, x - size[0], y - size[1])
        if shift:
            hand.key_down("\ue008")
        hand.click()
        if shift:
            hand.key_up("\ue008")
        hand.perform()


def press(page: Page, *keys: str) -> None:
    """Type on the keyboard, wherever the focus is."""
    for key in keys:
        ActionChains(page.driver, duration=0).send_keys(key).perform()


def aim(page: Page, place: tuple[float, float]) -> None:
    """Move the cross to a place with the arrow keys alone: long steps, then single pixels."""
    x, y = page.run(
        "const p = map.project(arguments[0]); return [p.x - cross.x, p.y - cross.y]", list(place)
    )
    hand = ActionChains(page.driver, duration=0)
    for offset, back, on in ((x, "\ue012", "\ue014"), (y, "\ue013", "\ue015")):
        steps, pixels = divmod(round(abs(offset)), 10)
        key = on if offset > 0 else back
        hand.send_keys(*[key] * steps)
        hand.key_down("\ue008").send_keys(*[key] * pixels).key_up("\ue008")
    hand.perform()


def choose(page: Page, place: tuple[float, float]) -> None:
    """Choose the label at a place by the keyboard, once it is drawn."""
    page.idle()
    aim(page, place)
    press(page, " ")
    page.wait(lambda: bool(page.run("return edited !== null")), "its corners")


def look_at(page: Page, shape: Any) -> None:
    """Bring a shape into the middle of the map."""
    west, south, east, north = shape.bounds
    page.run(
        "map.fitBounds(arguments[0], {padding: 100, duration: 0})", [[west, south], [east, north]]
    )
    page.idle()


def kept(page: Page, count: int) -> Callable[[], bool]:
    return lambda: page.text("kept").startswith(f"{count} label")


def corners(shape: Any) -> list[tuple[float, float]]:
    return [(x, y) for x, y in shape.exterior.coords[:-1]]


@pytest.mark.full
def test_ten_buildings_are_labelled_though_page_and_server_die(page: Page, tmp_path: Path) -> None:
    truth = pyogrio.read_dataframe(SAMPLE / "kampala_buildings.gpkg").to_crs("OGC:CRS84")
    simple = [
        each.geoms[0] if each.geom_type == "MultiPolygon" else each for each in truth.geometry
    ]
    frame = shapely.box(*truth.total_bounds).buffer(-2e-5)
    wanted = [each for each in simple if len(each.exterior.coords) < 8 and frame.contains(each)][
        :10
    ]
    objects = tmp_path / "none.gpkg"
    truth.iloc[:1].to_file(objects, layer="objects")
    labels = tmp_path / "kampala.labels.gpkg"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    address = f"http://127.0.0.1:{port}/"
    done = 0

    def outline(shape: Any, *, sent: bool = True) -> None:
        nonlocal done
        look_at(page, shape)
        click(page, *corners(shape))
        press(page, "\ue007")
        done += 1
        if sent:
            page.wait(kept(page, done), f"{done} labels")

    with process(port, SAMPLE / "kampala.tif", objects):
        page.open(address)
        press(page, "2", "d")
        for shape in wanted[:4]:
            outline(shape)
        page.open(address)  # the page is loaded anew
        press(page, "2", "d")
        page.wait(kept(page, 4), "four labels")
        outline(wanted[4])
    outline(wanted[5], sent=False)  # the server was killed
    page.wait(lambda: "does not answer" in page.text("problem"), "a warning")
    outline(wanted[6], sent=False)
    assert len(read(labels)) == 5
    with process(port, SAMPLE / "kampala.tif", objects):
        page.wait(kept(page, 7), "what waited")
        page.wait(lambda: page.text("problem") == "", "no warning")
        outline(wanted[7])
    outline(wanted[8], sent=False)
    page.wait(lambda: "does not answer" in page.text("problem"), "a warning")
    page.driver.get("about:blank")  # and the page is closed while an outline waits
    with process(port, SAMPLE / "kampala.tif", objects):
        page.open(address)
        press(page, "2", "d")
        page.wait(lambda: page.run("return waiting.length") == 0, "what waited")
        page.wait(kept(page, 9), "nine labels")
        outline(wanted[9])
    found = read(labels).to_crs("OGC:CRS84").geometry.tolist()
    assert len(found) == 10
    for one, other in zip(found, wanted, strict=True):
        assert one.intersection(other).area > 0.95 * one.union(other).area
    page.driver.get_log("browser")  # requests to the dead server are no errors of the page


def test_the_keyboard_alone_draws_reshapes_splits_merges_and_undoes(
    page: Page, tmp_path: Path
) -> None:
    scene, objects = write_result(tmp_path, 4)
    labels = tmp_path / "scene.labels.gpkg"
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        press(page, "2")
        page.idle()
        west, north = page.run("const c = map.unproject([300, 150]); return [c.lng, c.lat]")
        east, south = page.run("const c = map.unproject([500, 350]); return [c.lng, c.lat]")
        press(page, "d")
        for corner in ((west, north), (east, north), (east, south), (west, south)):
            aim(page, corner)
            press(page, " ")
        press(page, "u", "U", "\ue007")  # the last corner off, on again, and done
        page.wait(kept(page, 1), "a label")
        drawn = read(labels).to_crs("OGC:CRS84").geometry.iloc[0]
        assert drawn.hausdorff_distance(shapely.box(west, south, east, north)) < (east - west) / 50
        # Chosen, and a corner moved to the middle of the lower side.
        press(page, "\ue00c")
        choose(page, ((west + east) / 2, (north + south) / 2))
        aim(page, (east, south))
        press(page, "g")
        aim(page, ((west + east) / 2, south))
        press(page, "g")
        page.wait(lambda: has_share(page, labels, drawn, 0.75), "a smaller label")
        press(page, "u")
        page.wait(lambda: has_share(page, labels, drawn, 1.0), "the label as it was")
        press(page, "U")
        page.wait(lambda: has_share(page, labels, drawn, 0.75), "the smaller one again")
        press(page, "u")
        page.wait(lambda: has_share(page, labels, drawn, 1.0), "the label as it was")
        # Cut in two, and joined again.
        choose(page, ((3 * west + east) / 4, (north + south) / 2))
        press(page, "s")
        for place in ((west - (east - west) / 4, (north + south) / 2),
                      (east + (east - west) / 4, (north + south) / 2)):  # fmt: skip
            aim(page, place)
            press(page, " ")
        press(page, "\ue007")
        page.wait(kept(page, 2), "two labels")
        middle = (west + east) / 2
        choose(page, (middle, (3 * north + south) / 4))
        aim(page, (middle, (north + 3 * south) / 4))
        ActionChains(page.driver).key_down("\ue008").send_keys(" ").key_up("\ue008").perform()
        page.wait(lambda: page.run("return picked.ids.length") == 2, "two chosen")
        press(page, "m")
        page.wait(kept(page, 1), "one label")
        page.wait(lambda: has_share(page, labels, drawn, 1.0), "the label as it was")
        page.wait(lambda: page.run("return edited !== null"), "its corners")
        press(page, "x")
        page.wait(kept(page, 0), "none")
        for count in (1, 2):
            press(page, "u")
            page.wait(kept(page, count), f"{count} labels")
        assert page.errors() == []


def has_share(page: Page, labels: Path, drawn: Any, share: float) -> bool:
    """Whether the first label is kept with a share of the area that was drawn."""
    if page.run("return waiting.length"):
        return False
    found = read(labels).to_crs("OGC:CRS84").geometry.iloc[0]
    return bool(abs(found.area / drawn.area - share) < 0.03)


@pytest.mark.full
def test_objects_are_copied_and_an_area_is_marked(page: Page, tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path)
    labels = tmp_path / "scene.labels.gpkg"
    with serving(page_server(scene, objects)) as address:
        page.open(address)
        press(page, "2")
        inside = page.run(
            "return [index.west[11], index.east[11], index.south[11], index.north[11]]"
        )
        page.idle()
        click(page, ((3 * inside[0] + inside[1]) / 4, (3 * inside[2] + inside[3]) / 4))
        page.wait(lambda: page.run("return chosen") == 12, "an object")
        press(page, "c")
        page.wait(kept(page, 1), "a label")
        press(page, "C")
        page.wait(kept(page, 25), "all")
        press(page, "C")
        page.wait(lambda: "a label already" in page.text("problem"), "a word")
        bounds = page.run("return map.getBounds().toArray()")
        (west, south), (east, north) = bounds
        press(page, "a")
        click(page, (0.9 * west + 0.1 * east, 0.9 * south + 0.1 * north))
        click(page, (0.1 * west + 0.9 * east, 0.1 * south + 0.9 * north))
        page.wait(lambda: "1 area labelled" in page.text("kept"), "an area")
        area = read(labels, "labelled").to_crs("OGC:CRS84").geometry.iloc[0]
        assert area.area == pytest.approx(0.64 * (east - west) * (north - south), rel=0.02)
        press(page, "\ue00c")
        page.idle()
        click(page, (0.9 * west + 0.1 * east, (south + north) / 2))
        page.wait(lambda: page.run("return picked.layer") == "labelled", "the area")
        press(page, "x")
        page.wait(lambda: "0 areas labelled" in page.text("kept"), "no area")
        assert len(read(labels)) == 25
