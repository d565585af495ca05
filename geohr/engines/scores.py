"""The network in the form that engines run: normalised pixels in, scores out."""

from __future__ import annotations

from torch import Tensor, nn

from geohr.hrnet.fuse import fuse
from geohr.models.model import Model


class ScoreNetwork(nn.Module):
    """A fused network with its scores: what is exported and what is predicted with.

    Args:
        network: Pixels to logits.
        background: Whether channel 0 is the background's; it has no score of its own.
    """

    def __init__(self, network: nn.Module, *, background: bool) -> None:
        super().__init__()
        self.network = network
        self.background = background

    @classmethod
    def of(cls, model: Model) -> ScoreNetwork:
        """A model's network with its weights fixed, and fused where it is one of ours."""
        ours = model.card.architecture.startswith("hrnet")
        network = fuse(model.network) if ours else model.network.eval().requires_grad_(False)
        return cls(network, background=model.card.background)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map `(n, band, row, col)` to scores of foreground classes `(n, class, row, col)`.

        One channel of logits is a sigmoid's, several are a softmax.
        """
        logits: Tensor = self.network(pixels).float()
        if logits.shape[1] == 1:
            return logits.sigmoid()
        return logits.softmax(dim=1)[:, int(self.background) :]
