"""Two dates in Chromium: a divider between them, and what changed coloured by kind."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from geohr.errors import UsageError
from geohr.viewer import page_server
from geohr_cli.view import view
from tests.makers import ORIGIN, UTM, write_scene
from tests.view.browser import chromium, serving

KINDS = ("new", "gone", "same", "same")


def write_changes(path: Path) -> Path:
    """Changes as `geohr change` lays them out: other layers come first."""
    west, north = ORIGIN
    boxes = [
        shapely.box(west + 20 + 20 * at, north - 60, west + 30 + 20 * at, north - 50)
        for at in range(len(KINDS))
    ]
    frame = geopandas.GeoDataFrame(
        {"change": KINDS, "confidence": [0.9, 0.8, 0.95, 0.99]}, geometry=boxes, crs=UTM
    )
    frame[["geometry"]].iloc[:1].to_file(path, layer="before")
    frame.to_file(path, layer="changes")
    return path


def test_both_dates_are_shown_with_changes_by_kind(tmp_path: Path) -> None:
    before = write_scene(tmp_path / "before.tif", np.full((3, 240, 240), 40, np.uint8))
    after = write_scene(tmp_path / "after.tif", np.full((3, 240, 240), 200, np.uint8))
    changes = write_changes(tmp_path / "changes.gpkg")
    server = page_server(after, changes, before=before)
    with serving(server) as address, chromium(tmp_path / "profile") as page:
        page.open(address)
        assert page.text("legend").splitlines()[:3] == ["gone: 1", "new: 1", "same: 2"]
        assert (page.text("left"), page.text("right")) == ("before.tif", "after.tif")
        page.wait(lambda: bool(page.run("return plainReady && plain.loaded()")), "both dates")
        page.idle()
        page.wait(lambda: page.pixel(0.45, 0.9) == (40, 40, 40), "the date before")
        assert page.pixel(0.55, 0.9) == (200, 200, 200)
        drawn = (
            "return arguments[0].map(m => [map, plain][m].queryRenderedFeatures("
            "{layers: ['objects-fill']}).length)"
        )
        page.wait(lambda: page.run(drawn, [0, 1]) == [4, 4], "changes on both")
        page.run("placeSwipe(1)")
        page.wait(lambda: page.pixel(0.55, 0.9) == (40, 40, 40), "the date before alone")
        page.click("compare")
        page.wait(lambda: page.pixel(0.45, 0.9) == (200, 200, 200), "the later date alone")
        # A change is reviewed as any object is.
        page.click("next")
        page.wait(lambda: "gone" in page.text("attributes"), "the least sure")
        page.click("accept")
        page.wait(lambda: page.text("reviewed").startswith("1 accepted"), "a review")
        kept = pyogrio.read_dataframe(changes, layer="changes", fid_as_index=True)
        assert kept["review"].dropna().to_dict() == {2: "accepted"}
        assert page.errors() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.tif", "b.tif", "c.tif", "d.gpkg"], "3 rasters"),
        (["a.tif", "b.tif", "c.gpkg", "--html", "d.html"], "leave out --html"),
    ],
)
def test_too_much_is_refused_in_one_line(words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        view.main(words, standalone_mode=False)
