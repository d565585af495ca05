"""What a model is validated on is what it will give: the same probabilities, blended alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geohr.api.memory import predict
from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.models.card import ClassLabel
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.scene import Scene
from geohr.stitching.mosaic import classify
from geohr.training import validate
from geohr.training.samples import Sample
from geohr.training.store import Store
from tests.makers import noise, one_class_card, random_model, write_scene


@pytest.mark.parametrize("several", [False, True])
def test_validation_sees_the_probabilities_of_a_segmented_scene(
    tmp_path: Path, several: bool
) -> None:
    card = one_class_card()
    if several:
        classes = (ClassLabel("road", "#000000"), ClassLabel("roof", "#ff0000"))
        card = one_class_card(classes=classes, background=True, threshold=None)
    pixels = noise(200, 170)
    pixels[:, 40:70, 30:90] = 0
    path = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    model = Model.load(random_model(tmp_path / "m.safetensors", card=card))
    options = SegmentOptions(backend="torch", gsd="native")
    scores = predict(path, model=model, options=options, progress=None).probabilities
    used = np.where(np.isnan(scores), NODATA, scores * PROBABILITY_MAX).round().astype(np.uint8)
    sample = Sample(Scene.open(path), None, "here", "validation", 0.5)
    found = np.zeros(used.shape[1:], np.uint8)
    seen = np.zeros(used.shape[1:], int)
    for window, values in validate.predict(
        model.network, card, sample, store=Store(), device="cpu"
    ):
        place = (slice(window.row, window.row_stop), slice(window.col, window.col_stop))
        found[place] = values
        seen[place] += 1
    assert (seen == 1).all()
    if several:
        assert (found == classify(used, None)).mean() > 0.99
    else:
        # Fused for prediction, a network rounds otherwise in the last bits.
        assert np.abs(found.astype(int) - used[0]).max() <= 1
