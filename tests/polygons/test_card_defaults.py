"""Outlines as the model card wants them where nothing is asked for."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest

from geohr.api.segment import segment_to_files
from geohr.options import SegmentOptions
from tests.command import Geohr
from tests.makers import noise, one_class_card, random_model, write_scene


@pytest.mark.parametrize(("crs", "walls"), [("EPSG:32636", True), (None, False)])
def test_the_card_says_how_outlines_are_drawn(crs: str | None, walls: bool, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(96, 80), crs=crs)
    card = one_class_card(regularize=True, outline="contour", threshold=0.012)
    model = random_model(tmp_path / "model.safetensors", card=card)
    vertices = {}
    for name, regularize in (("card", None), ("plain", False)):
        out = tmp_path / f"{name}.gpkg"
        options = SegmentOptions(
            gsd="native", tile=64, backend="torch", connectivity=4, regularize=regularize
        )
        segment_to_files(scene, [out], model=model, options=options)
        vertices[name] = geopandas.read_file(out, layer=name)["vertices"].sum()
    assert (vertices["card"] < vertices["plain"]) == walls


def test_a_card_names_an_outline_that_there_is() -> None:
    with pytest.raises(ValueError, match="outline cannot be 'round'"):
        one_class_card(outline="round")


def test_the_command_has_both_flags(geohr: Geohr) -> None:
    said = geohr("segment", "--help").out
    assert "--regularize / --no-regularize" in said
