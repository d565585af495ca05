"""OpenVINO: the fastest engine on CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from geohr.backends.cache import cached
from geohr.model import Model
from geohr.options import EngineOptions
from geohr.predictor import Batch

HINTS = {"float32": "f32", "bfloat16": "bf16"}
"""What OpenVINO calls a number format."""
NETWORK = "network.xml"


class OpenVINOPredictor:
    """A compiled network, one window a request and one request a stream.

    A stream computes on one core, so that a window's scores do not depend on how many cores there
    are, nor on the windows beside it.

    Args:
        compiled: The network for one window.
        streams: Windows at once.
        engine: For provenance.
    """

    def __init__(self, compiled: Any, *, streams: int, engine: str) -> None:
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._output = tuple(compiled.output(0).shape)
        self.batch = streams
        self.engine = engine

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        for request, window in zip(self._requests, pixels, strict=True):
            request.start_async({0: window[None]}, share_inputs=True)
        scores = np.empty((len(pixels), *self._output[1:]), np.float32)
        for request, target in zip(self._requests, scores, strict=True):
            request.wait()
            target[...] = request.get_output_tensor().data[0]
        return scores


def open_engine(model: Model, tile: int, options: EngineOptions) -> OpenVINOPredictor:
    """The model on OpenVINO, from the cache where it is there.

    Raises:
        InputError: When the model's weights cannot be used.
        OutputError: When the cache cannot be written.
    """
    streams = options.batch or os.cpu_count() or 1
    key = {
        "backend": "openvino",
        "version": openvino.__version__,
        "model": model.digest,
        "shape": [1, len(model.card.bands), tile, tile],
        "precision": options.precision,
    }

    def build(folder: Path) -> None:
        from geohr.backends.convert import to_openvino

        folder.mkdir()
        to_openvino(model, tile, folder / NETWORK)

    def load(folder: Path) -> Any:
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(folder)})
        return core.compile_model(
            folder / NETWORK,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": HINTS[options.precision],
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
            },
        )

    compiled = cached(key, build, load)
    version = openvino.__version__.split("-")[0]
    return OpenVINOPredictor(
        compiled, streams=streams, engine=f"openvino {version} {options.precision} on cpu"
    )
