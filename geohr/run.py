"""A scene, a model and options, put together and checked before anything is predicted."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geohr.backends import open_predictor
from geohr.blocks import BLOCK_PIXELS, BLOCK_WINDOWS
from geohr.calibration import Calibration
from geohr.card import Card
from geohr.grid import Grid
from geohr.journal import identify, machine
from geohr.model import Model
from geohr.mosaic import Rows
from geohr.options import SegmentOptions
from geohr.pixels import Normalizer, check_range
from geohr.polygons import Tracer
from geohr.predictor import Predictor
from geohr.redact import redact
from geohr.scene import Scene
from geohr.stopping import Stop
from geohr.streaming import BlockStore, Progress, predict_rows
from geohr.version import __version__

EVEN = 0.5
"""Where a contour runs when the likeliest class is taken, whatever its probability."""


@dataclass(frozen=True)
class Run:
    """A scene, a model and what was asked for, with every default resolved.

    Attributes:
        scene: With the bands that the model takes.
        model: Network and card.
        options: Tile, threshold and smallest area are set.
        grid: How the scene is cut.
        predictor: The model on its engine.
    """

    scene: Scene
    model: Model
    options: SegmentOptions
    grid: Grid
    predictor: Predictor

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card

    def rows(
        self,
        progress: Progress | None,
        *,
        store: BlockStore | None = None,
        stop: Stop | None = None,
        disagreement: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> Iterator[Rows]:
        """Finished rows, top to bottom; see `geohr.streaming.predict_rows`."""
        return predict_rows(
            self.scene,
            self.grid,
            self.predictor,
            normalizer=Normalizer.of(self.card, self.options.scale),
            classes=len(self.card.classes),
            blend=self.options.blend,
            progress=progress,
            store=store,
            stop=stop,
            disagreement=disagreement,
        )

    def fingerprint(self) -> dict[str, object]:
        """All that a block's scores depend on, besides the blocks' own cut."""
        return {
            "scene": identify(self.scene.files),
            "machine": machine(),
            "batch": self.predictor.batch,
            "blocks": [BLOCK_WINDOWS, BLOCK_PIXELS],
            **self.provenance(),
        }

    def tracer(self) -> Tracer:
        """Polygons from finished rows."""
        return Tracer(
            self.scene.width,
            transform=self.scene.transform,
            crs=self.scene.crs,
            options=self.options,
            class_names={number: label.name for number, label in enumerate(self.card.classes, 1)},
            threshold=self.options.threshold or EVEN,
        )

    def provenance(self) -> dict[str, str]:
        """What made the outputs: text by name. No time of day, so that outputs repeat."""
        options = dataclasses.asdict(self.options)
        return {
            "geohr_version": __version__,
            "geohr_scene": redact(Path(self.scene.path).name),
            "geohr_model": f"{self.card.name} {self.card.version}",
            "geohr_model_sha256": self.model.digest,
            "geohr_engine": self.predictor.engine,
            "geohr_options": json.dumps(options, sort_keys=True),
        }


def prepare(scene_path: str | Path, model: Model, options: SegmentOptions) -> Run:
    """Resolve every default and refuse what cannot work, before anything is predicted.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    card = model.card
    scene = Scene.open(scene_path, options).select(card.bands)
    resolved = dataclasses.replace(
        options,
        tile=options.tile or card.tile,
        threshold=card.threshold if options.threshold is None else options.threshold,
        min_area=default_min_area(scene, card) if options.min_area is None else options.min_area,
    )
    side = resolved.tile or card.tile
    grid = Grid(scene.height, scene.width, side, round(side * resolved.overlap))
    normalizer = Normalizer.of(card, options.scale)
    check_range(scene, normalizer)
    warn_of_resolution(scene, card)

    shown = scene
    if options.calibrate is not None:
        shown = Scene.open(options.calibrate, options).select(card.bands)
    shown_grid = Grid(shown.height, shown.width, side, grid.overlap)
    calibration = Calibration(shown, shown_grid, normalizer)
    predictor = open_predictor(model, side, options, calibration=calibration)
    return Run(scene, model, resolved, grid, predictor)


def default_min_area(scene: Scene, card: Card) -> float | None:
    """The card's smallest object in square metres; None, with a warning, without a CRS."""
    if scene.crs is not None or not card.min_area:
        return card.min_area
    warnings.warn(
        f"{scene.path}: has no CRS, so that its pixels have no size: areas and lengths are in "
        f"its own units, objects below the model's {card.min_area:g} m2 are kept, and no check of "
        "the resolution was made; give it one with gdal_edit.py -a_srs",
        stacklevel=4,
    )
    return None


def warn_of_resolution(scene: Scene, card: Card) -> None:
    """Say so where the scene's pixels are finer or coarser than any the model was trained on."""
    finest, coarsest = card.gsd
    if scene.gsd is None or finest <= scene.gsd <= coarsest:
        return
    warnings.warn(
        f"{scene.path}: {scene.gsd:.3g} m a pixel, but model {card.name} was trained on "
        f"{finest:g} to {coarsest:g} m; expect poor results, or resample the scene",
        stacklevel=4,
    )
