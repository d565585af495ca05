"""What every engine offers, and what can be put around any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from geohr.encoding import Batch


@dataclass(frozen=True)
class Engine:
    """The engine that predicts.

    Attributes:
        name: Name, version, number format and device, as provenance has them.
        batch: Windows taken at once.
    """

    name: str
    batch: int


class Predictor(Protocol):
    """A network on an engine: normalised pixels in, scores out.

    Attributes:
        batch: Windows taken at once; a batch has always this many.
        workers: The number of threads that should call `predict` at the same time.
        engine: Name and version of what computes, for provenance.
    """

    batch: int
    workers: int
    engine: str

    def predict(self, pixels: Batch) -> Batch:
        """Scores of foreground classes.

        Args:
            pixels: `(n, band, row, col)`, normalised; n is `batch`. Overwritten after the call.

        Returns:
            `(n, class, row, col)`, in [0, 1], in memory of its own.
        """
        ...


class AveragePredictor:
    """The mean of a predictor over the eight flips and rotations of a square window."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.batch = predictor.batch
        self.workers = predictor.workers
        self.engine = predictor.engine

    def predict(self, pixels: Batch) -> Batch:
        """Scores averaged over the eight; shapes as `Predictor.predict`."""
        total: Batch | None = None
        for turns in range(4):
            for mirrored in (False, True):
                seen = np.rot90(pixels, turns, axes=(2, 3))
                seen = seen[..., ::-1] if mirrored else seen
                scores = self._predictor.predict(np.ascontiguousarray(seen))
                scores = scores[..., ::-1] if mirrored else scores
                upright = np.rot90(scores, -turns, axes=(2, 3))
                total = upright.copy() if total is None else total + upright
        assert total is not None
        return np.ascontiguousarray(total) / np.float32(8)
