"""A model on an engine."""

from __future__ import annotations

import torch
from torch import nn

from geohr.card import Card
from geohr.errors import EngineError
from geohr.model import Model
from geohr.predictor import Batch, Predictor

BATCH = {"cpu": 1, "cuda": 8, "mps": 4}
"""Windows at once by kind of device, where nothing is asked for."""


class TorchPredictor:
    """A model on torch, for inference only.

    Args:
        network: Logits from pixels; not changed.
        card: Of the model.
        device: A torch device name.
        batch: Windows at once, or None for the device's default.
    """

    def __init__(self, network: nn.Module, card: Card, *, device: str, batch: int | None) -> None:
        self._device = torch.device(device)
        self._network = network.to(self._device).to(memory_format=torch.channels_last).eval()
        self._background = card.background
        self._autocast = self._device.type == "cuda"
        self.batch = batch or BATCH.get(self._device.type, 1)
        self.engine = f"torch {torch.__version__} on {device}"

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes; see `Predictor.predict`."""
        held = torch.from_numpy(pixels).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=self._autocast):
            logits = self._network(held)
        scores: Batch = score(logits.float(), background=self._background).cpu().numpy()
        return scores


def score(logits: torch.Tensor, *, background: bool) -> torch.Tensor:
    """Logits to scores of the foreground classes.

    Args:
        logits: `(n, channel, row, col)`.
        background: Whether channel 0 is the background's; it has no score of its own.

    Returns:
        `(n, class, row, col)`, in [0, 1]. One channel is a sigmoid's, several are a softmax.
    """
    if logits.shape[1] == 1:
        return logits.sigmoid()
    return logits.softmax(dim=1)[:, int(background) :]


def open_predictor(model: Model, *, device: str, batch: int | None) -> Predictor:
    """The model, ready to predict.

    Args:
        model: Network and card.
        device: `auto`, or a torch device name.
        batch: Windows at once, or None for the engine's default.

    Raises:
        EngineError: When the device is not there.
        InputError: When the model's weights cannot be used.
    """
    return TorchPredictor(model.network, model.card, device=choose_device(device), batch=batch)


def choose_device(name: str) -> str:
    """The device meant by `name`; `auto` is the best there is.

    Raises:
        EngineError: When it is unknown or not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(
            f"device {name!r} is not available here ({reason}); use --device cpu or auto"
        ) from error
    return str(device)
