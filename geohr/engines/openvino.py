"""OpenVINO: the fastest engine on CPUs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino

from geohr.encoding import Batch
from geohr.engines.compiled import Compiler
from geohr.engines.cores import Shape
from geohr.errors import EngineError
from geohr.models.model import Model

# OpenVINO's names of the number formats other than int8.
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenVINOPredictor:
    """A compiled network, a stream of one core for each worker.

    A window's scores depend neither on how many cores there are nor on the windows beside it.

    Args:
        compiled: The network for one batch.
        workers: Streams that it was compiled for.
        engine: For provenance.
    """

    def __init__(self, compiled: Any, *, workers: int, engine: str) -> None:
        meet_numpy(compiled)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(compiled.create_infer_request())
        self.batch = int(compiled.input(0).shape[0])
        self.workers = workers
        self.engine = engine

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        request = self._idle.get()
        try:
            request.infer([pixels], share_inputs=True)
            scores: Batch = request.get_output_tensor().data.copy()
        finally:
            self._idle.put(request)
        return scores


def meet_numpy(compiled: Any) -> None:
    """Let OpenVINO's bindings load what they need of numpy, in one thread.

    When two threads come first at the same time, one holds Python's lock and waits for the other,
    which waits for Python's lock.
    """
    kind = compiled.input(0).get_element_type().to_dtype()
    tensor = openvino.Tensor(np.zeros((1, 1), kind), shared_memory=True)
    tensor.data.sum()


@cache
def core() -> Any:
    """The one OpenVINO runtime of this process.

    Each runtime gives the thread that first compiles another stack for signal handlers, and gives
    back the former one when it goes. Where several go in another order than they came, a signal
    then finds a stack that is no more, and the process dies of it.
    """
    return openvino.Core()


def write(model: Model, shape: Shape, path: Path) -> None:
    """Convert a model; torch is imported here and not before."""
    from geohr.engines.convert import to_openvino

    to_openvino(model, shape, path)


def quantise(source: Path, batches: list[Batch], target: Path) -> None:
    """Write the int8 form of a network."""
    from geohr.engines.int8 import quantise as to_int8

    network = core().read_model(source)
    openvino.save_model(to_int8(network, batches), target, compress_to_fp16=False)


def load(path: Path, workers: int, precision: str) -> OpenVINOPredictor:
    """Compile a network, or take what was compiled before from beside it."""
    compiled = core().compile_model(
        path,
        "CPU",
        {
            "CACHE_DIR": str(path.parent),
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
            # Reading and stitching need the cores as well, wherever they run.
            "ENABLE_CPU_PINNING": False,
        },
    )
    check_precision(compiled, precision)
    version = openvino.__version__.split("-")[0]
    return OpenVINOPredictor(
        compiled, workers=workers, engine=f"openvino {version} {precision} on cpu"
    )


def check_precision(compiled: Any, precision: str) -> None:
    """Refuse a network that computes in another format than was asked for.

    Raises:
        EngineError: When the processor does not support the format.
    """
    computes = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if computes != HINTS[precision]:
        raise EngineError(
            f"OpenVINO computes in {computes} on this processor, not in {precision}; use "
            "--precision float32 or int8"
        )


COMPILER = Compiler(
    backend="openvino",
    version=openvino.__version__,
    network="network.xml",
    write=write,
    quantise=quantise,
    load=load,
)
