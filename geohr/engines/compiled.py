"""Engines that compile a network: convert once, keep the result, start without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geohr.encoding import Batch
from geohr.engines.cache import cached
from geohr.engines.calibration import Calibration
from geohr.engines.cores import Shape, cores
from geohr.engines.int8 import Agreement, measure
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError
from geohr.models.model import Model

AGREEMENT = "agreement.json"


@dataclass(frozen=True)
class Compiler:
    """The functions with which one engine converts, quantises and loads a network.

    Attributes:
        backend: A name in `geohr.engines.BACKENDS`.
        version: The version of the engine.
        network: File name of a network in its format.
        write: Writes a model for batches of one shape to a path.
        quantise: Reads a network's path, calibration batches and a path to write int8 to.
        load: A predictor from a network's path, for a number of workers and a precision.
    """

    backend: str
    version: str
    network: str
    write: Callable[[Model, Shape, Path], None]
    quantise: Callable[[Path, list[Batch], Path], None]
    load: Callable[[Path, int, str], Predictor]

    def open(
        self, model: Model, shape: Shape, *, precision: str, calibration: Calibration | None
    ) -> tuple[Predictor, Agreement | None]:
        """A predictor from the cache, filled where needed, and what int8 costs.

        Raises:
            EngineError: When the network cannot be converted, or int8 has nothing to calibrate on.
            InputError: When the model's weights cannot be used.
            OutputError: When the cache cannot be written.
        """
        if precision == "int8":
            return self._open_int8(model, shape, calibration)

        def build(folder: Path) -> None:
            folder.mkdir()
            self.write(model, shape, folder / self.network)

        def load(folder: Path) -> Predictor:
            return self.load(folder / self.network, cores(), precision)

        return cached(self._key(model, shape, precision), build, load), None

    def _open_int8(
        self, model: Model, shape: Shape, calibration: Calibration | None
    ) -> tuple[Predictor, Agreement]:
        if calibration is None:
            raise EngineError("int8 needs windows to calibrate on; name a scene with --calibrate")

        def build(folder: Path) -> None:
            network, beside = folder / self.network, folder / "float32"
            beside.mkdir(parents=True)
            exact = beside / self.network
            self.write(model, shape, exact)
            fitted, held_out = split(calibration.windows())
            self.quantise(exact, batches(fitted, shape[0]), network)
            agreement = measure(
                self.load(exact, cores(), "float32"),
                self.load(network, cores(), "int8"),
                held_out,
                threshold=model.card.threshold,
            )
            (folder / AGREEMENT).write_text(agreement.to_json())
            shutil.rmtree(beside)

        def load(folder: Path) -> tuple[Predictor, Agreement]:
            agreement = Agreement(**json.loads((folder / AGREEMENT).read_text()))
            return self.load(folder / self.network, cores(), "int8"), agreement

        key = {**self._key(model, shape, "int8"), "calibration": calibration.digest()}
        return cached(key, build, load)

    def _key(self, model: Model, shape: Shape, precision: str) -> dict[str, object]:
        return {
            "backend": self.backend,
            "version": self.version,
            "model": model.digest,
            "shape": shape,
            "precision": precision,
        }


def split(windows: Batch) -> tuple[Batch, Batch]:
    """Windows to calibrate on, and every third to measure with; one or two serve both ends."""
    if len(windows) < 3:
        return windows, windows
    held_out = np.arange(len(windows)) % 3 == 2
    return windows[~held_out], windows[held_out]


def batches(windows: Batch, batch: int) -> list[Batch]:
    """Windows in batches of one size; the first ones fill up the last batch."""
    whole = -(-len(windows) // batch) * batch
    filled = np.resize(windows, (whole, *windows.shape[1:]))
    return [filled[start : start + batch] for start in range(0, whole, batch)]
