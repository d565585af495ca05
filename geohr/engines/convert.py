"""Networks in the formats of the engines. Needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from geohr._runtime.messages import first_line
from geohr.engines.cores import PIXELS, SCORES, Shape
from geohr.engines.torch import ScoreNetwork
from geohr.errors import EngineError
from geohr.models.model import Model


def to_program(model: Model, shape: Shape) -> ExportedProgram:
    """The model for batches of one shape, as torch's own graph; the others are made from it.

    Args:
        model: Network and card.
        shape: Windows, bands, rows and columns of a batch.

    Raises:
        EngineError: When the network has a step that depends on its pixels' values.
    """
    try:
        return torch.export.export(ScoreNetwork.of(model), (torch.zeros(shape),))
    except RuntimeError as error:
        raise EngineError(
            f"model {model.card.name!r} cannot be exported for windows of {shape[2]} pixels "
            f"({first_line(error)}); use --backend torch, or another --tile"
        ) from error


def to_openvino(model: Model, shape: Shape, path: Path) -> None:
    """Write the model as OpenVINO's IR, float32: `*.xml`, and its weights in `*.bin` beside it.

    The shape is that of `to_program`.

    Raises:
        EngineError: When the network cannot be converted.
    """
    import openvino

    try:
        network = openvino.convert_model(to_program(model, shape))
    except RuntimeError as error:
        if isinstance(error, EngineError):
            raise
        raise EngineError(
            f"model {model.card.name!r} cannot be converted to OpenVINO ({first_line(error)}); "
            "use --backend torch"
        ) from error
    # The converter leaves sizes open that the graph has fixed.
    network.reshape(list(shape))
    network.inputs[0].get_tensor().set_names({PIXELS})
    network.outputs[0].get_tensor().set_names({SCORES})
    openvino.save_model(network, path, compress_to_fp16=False)


def to_onnx(model: Model, shape: Shape, path: Path, *, opset: int | None = None) -> None:
    """Write the model as ONNX, float32, with operators of a version (None: torch's default).

    The shape is that of `to_program`.

    Raises:
        EngineError: When onnx and onnxscript are missing, or the network cannot be converted.
    """
    try:
        import onnxscript  # noqa: F401  torch needs it and says so less clearly
    except ImportError as error:
        raise EngineError("ONNX needs onnx and onnxscript; pip install 'geohr[onnx]'") from error
    from torch.onnx.errors import OnnxExporterError

    try:
        torch.onnx.export(
            to_program(model, shape),
            (),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=opset,
            input_names=[PIXELS],
            output_names=[SCORES],
        )
    except OnnxExporterError as error:
        raise EngineError(
            f"model {model.card.name!r} cannot be converted to ONNX ({first_line(error)}); "
            "use --backend torch"
        ) from error


def to_torchscript(model: Model, shape: Shape, path: Path) -> None:
    """Write the model as TorchScript, float32, for tools that load nothing newer.

    It is traced with a batch of the shape.
    """
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose files older tools do not read.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(ScoreNetwork.of(model), torch.zeros(shape))
        traced.save(path)
