"""The page about a run."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from geohr.api.segment import segment_to_files
from geohr.errors import UsageError
from geohr.options import SegmentOptions
from geohr.outputs.layers import CONFIDENCE_COLOURS
from geohr.scene import Scene
from geohr.viewer import ObjectTable
from geohr.viewer.report import ResultLayer, draw, histogram, write_report
from geohr.viewer.review import keep_review
from tests.makers import UTM, noise, one_class_card, random_model, write_scene
from tests.view.makers import houses, read_houses, write_result


def facts(page: Path) -> dict[str, str]:
    """Names and values of all tables."""
    rows = re.findall(r"<th scope='row'>(.*?)</th><td>(.*?)</td>", page.read_text("utf-8"))
    return {unescape(name): unescape(value) for name, value in rows}


def test_it_tells_what_was_found_and_by_what(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path)
    keep_review(ObjectTable.open(objects), 1, "accepted")
    write_report(scene, objects, tmp_path / "r.html")
    told = facts(tmp_path / "r.html")
    polygons = houses(25)
    area = polygons.columns["area_m2"].sum()
    assert told["Objects"] == "25"
    assert told["Area of all objects"] == f"{area:,.0f} m²"
    assert told["Share of the scene's area"] == f"{area / 120**2:.1%}"
    assert told["Ground sampling distance"] == "0.5 m"
    assert told["Median confidence"] == f"{np.median(polygons.columns['confidence']):.2f}"
    assert told["Reviewed"] == "1 accepted, 0 rejected"
    assert told["--threshold"] == "0.5"
    assert told["Name"] == "tiny 1"
    assert "not at hand" in told["Card"]
    assert "Windows" not in told


def test_a_run_at_hand_tells_its_time_and_the_model_its_card(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(100, 120))
    card = one_class_card(threshold=0.5, notes="<b>bold</b>")
    from geohr.models.model import Model

    model = Model.load(random_model(tmp_path / "model.safetensors", card=card))
    out = tmp_path / "a.gpkg"
    summary = segment_to_files(
        scene, [out], model=model, options=SegmentOptions(backend="torch", min_area=0.0)
    )
    write_report(scene, out, tmp_path / "r.html", model=model, summary=summary)
    told = facts(tmp_path / "r.html")
    assert told["Objects"] == f"{summary.objects:,}"
    assert told["Windows"] == f"{summary.predicted} predicted of {summary.windows}"
    assert told["SHA-256"] == model.digest
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold" not in text
    assert not re.search(r"(src|href)=['\"]https?:", text)


def test_outlines_are_drawn_where_they_are_in_their_colours(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "s.tif", noise(240, 240)))
    polygons = houses(25)
    confidence = np.full(25, 0.95)
    none = np.full(25, None, object)
    found = ResultLayer(polygons.geometry, none, confidence, confidence, none, {})
    blank = np.zeros((240, 240, 4), np.uint8)
    bounds = (450_000.0, 39_880.0, 450_120.0, 40_000.0)
    drawn = draw(blank, bounds, found, UTM, scene)
    coloured = drawn[..., 3] > 0
    colour = bytes.fromhex(CONFIDENCE_COLOURS[-1][1].removeprefix("#"))
    assert (drawn[coloured] == (*colour, 255)).all()
    x, y = polygons.geometry[7].exterior.coords[0]
    assert coloured[int((40_000 - y) * 2), int((x - 450_000) * 2)]
    assert not coloured[:, 122:].any()


def test_no_objects_make_a_page_too(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 0)
    write_report(scene, objects, tmp_path / "r.html")
    assert facts(tmp_path / "r.html")["Objects"] == "0"
    assert histogram(np.array([np.nan])) == "<p>The objects carry no confidence.</p>"


def test_text_for_confidence_is_no_confidence(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 2)
    frame = read_houses(objects)
    frame["confidence"] = ["high", "0.75"]
    frame["area_m2"] = ["large", "12"]
    pyogrio.write_dataframe(frame, tmp_path / "text.gpkg", layer="houses")
    write_report(scene, tmp_path / "text.gpkg", tmp_path / "r.html")
    told = facts(tmp_path / "r.html")
    assert told["Median confidence"] == "0.75"
    assert told["Area of all objects"] == "12 m²"


def test_only_a_geopackage_is_reported_on(tmp_path: Path) -> None:
    scene, _ = write_result(tmp_path, 4)
    with pytest.raises(UsageError, match="convert with ogr2ogr"):
        write_report(scene, tmp_path / "a.geojson", tmp_path / "r.html")
