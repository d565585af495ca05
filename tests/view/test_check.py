"""A sample judged in Chromium, as a person with a keyboard does, and the estimate that follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from geohr.errors import InputError, UsageError
from geohr.viewer import page_server
from geohr.viewer.tasks import Tasks
from geohr.workflows.check.estimate import estimate
from geohr.workflows.check.options import SampleOptions
from geohr.workflows.check.sample import draw_sample
from tests.view.browser import Page, chromium, serving
from tests.view.makers import write_result
from tests.view.test_label import aim, press


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def sample(folder: Path, count: int = 25) -> tuple[Path, Path, Path]:
    """A scene, a map of it, and a sample of that."""
    scene, objects = write_result(folder, count)
    probabilities = folder / "probs.tif"
    with rasterio.open(scene) as read:
        profile = {**read.profile, "count": 1, "dtype": "uint8", "nodata": 255}
        values = np.random.default_rng(1).integers(0, 60, read.shape).astype(np.uint8)
    with rasterio.open(probabilities, "w", **profile) as out:
        out.write(values, 1)
    drawn = folder / "check.gpkg"
    draw_sample(objects, probabilities, drawn, options=SampleOptions(minutes=1))
    return scene, objects, drawn


def answers(path: Path, layer: str) -> dict[int, float]:
    frame = pyogrio.read_dataframe(path, layer=layer, fid_as_index=True)
    found: dict[int, float] = frame["answer"].dropna().to_dict()
    return found


def test_tasks_come_in_rounds_of_objects_and_places(tmp_path: Path) -> None:
    _, _, drawn = sample(tmp_path)
    tasks = Tasks.open(drawn)
    listed = tasks.listed()
    counts = [len(pyogrio.read_dataframe(drawn, layer=layer)) for layer in ("objects", "places")]
    assert len(listed) == sum(counts)
    # Whoever stops early has judged some of both.
    assert {each["layer"] for each in listed[: len(listed) // 4]} == {"objects", "places"}
    for layer in ("objects", "places"):
        turns = pyogrio.read_dataframe(drawn, layer=layer, fid_as_index=True)["turn"]
        order = [each["id"] for each in listed if each["layer"] == layer]
        assert turns[order].is_monotonic_increasing
    assert {each["geometry"]["type"] for each in listed} == {"MultiPolygon"}
    tasks.keep("places", 2, 1)
    tasks.keep("objects", 1, 0)
    tasks.keep("objects", 1, None)
    assert (answers(drawn, "places"), answers(drawn, "objects")) == ({2: 1.0}, {})
    with pytest.raises(InputError, match="has no places 999"):
        tasks.keep("places", 999, 1)
    for layer, answer in (("traced", 1), ("places", 2)):
        with pytest.raises(UsageError, match="an answer is 1, 0 or null"):
            tasks.keep(layer, 1, answer)


def test_what_is_no_sample_is_told(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    for path in (objects, tmp_path / "none.gpkg", scene):
        with pytest.raises(InputError, match="draw one with geohr check sample"):
            Tasks.open(path)


def test_a_session_by_keyboard_is_estimated(page: Page, tmp_path: Path) -> None:
    scene, objects, drawn = sample(tmp_path)
    with serving(page_server(scene, objects, check=drawn)) as address:
        page.open(address)
        press(page, "3")
        page.wait(lambda: page.text("judged").startswith("0 of"), "tasks")
        total = len(Tasks.open(drawn).listed())
        given = 0

        def judged() -> bool:
            return page.text("judged").startswith(f"{given} of {total}")

        while page.run("return tasks[asked].layer") == "objects":
            assert "one object that this outline shows" in page.text("asked")
            press(page, "n" if given == 0 else "y")
            given += 1
            page.wait(judged, "an answer")
        assert "in this square" in page.text("asked")
        place = page.run("return tasks[asked].id")
        press(page, "y")
        given += 1
        page.wait(lambda: "Trace" in page.text("asked"), "the outline to trace")
        # The first outline's tiles come so late that another one is begun meanwhile.
        page.run(
            "window.fetchTiles = refresh; window.late = [];"
            "refresh = (...of) => new Promise((go) => late.push(() => fetchTiles(...of).then(go)))"
        )
        trace(page)
        page.wait(lambda: page.run("return given.at(-1).traced.length") == 1, "the outline")
        press(page, "s")
        page.wait(lambda: page.run("return tasks[asked].id") != place, "the next place")
        assert answers(drawn, "places") == {place: 1.0}
        assert len(pyogrio.read_dataframe(drawn, layer="traced")) == 1
        press(page, "u")
        given -= 1
        page.wait(judged, "an answer taken back")
        page.wait(lambda: page.run("return tasks[asked].id") == place, "the place")
        page.wait(lambda: not len(pyogrio.read_dataframe(drawn, layer="traced")), "no outline")
        press(page, "y")
        given += 1
        page.wait(lambda: "Trace" in page.text("asked"), "the outline to trace")
        page.run("refresh = fetchTiles; return Promise.all(late.map((go) => go()))")
        trace(page)
        page.wait(lambda: page.run("return given.at(-1).traced.length") == 1, "the outline")
        press(page, "s")
        page.wait(lambda: page.run("return tasks[asked].id") != place, "the next place")
        press(page, "n")
        given += 1
        page.wait(judged, "an answer")
        press(page, "e")
        page.wait(lambda: "precision" in page.text("estimated"), "an estimate")
        told = estimate(drawn)
        assert page.text("estimated").splitlines() == told.describe().splitlines()
        assert told.missed.value > 0
        page.open(address)
        press(page, "3")
        page.wait(judged, "the answers of before")
        assert page.errors() == []


def trace(page: Page) -> None:
    """Draw a triangle round the place in the middle of the map."""
    size = page.run("const c = map.getCanvas(); return [c.clientWidth / 2, c.clientHeight / 2]")
    for x, y in ((-60, -60), (60, -60), (0, 80)):
        place = page.run(
            "const p = map.unproject(arguments[0]); return [p.lng, p.lat]",
            [size[0] + x, size[1] + y],
        )
        aim(page, place)
        press(page, " ")
    press(page, "\ue007")
