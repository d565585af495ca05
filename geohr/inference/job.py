"""A job: everything that predicting, tracing and writing of a run depend on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr import __version__
from geohr._runtime.redact import redact_all
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Engine
from geohr.geobox import GeoBox, Window
from geohr.geodesy import in_plane, parse_crs
from geohr.models.card import Card
from geohr.options import SegmentOptions
from geohr.polygons import Polygons, TraceSettings
from geohr.polygons.table import reprojected
from geohr.scene import Scene
from geohr.scene.provenance import identify, modified
from geohr.tiling.blocks import Block, BlockSize, cut_blocks
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer

# The probability of contours when each pixel takes its most probable class.
EVEN = 0.5


class RowsEncoder(Protocol):
    """Makes of finished rows what the files of rasters hold of them, on any machine."""

    @property
    def digest(self) -> str:
        """A name for what is made: the same for the same rasters."""

    def __call__(
        self, start: int, classes: NDArray[np.uint8], probabilities: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """Encode `(row, col)` class ids and `(class, row, col)` probabilities of the window."""


@dataclass(frozen=True)
class Job:
    """A scene, a model and what was asked for, with every default resolved.

    A job holds no open file and no network: it is pickled and sent to the workers of a cluster.

    Attributes:
        scene: The scene, with the bands that the model takes.
        card: The model's card.
        digest: SHA-256 of the model file, hexadecimal.
        options: The options, with every default resolved.
        grid: The grid of windows of the scene.
        block_size: The size of blocks of windows.
        calibration: Windows that int8 is fitted to.
        engine: The engine that predicts.
        acquired: When the scene was taken, as `geohr.scene.stac.acquired` gives it, or None.
        polygons: Whether polygons are wanted; without them nothing is traced.
        coarser: The coarser readings of the scene that are predicted first.
        joined: Probabilities of those readings on the scene's grid, once they are predicted.
        rasters: Where rows are finished apart, what they become there; None leaves them rows.
    """

    scene: Scene
    card: Card
    digest: str
    options: SegmentOptions
    grid: Grid
    block_size: BlockSize
    calibration: Calibration
    engine: Engine
    acquired: str | None = None
    polygons: bool = True
    coarser: tuple[CoarserJob, ...] = ()
    joined: tuple[Scene, ...] = ()
    rasters: RowsEncoder | None = None

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The grid's blocks, row by row."""
        return cut_blocks(self.grid, self.block_size)

    @cached_property
    def windows(self) -> int:
        """Windows in all, those of the coarser readings among them."""
        return len(self.grid) + sum(len(each.job.grid) for each in self.coarser)

    @cached_property
    def window(self) -> Window:
        """The pixels of the scene that outputs hold: all, or those around its area."""
        return self.scene.area_window

    @cached_property
    def geobox(self) -> GeoBox:
        """The grid of the pixels that outputs hold."""
        return self.scene.area_geobox

    @cached_property
    def own_scene(self) -> Scene:
        """The scene and its area on its own pixel grid, on which rasters come out."""
        if self.scene.warped_from is None:
            return self.scene
        return self.scene.native.within(aoi=self.options.aoi, bbox=self.options.bbox)

    @property
    def normalizer(self) -> Normalizer:
        """The map from the scene's values to the network's."""
        return Normalizer.of(self.card, self.options.scale)

    @property
    def crs(self) -> CRS | None:
        """The CRS of the polygons: what was asked for, else the scene's own."""
        if self.options.out_crs is None:
            return self.scene.native.crs
        return CRS.from_wkt(parse_crs(self.options.out_crs).to_wkt())

    @property
    def trace_settings(self) -> TraceSettings:
        """The settings with which the rows of outputs are traced."""
        return TraceSettings(
            self._measured_geobox,
            options=self.options,
            class_names={number: label.name for number, label in enumerate(self.card.classes, 1)},
            threshold=self.options.threshold or EVEN,
        )

    @property
    def _measured_geobox(self) -> GeoBox:
        """The grid of the outputs, in a plane of its own where only the resolution is known."""
        return in_plane(self.geobox, self.scene.gsd)

    def to_crs(self, polygons: Polygons) -> Polygons:
        """Polygons as they are traced, brought into `crs`."""
        return reprojected(polygons, self.scene.crs, self.crs)

    def fingerprint(self, machine: str) -> dict[str, object]:
        """A digest of everything that scores and size of blocks depend on, down to the last bits.

        These depend on the kind of machine.
        """
        return {
            "scene": identify(self.scene.files),
            "view": self.scene.describe(),
            "gdal": rasterio.__gdal_version__,
            "machine": machine,
            "batch": self.engine.batch,
            "blocks": [self.block_size.rows, self.block_size.cols],
            **self.provenance(),
        }

    @property
    def _options_that_count(self) -> dict[str, object]:
        """The options by name, but those that results do not depend on."""
        options = dataclasses.asdict(self.options)
        del options["rate"]
        return {name: redact_all(value) for name, value in options.items()}

    def provenance(self) -> dict[str, str]:
        """The provenance of the outputs, as text by name, without a time, so that they repeat."""
        return {
            "geohr_version": __version__,
            "geohr_scene": self.scene.name,
            "geohr_scene_modified": modified(self.scene.files) or "",
            "geohr_scene_acquired": self.acquired or "",
            "geohr_model": f"{self.card.name} {self.card.version}",
            "geohr_model_sha256": self.digest,
            "geohr_model_licence": self.card.licence,
            "geohr_model_attribution": "; ".join(
                dict.fromkeys(each.attribution for each in self.card.sources)
            ),
            "geohr_engine": self.engine.name,
            "geohr_options": json.dumps(self._options_that_count, sort_keys=True),
        }


@dataclass(frozen=True)
class CoarserJob:
    """A coarser reading of a job's scene, whose probabilities are joined to the job's own.

    Attributes:
        job: What predicts it.
        made: The grid of the whole scene in this reading, of which `job` may read a part.
        onto: The grid of the whole scene in the reading that it is joined to.
    """

    job: Job
    made: GeoBox
    onto: GeoBox
