"""Networks of other formats on the engines that read them, behind `Predictor`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from geohr.encoding import Batch
from geohr.engines.cores import cores
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError, InputError, UsageError
from geohr.models.card import Card
from geohr.models.foreign import unpack
from geohr.models.model import Model
from geohr.options import EngineOptions

ENGINES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "openvino"),
    "openvino": ("openvino",),
    "torchscript": ("torch",),
}
"""Backends that run each format, the format's own first."""
MODULES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}

Run = Callable[[Batch], Any]


@dataclass(frozen=True)
class ForeignNetwork:
    """A foreign network, opened.

    Attributes:
        run: Pixels, in the order of its own axes, to what it gives.
        shape: Sizes of its input; None where a size is free.
        workers: Threads that may call `run` at once.
        engine: For provenance.
        inputs: How many inputs it has.
    """

    run: Run
    shape: tuple[int | None, ...]
    workers: int
    engine: str
    inputs: int = 1

    def bands_last(self, bands: int) -> bool:
        """Whether its input is `(n, row, col, band)`, as TensorFlow has it."""
        return len(self.shape) == 4 and self.shape[3] == bands and self.shape[1] != bands

    def sides(self, bands: int) -> tuple[int | None, int | None]:
        """Rows and columns of the windows that it takes; None where they are free."""
        rows, cols = self.shape[1:3] if self.bands_last(bands) else self.shape[2:4]
        return rows, cols


class ForeignPredictor:
    """A foreign network whose output becomes scores of foreground classes.

    Args:
        opened: The network.
        card: How its output is meant.
        batch: Windows at once.
    """

    def __init__(self, opened: ForeignNetwork, card: Card, *, batch: int) -> None:
        self._opened = opened
        self._card = card
        self._bands_last = opened.bands_last(len(card.bands))
        self.batch = batch
        self.workers = opened.workers
        self.engine = opened.engine

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        return to_scores(self.raw(pixels), self._card, pixels.shape)

    def raw(self, pixels: Batch) -> Any:
        """What the network itself gives for `(n, band, row, col)`."""
        given = pixels.transpose(0, 2, 3, 1) if self._bands_last else pixels
        return self._opened.run(np.ascontiguousarray(given))


def to_scores(raw: Any, card: Card, shape: tuple[int, ...]) -> Batch:
    """Scores `(n, class, row, col)` from a network's output.

    Args:
        raw: Logits, scores or class ids; channels second or last.
        card: Which of them they are, and how many channels there are.
        shape: Of the pixels, `(n, band, row, col)`.

    Raises:
        InputError: When the output has another shape than the card asks for.
    """
    given, (n, _, rows, cols) = np.asarray(raw), shape
    background = int(card.background)
    if card.output == "classes":
        if given.size != n * rows * cols:
            raise misshapen(given, f"{n} x {rows} x {cols} class ids")
        ids = given.reshape(n, 1, rows, cols)
        wanted = np.arange(len(card.classes)).reshape(1, -1, 1, 1) + background
        scores: Batch = (ids == wanted).astype(np.float32)
        return scores
    if given.ndim == 3:
        given = given[:, None]
    if given.shape == (n, rows, cols, card.channels):
        given = given.transpose(0, 3, 1, 2)
    if given.shape != (n, card.channels, rows, cols):
        raise misshapen(given, f"{n} x {card.channels} x {rows} x {cols}")
    values = given.astype(np.float32)
    if card.output == "multilabel" or (card.output == "logits" and card.channels == 1):
        values = 1 / (1 + np.exp(-values.clip(-80, 80)))
    elif card.output == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    foreground: Batch = np.ascontiguousarray(values[:, background:].clip(0, 1))
    return foreground


def misshapen(given: Any, wanted: str) -> InputError:
    """The error of an output that is not what the card says."""
    return InputError(
        f"the network gives {' x '.join(map(str, given.shape))} where {wanted} is expected; state "
        "its --classes and --output as they are"
    )


