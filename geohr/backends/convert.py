"""Networks in the formats of the compiled engines. Needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import openvino
import torch
from torch.jit._trace import TracerWarning

from geohr.backends.scores import Scored
from geohr.model import Model


def to_openvino(model: Model, tile: int, path: Path) -> None:
    """Write the model for windows of one size as OpenVINO's IR, float32.

    Args:
        model: Network and card.
        tile: Side of a window in pixels.
        path: `*.xml`; the weights go to `*.bin` beside it.
    """
    shape = (1, len(model.card.bands), tile, tile)
    with warnings.catch_warnings():
        # Tracing warns of every size that becomes a constant; here all sizes are meant to.
        warnings.simplefilter("ignore", TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        network = openvino.convert_model(
            Scored.of(model), example_input=torch.zeros(shape), input=list(shape)
        )
    openvino.save_model(network, path, compress_to_fp16=False)
