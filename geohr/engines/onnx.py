"""ONNX Runtime: nearly as fast on CPUs, and installed in more places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from geohr.encoding import Batch
from geohr.engines.compiled import Compiler
from geohr.engines.cores import PIXELS, SCORES, Shape
from geohr.models.model import Model

# ONNX Runtime's name for: log errors only.
WARNINGS_OFF = 3


class OnnxPredictor:
    """A session in which each worker computes on one core.

    Args:
        session: The network for one batch.
        workers: Threads that may predict at the same time.
        engine: For provenance.
    """

    def __init__(self, session: Any, *, workers: int, engine: str) -> None:
        self._session = session
        self.batch = int(session.get_inputs()[0].shape[0])
        self.workers = workers
        self.engine = engine

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        scores: Batch = self._session.run([SCORES], {PIXELS: pixels})[0]
        return scores


def write(model: Model, shape: Shape, path: Path) -> None:
    """Convert a model; torch is imported here and not before."""
    from geohr.engines.convert import to_onnx

    to_onnx(model, shape, path)


def quantise(source: Path, batches: list[Batch], target: Path) -> None:
    """Write the int8 form of a network."""
    import onnx

    from geohr.engines.int8 import quantise as to_int8

    onnx.save(to_int8(onnx.load(source), batches), target)


def load(path: Path, workers: int, precision: str) -> OnnxPredictor:
    """Open a network; one thread computes one batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = WARNINGS_OFF
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    engine = f"onnxruntime {onnxruntime.__version__} {precision} on cpu"
    return OnnxPredictor(session, workers=workers, engine=engine)


COMPILER = Compiler(
    backend="onnx",
    version=onnxruntime.__version__,
    network="network.onnx",
    write=write,
    quantise=quantise,
    load=load,
)
