"""Warnings name the line of the user's own code, however deep inside they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from geohr.api.memory import predict
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model
from geohr.options import SegmentOptions
from tests.makers import Constant, noise, one_class_card, random_model, write_scene


def test_a_warning_is_of_the_line_that_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geohr.inference.executor.open_predictor", lambda *_, **__: Constant(0.5))
    scene = write_scene(tmp_path / "scene.tif", noise(40, 40), crs=None)
    model = random_model(tmp_path / "m.safetensors", card=one_class_card(min_area=4.0))
    with pytest.warns(UserWarning, match="has no CRS") as shallow:
        prepare(scene, Model.load(model), SegmentOptions(), LocalExecutor())
    with pytest.warns(UserWarning, match="has no CRS") as deep:
        predict(scene, model=model)
    assert {shallow[0].filename, deep[0].filename} == {__file__}
