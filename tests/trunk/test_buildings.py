"""The bundled building models on the sample scene."""

from __future__ import annotations

from pathlib import Path

import pytest

from geohr.api.segment import segment_to_files
from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.models.model import Model

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.mark.parametrize("name", ["buildings", "buildings_lite0"])
def test_a_bundled_model_finds_the_houses_of_the_sample(name: str, tmp_path: Path) -> None:
    out = tmp_path / "found.gpkg"
    segment_to_files(DATA / "kampala.tif", [out], model=name)
    options = EvaluateOptions(replicates=0)
    scores = evaluate(out, DATA / "kampala_buildings.gpkg", options=options).scores
    assert scores["iou"] > 0.6
    assert scores["object_f1"] > 0.55


def test_the_card_of_the_second_names_the_weights_that_it_began_with() -> None:
    model = Model.bundled("buildings_lite0")
    assert model.card.readings
    (encoder,) = [each for each in model.card.sources if "EfficientNet-Lite0" in each.name]
    assert encoder.licence == "Apache-2.0"
