"""What a person is asked to judge, one place after another: a sample, or windows to label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely.geometry
from pyogrio.errors import DataSourceError

from geohr.errors import InputError, UsageError
from geohr.viewer.database import quote, touch, transaction

OBJECTS, PLACES = "objects", "places"
# A sample is judged in so many rounds, each with objects first and places then: whoever stops early
# has judged some of both, and the question does not change each time.
ROUNDS = 10
ANSWERS = (0, 1, None)


def is_sample(path: Path) -> bool:
    """Whether a file is a sample of `geohr check sample`."""
    try:
        return {OBJECTS, PLACES} <= set(pyogrio.list_layers(path)[:, 0])
    except DataSourceError:
        return False


@dataclass(frozen=True)
class Tasks:
    """A sample of `geohr check sample`, to be judged.

    Attributes:
        path: The GeoPackage.
        crs: The CRS of its layers, as text.
    """

    path: Path
    crs: str

    @classmethod
    def open(cls, path: Path) -> Tasks:
        """Describe a sample.

        Raises:
            InputError: When it is none.
        """
        if not is_sample(path):
            raise InputError(
                f"{path}: no sample to judge, with layers {OBJECTS} and {PLACES}; "
                "draw one with geohr check sample"
            )
        return cls(path, str(pyogrio.read_info(path, layer=OBJECTS)["crs"]))

    def listed(self) -> list[dict[str, Any]]:
        """The tasks in the order in which they are judged.

        Returns:
            For each its `layer`, `id`, `answer` (1, 0 or None) and `geometry` in degrees.

        Raises:
            InputError: When the file cannot be read.
        """
        tasks = []
        for number, layer in enumerate((OBJECTS, PLACES)):
            frame = pyogrio.read_dataframe(self.path, layer=layer, fid_as_index=True)
            placed = frame.geometry.to_crs("OGC:CRS84").to_numpy()
            share = (frame["turn"].to_numpy(np.float64) - 0.5) / max(len(frame), 1)
            for row, (identity, answer) in enumerate(frame["answer"].items()):
                rank = (int(share[row] * ROUNDS), number, float(share[row]))
                told = {
                    "layer": layer,
                    "id": int(identity),
                    "answer": None if np.isnan(answer) else int(answer),
                    "geometry": shapely.geometry.mapping(placed[row]),
                }
                tasks.append((rank, told))
        return [told for _, told in sorted(tasks, key=lambda each: each[0])]

    def keep(self, layer: str, identity: int, answer: int | None) -> None:
        """Write an answer: 1 yes, 0 no, None not judged.

        Raises:
            UsageError: For another layer or answer.
            InputError: When there is no such task.
            OutputError: When the file cannot be written.
        """
        if layer not in (OBJECTS, PLACES) or answer not in ANSWERS:
            raise UsageError(f"an answer is 1, 0 or null, in {OBJECTS} or {PLACES}")
        with transaction(self.path) as file:
            done = file.execute(
                f"UPDATE {quote(layer)} SET answer = ? WHERE fid = ?", (answer, identity)
            )
            if done.rowcount == 0:
                raise InputError(f"{self.path}: has no {layer} {identity}; load the page anew")
            touch(file, layer)
