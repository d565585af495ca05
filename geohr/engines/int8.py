"""Networks in int8: NNCF's post-training quantisation, and how far it finds what float32 finds."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.messages import amount
from geohr.encoding import PROBABILITY_MAX, Batch
from geohr.engines.cores import PIXELS
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError
from geohr.stitching.mosaic import classify

# Agreement from which int8 is used.
LEAST = 0.95
# Pixels of objects without which agreement says nothing.
OBJECT_PIXELS = 1000
Network = TypeVar("Network")


def quantise(network: Network, batches: list[Batch]) -> Network:
    """The network with convolutions in int8, their ranges taken from what it sees.

    Args:
        network: An OpenVINO or ONNX model with one input named as in `convert`.
        batches: `(n, band, row, col)` each, normalised.

    Raises:
        EngineError: When NNCF is not installed.
    """
    if find_spec("nncf") is None:
        raise EngineError("int8 needs NNCF; pip install 'geohr[int8]', or use another --precision")
    with quiet():
        import nncf

        data = nncf.Dataset([{PIXELS: batch} for batch in batches])
        quantised: Network = nncf.quantize(network, data, subset_size=len(batches))
    return quantised


@contextmanager
def quiet() -> Iterator[None]:
    """Without NNCF's log and its bars, which it draws on stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Agreement:
    """The comparison of two predictions of the same windows.

    Attributes:
        overlap: Pixels that both give the same class, over pixels that either gives one.
        objects: Pixels that either gives a class.
        mean_difference: Mean of the absolute difference of scores.
        largest_difference: Largest absolute difference of scores.
    """

    overlap: float
    objects: int
    mean_difference: float
    largest_difference: float

    def to_json(self) -> str:
        """The comparison as JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def describe(self) -> str:
        """The comparison in one line."""
        # Noise may hold none, and no object overlaps nothing.
        found = (
            f"objects overlap {self.overlap:.4f} over {amount(self.objects, 'pixel')}; "
            if self.objects
            else ""
        )
        mean, most = self.mean_difference, self.largest_difference
        return f"{found}scores differ by {mean:.2g} in the mean and {most:.2g} at most"

    def check(self) -> None:
        """Refuse a form that finds something else.

        Raises:
            EngineError: When the overlap is below `LEAST`, or there is too little to compare.
        """
        if self.objects < OBJECT_PIXELS:
            raise EngineError(
                "int8 cannot be checked: the calibration windows show "
                f"{amount(self.objects, 'pixel')} of objects, and {OBJECT_PIXELS} are needed; "
                "name a scene with more of them with --calibrate, or use --precision float32"
            )
        if self.overlap < LEAST:
            raise EngineError(
                f"int8 finds objects that overlap float32's by {self.overlap:.3f}, and {LEAST:g} "
                "is needed; use --precision float32, or calibrate on another scene with --calibrate"
            )


def measure(
    exact: Predictor, cheaper: Predictor, windows: Batch, *, threshold: float | None
) -> Agreement:
    """Compare a cheaper form of a network with the float32 one on normalised windows.

    Windows are `(n, band, row, col)`; the threshold is that of `classify`.
    """
    same = either = 0
    total = largest = 0.0
    for window in windows:
        first, second = (score(predictor, window) for predictor in (exact, cheaper))
        one, other = (classes(scores, threshold) for scores in (first, second))
        same += int(((one == other) & (one > 0)).sum())
        either += int(((one > 0) | (other > 0)).sum())
        difference = np.abs(first - second)
        total += float(difference.mean())
        largest = max(largest, float(difference.max()))
    return Agreement(same / either if either else 1.0, either, total / len(windows), largest)


def score(predictor: Predictor, window: NDArray[np.float32]) -> Batch:
    """Scores `(class, row, col)` of one window."""
    batch = np.zeros((predictor.batch, *window.shape), np.float32)
    batch[0] = window
    scores: Batch = predictor.predict(batch)[0]
    return scores


def classes(scores: Batch, threshold: float | None) -> NDArray[np.uint8]:
    """The class of each pixel, from scores `(class, row, col)`."""
    return classify((scores * PROBABILITY_MAX + 0.5).astype(np.uint8), threshold)
