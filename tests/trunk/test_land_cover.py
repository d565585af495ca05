"""The bundled model of several classes, from a scene to a coverage of polygons."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest
import rasterio
import shapely

from geohr.api.segment import segment_to_files
from geohr.errors import UsageError
from geohr.models.model import Model
from geohr.options import SegmentOptions

SAMPLE = Path(__file__).parents[2] / "examples" / "data" / "kampala.tif"


def test_every_pixel_is_some_class_and_no_two_polygons_overlap(tmp_path: Path) -> None:
    outputs = [tmp_path / "cover.gpkg", tmp_path / "cover.tif"]
    options = SegmentOptions(gsd="0.5", simplify=1.0)
    with pytest.warns(UserWarning, match="model land_cover was trained on 0.5 to 1.2 m"):
        summary = segment_to_files(SAMPLE, outputs, model="land_cover", options=options)
    names = [label.name for label in Model.bundled("land_cover").card.classes]
    with rasterio.open(outputs[1]) as raster:
        classes = raster.read(1)
        valid = classes[classes != 255]
    assert valid.min() >= 1
    assert valid.max() <= len(names)
    found = geopandas.read_file(outputs[0], layer="cover")
    assert len(found) == summary.objects
    assert set(found["class"]) <= set(names)
    assert found["class"].nunique() >= 3
    shapes = found.geometry.values
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(shapely.area(shapes).sum())


def test_walls_are_not_drawn_where_classes_adjoin(tmp_path: Path) -> None:
    options = SegmentOptions(gsd="0.5", regularize=True)
    with pytest.raises(UsageError, match=r"regularize is .* land_cover has 5, .* use --simplify"):
        segment_to_files(SAMPLE, [tmp_path / "x.gpkg"], model="land_cover", options=options)
    assert not list(tmp_path.iterdir())
