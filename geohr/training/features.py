"""Learning a teacher's features, besides what it says of each pixel.

The bundled building model was trained so in its last 25,000 windows; see docs/buildings-notebook.md
and `recipes/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geohr.errors import UsageError

# The first features that are compared: those of stride 4, after the image and stride 2.
FIRST = 2


class Tap:
    """The features that a network's encoder gave last.

    Args:
        network: Whose `encoder` is one of segmentation-models-pytorch.

    Attributes:
        channels: The channels of the features from stride 4 up, finest first.
        features: `(n, channel, row, col)` each.

    Raises:
        UsageError: When it has no encoder.
    """

    def __init__(self, network: nn.Module) -> None:
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise UsageError(f"{type(network).__name__} has no encoder whose features are learnt")
        self.channels: list[int] = list(cast(Sequence[int], encoder.out_channels))[FIRST:]
        self.features: list[Tensor] = []
        encoder.register_forward_hook(self._note)

    def _note(self, _: nn.Module, __: Any, features: Sequence[Tensor]) -> None:
        self.features = list(features[FIRST:])


class FeatureDistillation(nn.Module):
    """The distance of a network's features, through 1x1 projections, from those of its teacher.

    At each stride from 4 on, the network's features are projected to as many channels as the
    teacher's, and compared with them at each place by the cosine of the angle between both (hints
    of Romero et al., FitNets, 2015, section 2.2, with a distance that knows no scale). The
    projections are learnt, and are no part of the network.

    Args:
        network: That learns.
        teacher: That it learns from.

    Raises:
        UsageError: When one of them has no encoder.
    """

    def __init__(self, network: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self._learns, self._teaches = Tap(network), Tap(teacher)
        self.projections = nn.ModuleList(
            nn.Conv2d(ours, theirs, 1)
            for ours, theirs in zip(self._learns.channels, self._teaches.channels, strict=False)
        )

    def forward(self) -> Tensor:
        """The mean distance over strides, from 0 to 2, between what both encoders gave last."""
        pairs = zip(self.projections, self._learns.features, self._teaches.features, strict=False)
        return torch.stack(
            [distance(project(ours), theirs) for project, ours, theirs in pairs]
        ).mean()


def distance(guess: Tensor, features: Tensor) -> Tensor:
    """1 less the cosine of the angle between both, the mean over places."""
    return 1 - F.cosine_similarity(guess.float(), features.float(), dim=1).mean()
