"""Which engine predicts."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from geohr._runtime.messages import warn
from geohr.engines.calibration import Calibration
from geohr.engines.compiled import Compiler
from geohr.engines.cores import has_gpu
from geohr.engines.foreign import open_foreign
from geohr.engines.int8 import Agreement
from geohr.engines.predictor import AveragePredictor, Predictor
from geohr.errors import EngineError, UsageError
from geohr.models.foreign import FOREIGN
from geohr.models.model import Model
from geohr.options import EngineOptions

BACKENDS = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
"""Backends, fastest first, and the module each needs."""

INSTALL = {"openvino": "geohr[openvino]", "onnx": "geohr[onnx]", "torch": "geohr"}
"""What to install for each backend; pip adds an extra to a geohr that is already installed."""

LIBRARIES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
"""The library behind each backend, on PyPI."""

PRECISIONS = {
    "openvino": ("float32", "bfloat16", "int8"),
    "onnx": ("float32", "int8"),
    "torch": ("float32", "bfloat16"),
}
"""Number formats that each computes in."""


class FallbackWarning(UserWarning):
    """A faster engine is installed and cannot be used."""


def open_predictor(
    model: Model, tile: int, options: EngineOptions, *, calibration: Calibration | None = None
) -> Predictor:
    """The model, ready to predict windows of one size.

    Where the backend is `auto` and an installed engine fails, the next one is taken with a
    `FallbackWarning`.

    Args:
        model: Network and card.
        tile: Side of a window in pixels.
        options: Backend, device, precision, batch, test-time augmentation.
        calibration: Windows to fit int8 to; not read for other precisions.

    Raises:
        EngineError: When no engine can be used, or int8 departs too far from float32.
        InputError: When the model's weights cannot be used.
        OutputError: When the cache of compiled networks cannot be written.
        UsageError: When backend, device and precision do not go together.
    """
    if model.card.architecture in FOREIGN:
        foreign = open_foreign(model, tile, options)
        return AveragePredictor(foreign) if options.tta else foreign
    names = backends_for(options)
    for name, following in zip(names, (*names[1:], None), strict=True):
        try:
            predictor, agreement = open_backend(name, model, tile, options, calibration)
        except (EngineError, ImportError) as error:
            if following is None:
                raise as_engine_error(error, name) from error
            warn(f"backend {name} cannot be used ({error}); using {following}", FallbackWarning)
            continue
        if agreement is not None:
            agreement.check()
        return AveragePredictor(predictor) if options.tta else predictor
    raise EngineError("no engine is installed; pip install 'geohr[openvino]'")


def open_backend(
    name: str, model: Model, tile: int, options: EngineOptions, calibration: Calibration | None
) -> tuple[Predictor, Agreement | None]:
    """The model on one backend, and how far int8 departs where that was asked for."""
    module = import_module(f"geohr.engines.{name}")
    if name == "torch":
        predictor: Predictor = module.open_engine(model, options)
        return predictor, None
    compiler: Compiler = module.COMPILER
    shape = (options.batch or 1, len(model.card.bands), tile, tile)
    return compiler.open(model, shape, precision=options.precision, calibration=calibration)


def backends_for(options: EngineOptions) -> tuple[str, ...]:
    """The backends that the options allow, fastest first; more than one only for `auto`.

    Raises:
        EngineError: When the one asked for is not installed.
        UsageError: When backend, device and precision do not go together.
    """
    backend, device, precision = options.backend, options.device, options.precision
    if options.compile:
        if backend not in ("auto", "torch"):
            raise UsageError(f"compile is torch's; backend {backend} compiles by itself")
        backend = "torch"
    gpu = device not in ("auto", "cpu") or (device == "auto" and has_gpu())
    if backend == "auto":
        names = [name for name in BACKENDS if precision in PRECISIONS[name]]
        if gpu and device == "auto" and "torch" not in names:
            gpu = False
        fitting = [name for name in names if name == "torch" or not gpu]
        if not fitting:
            raise UsageError(
                f"precision {precision} is computed on the CPU only; --device {device} allows "
                f"{' or '.join(PRECISIONS['torch'])}"
            )
        return tuple(name for name in fitting if find_spec(BACKENDS[name]) is not None)
    if precision not in PRECISIONS[backend]:
        raise UsageError(
            f"backend {backend} computes in {' or '.join(PRECISIONS[backend])}; got {precision}"
        )
    if backend != "torch" and device not in ("auto", "cpu"):
        raise UsageError(
            f"backend {backend} runs on the CPU; --device {device} needs --backend torch"
        )
    if find_spec(BACKENDS[backend]) is None:
        raise EngineError(
            f"backend {backend} is not installed; pip install '{INSTALL[backend]}', "
            "or use --backend auto"
        )
    return (backend,)


def as_engine_error(error: Exception, name: str) -> EngineError:
    """`error` as one of geohr's own."""
    if isinstance(error, EngineError):
        return error
    return EngineError(
        f"backend {name} is installed but cannot be loaded ({error}); "
        f"pip install --force-reinstall {LIBRARIES[name]}, or use another --backend"
    )