def open_foreign(model: Model, tile: int, options: EngineOptions) -> Predictor:
    """The foreign network of a model on an engine that reads its format.

    Raises:
        EngineError: When the engine is not installed.
        InputError: When it cannot be read, or takes windows of another size.
        UsageError: For a backend, device or precision that does not go with the format.
    """
    card = model.card
    name = choose(card.architecture, options)
    assert model.path is not None
    with tempfile.TemporaryDirectory() as folder:
        path = unpack(model.path, card, Path(folder))
        opened = open_file(path, name, options.device)
    rows, cols = opened.sides(len(card.bands))
    if {rows, cols} - {None, tile}:
        raise UsageError(
            f"model {card.name!r} takes windows of {rows} x {cols} pixels only; use --tile {rows}"
        )
    batch = opened.shape[0] or options.batch or 1
    return ForeignPredictor(opened, card, batch=batch)


def choose(architecture: str, options: EngineOptions) -> str:
    """The backend for a format.

    Raises:
        EngineError: When none that is allowed is installed.
        UsageError: When the options allow none.
    """
    able = ENGINES[architecture]
    if options.precision != "float32" or options.compile:
        raise UsageError(f"a network of format {architecture} runs in float32, uncompiled")
    if options.backend not in ("auto", *able):
        raise UsageError(
            f"a network of format {architecture} runs on backend {' or '.join(able)}; "
            f"got {options.backend}"
        )
    names = able if options.backend == "auto" else (options.backend,)
    for name in names:
        if find_spec(MODULES[name]) is not None:
            return name
    raise EngineError(
        f"a network of format {architecture} needs {MODULES[names[0]]}; "
        f"pip install '{MODULES[names[0]]}'"
    )


def open_file(path: Path, backend: str, device: str) -> ForeignNetwork:
    """A foreign file on one backend.

    Raises:
        InputError: When the engine cannot read it, with what it says.
    """
    try:
        return OPENERS[backend](path, device)
    except EngineError:
        raise
    except Exception as error:
        # Each engine has its own errors for files that are cut short, too new or beyond it.
        line = " ".join(str(error).split())[:300]
        raise InputError(f"the network cannot be read by {MODULES[backend]} ({line})") from error


def open_onnx(path: Path, device: str) -> ForeignNetwork:
    """An ONNX file on ONNX Runtime; one thread computes one batch."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # errors are raised; they need no second line
    session = onnxruntime.InferenceSession(
        path.read_bytes(), settings, providers=["CPUExecutionProvider"]
    )
    inputs = session.get_inputs()
    name, output = inputs[0].name, session.get_outputs()[0].name
    return ForeignNetwork(
        lambda pixels: session.run([output], {name: pixels})[0],
        tuple(each if isinstance(each, int) and each > 0 else None for each in inputs[0].shape),
        cores(),
        f"onnxruntime {onnxruntime.__version__} float32 on cpu",
        len(inputs),
    )


def open_openvino(path: Path, device: str) -> ForeignNetwork:
    """An IR or an ONNX file on OpenVINO, a stream of one core for each worker."""
    import openvino

    from geohr.engines.openvino import core

    network = core().read_model(path)
    workers = cores()
    settings = {
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": workers,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core().compile_model(network, "CPU", settings)
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(workers):
        idle.put(compiled.create_infer_request())

    def run(pixels: Batch) -> Any:
        request = idle.get()
        try:
            request.infer([pixels])
            return request.get_output_tensor(0).data.copy()
        finally:
            idle.put(request)

    shape = network.inputs[0].get_partial_shape()
    sizes = tuple(each.get_length() if each.is_static else None for each in shape)
    version = openvino.__version__.split("-")[0]
    engine = f"openvino {version} float32 on cpu"
    return ForeignNetwork(run, sizes, workers, engine, len(network.inputs))


def open_torchscript(path: Path, device: str) -> ForeignNetwork:
    """A TorchScript file on torch; its sizes are free."""
    import torch

    from geohr.engines.torch import choose_device

    place = torch.device(choose_device(device))
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export; the files are there.
        warnings.simplefilter("ignore")
        network = torch.jit.load(path, map_location=place).eval()
    inputs = len(list(network.graph.inputs())) - 1

    def run(pixels: Batch) -> Any:
        with torch.inference_mode():
            given = network(torch.from_numpy(pixels).to(place))
        while isinstance(given, (tuple, list)):
            given = given[0]
        return given.float().cpu().numpy()

    engine = f"torch {torch.__version__} torchscript on {place}"
    return ForeignNetwork(run, (None,) * 4, 1, engine, inputs)


OPENERS: dict[str, Callable[[Path, str], ForeignNetwork]] = {
    "onnx": open_onnx,
    "openvino": open_openvino,
    "torch": open_torchscript,
}
