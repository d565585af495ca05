"""Which engine predicts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from geohr.errors import EngineError, UsageError
from geohr.model import Model
from geohr.options import EngineOptions
from geohr.predictor import Averaged, Predictor

BACKENDS = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
"""Backends, fastest first, and the module each needs."""

INSTALL = {"openvino": "geohr[openvino]", "onnx": "geohr[onnx]", "torch": "torch"}
"""What to install for each."""


def open_predictor(model: Model, tile: int, options: EngineOptions) -> Predictor:
    """The model, ready to predict windows of one size.

    Args:
        model: Network and card.
        tile: Side of a window in pixels.
        options: Backend, device, precision, batch, test-time augmentation.

    Raises:
        EngineError: When the backend or the device is not there.
        InputError: When the model's weights cannot be used.
    """
    backend = choose_backend(options)
    module = import_module(f"geohr.backends.{backend}_engine")
    opener: Callable[[Model, int, EngineOptions], Predictor] = module.open_engine
    predictor = opener(model, tile, options)
    return Averaged(predictor) if options.tta else predictor


def choose_backend(options: EngineOptions) -> str:
    """The backend meant by the options; `auto` is the fastest that is there for the device.

    Raises:
        EngineError: When the one asked for is not installed.
        UsageError: When it does not run on the device asked for.
    """
    if options.backend != "auto":
        if find_spec(BACKENDS[options.backend]) is None:
            raise EngineError(
                f"backend {options.backend} is not installed; pip install "
                f"'{INSTALL[options.backend]}', or use --backend auto"
            )
        if options.backend != "torch" and options.device not in ("auto", "cpu"):
            raise UsageError(
                f"backend {options.backend} runs on the CPU; --device {options.device} needs "
                "--backend torch"
            )
        return options.backend
    if options.device not in ("auto", "cpu") or (options.device == "auto" and has_gpu()):
        return "torch"
    return next(name for name, module in BACKENDS.items() if find_spec(module) is not None)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU's driver is loaded; asked without importing torch."""
    from pathlib import Path

    return Path("/proc/driver/nvidia/version").exists()
