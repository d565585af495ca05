"""Torch: any device, any architecture."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from geohr._runtime.messages import first_line
from geohr.encoding import Batch
from geohr.engines.cores import one_core_a_call
from geohr.errors import EngineError
from geohr.hrnet.fuse import fuse
from geohr.models.model import Model
from geohr.options import EngineOptions

BATCH = {"cpu": 2, "cuda": 8, "mps": 4}
"""Windows at once by kind of device, where nothing is asked for."""


class ScoreNetwork(nn.Module):
    """A fused network with its scores: what is exported and what is predicted with.

    Args:
        network: Pixels to logits.
        background: Whether channel 0 is the background's; it has no score of its own.
        independent: Whether each of several channels is a sigmoid's, not all of them a softmax's.
    """

    def __init__(self, network: nn.Module, *, background: bool, independent: bool = False) -> None:
        super().__init__()
        self.network = network
        self.background = background
        self.independent = independent

    @classmethod
    def of(cls, model: Model) -> ScoreNetwork:
        """A model's network with its weights fixed, and fused where it is one of ours."""
        ours = model.card.architecture.startswith("hrnet")
        network = fuse(model.network) if ours else model.network.eval().requires_grad_(False)
        independent = model.card.output == "multilabel"
        return cls(network, background=model.card.background, independent=independent)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map `(n, band, row, col)` to scores of foreground classes `(n, class, row, col)`.

        One channel of logits is a sigmoid's, several are a softmax.
        """
        logits: Tensor = self.network(pixels).float()
        if self.independent or logits.shape[1] == 1:
            return logits.sigmoid()[:, int(self.background) :]
        return logits.softmax(dim=1)[:, int(self.background) :]


class TorchPredictor:
    """A predictor that runs a network on torch.

    Args:
        network: Scores from normalised pixels.
        device: A torch device name.
        precision: Number format of the convolutions, `float32` or `bfloat16`.
        batch: Windows at once.
        compiled: Compile the network when it first predicts.

    Raises:
        EngineError: When it is to be compiled and there is no C++ compiler.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str,
        precision: str,
        batch: int,
        compiled: bool = False,
    ) -> None:
        self._device = torch.device(device)
        network = network.to(self._device).to(memory_format=torch.channels_last).eval()
        self._network = compile_network(network, self._device) if compiled else network
        self._autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=precision == "bfloat16"
        )
        self.batch = batch
        self.workers = 1
        how = "compiled " if compiled else ""
        self.engine = f"torch {torch.__version__} {how}{precision} on {device}"

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        held = torch.from_numpy(pixels).to(self._device).to(memory_format=torch.channels_last)
        with torch.inference_mode(), self._autocast:
            scores: Batch = self._network(held).float().cpu().numpy()
        return scores


def compile_network(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network compiled for the shape that it is first called with.

    Raises:
        EngineError: When there is no C++ compiler, which code for the CPU needs.
    """
    known = (os.environ.get("CXX", "g++"), "g++", "clang++")
    if device.type == "cpu" and not any(map(shutil.which, known)):
        raise EngineError("compile needs a C++ compiler; install g++, or leave --compile out")
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    return compiled


def open_engine(model: Model, options: EngineOptions) -> TorchPredictor:
    """The model on torch; the tile size is free.

    Raises:
        EngineError: When the device is not there.
        InputError: When the model's weights cannot be used.
    """
    if one_core_a_call():
        torch.set_num_threads(1)
    device = choose_device(options.device)
    batch = options.batch or BATCH.get(device.partition(":")[0], 1)
    return TorchPredictor(
        ScoreNetwork.of(model),
        device=device,
        precision=options.precision,
        batch=batch,
        compiled=options.compile,
    )


def predictor_of(model: Model, *, batch: int) -> TorchPredictor:
    """The network as it was trained, neither folded nor converted, on the CPU."""
    network = model.network.eval()
    plain = ScoreNetwork(
        network,
        background=model.card.background,
        independent=model.card.output == "multilabel",
    )
    return TorchPredictor(plain, device="cpu", precision="float32", batch=batch)


def predictor_of_file(path: Path, *, batch: int) -> TorchPredictor:
    """A TorchScript file on the CPU."""
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose files older tools do not read.
        warnings.simplefilter("ignore")
        network = torch.jit.load(path, map_location="cpu")
    return TorchPredictor(network, device="cpu", precision="float32", batch=batch)


def choose_device(name: str) -> str:
    """The device meant by `name`; `auto` is the best there is.

    Raises:
        EngineError: When it is unknown or not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(
            f"device {name!r} is not available here ({first_line(error)}); use --device cpu or auto"
        ) from error
    return name
