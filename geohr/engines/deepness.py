"""ONNX files for Deepness, GeoDeep and WebODM, which do less of the work outside of the network.

They hand over a scene's values divided by 255 and take the likeliest channel, of which the first
is the background. So normalisation and threshold are inside the file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from geohr._runtime.messages import first_line
from geohr.encoding import Batch
from geohr.engines.cores import Shape
from geohr.engines.torch import ScoreNetwork
from geohr.errors import EngineError, UsageError
from geohr.models.card import Card
from geohr.models.metadata import to_deepness
from geohr.models.model import Model

BYTE = 255.0
"""By what these tools divide a scene's values."""
OPSET = 17
"""The newest that the ONNX Runtime inside QGIS 3's plugins reads for certain."""
IR_VERSION = 9
"""Of the file; older ONNX Runtimes refuse the 10 that torch writes and does not need."""
INPUT, OUTPUT = "input", "output"


class DeepnessNetwork(nn.Module):
    """Values divided by 255 to a background and scores, the likeliest of which is meant."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        card = model.card
        self.scores = ScoreNetwork.of(model)
        self.threshold = card.threshold
        self.rest = card.background
        scale, offset = affine(card)
        # Parameters only for their kind: no step is ever made.
        self.scale = nn.Parameter(torch.from_numpy(scale), requires_grad=False)
        self.offset = nn.Parameter(torch.from_numpy(offset), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map `(n, band, row, col)` in [0, 1] to `(n, 1 + class, row, col)`."""
        scores = self.scores(pixels * self.scale + self.offset)
        if self.threshold is not None:
            # What a class must exceed to be the likeliest.
            background = torch.full_like(scores[:, :1], self.threshold)
        elif self.rest:
            background = 1 - scores.sum(dim=1, keepdim=True)
        else:
            background = torch.zeros_like(scores[:, :1])
        return torch.cat([background, scores], dim=1)


def affine(card: Card) -> tuple[Batch, Batch]:
    """Factor and summand, `(1, band, 1, 1)`, from values divided by 255 to normalised ones."""
    low, high = card.range
    shape = (1, -1, 1, 1)
    mean, std = (np.array(each, np.float64).reshape(shape) for each in (card.mean, card.std))
    scale = BYTE / ((high - low) * std)
    offset = -(low / (high - low) + mean) / std
    return scale.astype(np.float32), offset.astype(np.float32)


class DeepnessPredictor:
    """A file for Deepness, asked as these tools ask it, for comparison with the network."""

    workers = 1

    def __init__(self, path: Path, card: Card, *, batch: int) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._scale, self._offset = affine(card)
        self.batch = batch
        self.engine = f"onnxruntime {onnxruntime.__version__} float32 on cpu"

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        given = (pixels - self._offset) / self._scale
        scores: Batch = self._session.run([OUTPUT], {INPUT: given})[0]
        return np.ascontiguousarray(scores[:, 1:])


def write(model: Model, shape: Shape, path: Path, *, opset: int | None) -> DeepnessPredictor:
    """Write the `*.onnx` and read it back, for batches of one shape; see `convert.to_onnx`.

    Raises:
        EngineError: When onnx is missing or the network cannot be converted.
        UsageError: For a model of other values than from 0 to 255, which these tools hand over.
    """
    card = model.card
    if card.dtype != "uint8":
        raise UsageError(f"these tools hand over bytes; model {card.name!r} expects {card.dtype}")
    try:
        import onnx
    except ImportError as error:
        raise EngineError("ONNX needs onnx; pip install 'geohr[onnx]'") from error
    with warnings.catch_warnings():
        # The older exporter writes older operators; the newer one only from 18 on.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                DeepnessNetwork(model).eval(),
                (torch.zeros(shape),),
                path,
                dynamo=False,
                opset_version=opset or OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
        except (RuntimeError, ValueError) as error:
            line = first_line(error)
            raise EngineError(f"model {card.name!r} cannot be converted ({line})") from error
    file = onnx.load(path)
    file.ir_version = min(file.ir_version, IR_VERSION)
    onnx.helper.set_model_props(file, to_deepness(card, shape[-1]))
    onnx.save(file, path)
    return DeepnessPredictor(path, card, batch=shape[0])
