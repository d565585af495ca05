"""A scene, a model and options, put together and checked before anything is predicted."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr import __version__
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.engines import open_predictor
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Predictor
from geohr.errors import InputError, UsageError
from geohr.geodesy import parse_crs
from geohr.inference.checkpoint import machine
from geohr.inference.pipeline import BlockStore, Progress, predict_rows
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.polygons import Polygons, Tracer
from geohr.polygons.regularize import WALL_PIXELS
from geohr.polygons.table import reprojected
from geohr.polygons.tracer import TraceSettings
from geohr.scene import Scene
from geohr.scene.prepare import (
    SAME_SIZE,
    ResolutionRange,
    SceneLike,
    open_view,
)
from geohr.scene.provenance import identify, modified
from geohr.scene.stac import acquired
from geohr.stitching.mosaic import ProbabilityRows
from geohr.tiling.blocks import Block, BlockSize, cut_blocks, downward
from geohr.tiling.grid import Grid, lattice
from geohr.tiling.normalize import Normalizer, check_range


class Opener(Protocol):
    """Finds what predicts a model's windows; see `geohr.engines.open_predictor`."""

    def __call__(
        self, model: Model, tile: int, options: SegmentOptions, *, calibration: Calibration
    ) -> Predictor:
        """The model, ready to predict windows of one size."""
        ...


EVEN = 0.5
"""Where a contour runs when the likeliest class is taken, whatever its probability."""


@dataclass(frozen=True)
class Job:
    """A scene, a model and what was asked for, with every default resolved.

    Attributes:
        scene: With the bands that the model takes.
        model: Network and card.
        options: Tile, threshold and smallest area are set.
        grid: How the scene is cut.
        predictor: The model on its engine.
        cut: How large blocks are.
        acquired: When the scene was taken, as `geohr.scene.stac.acquired` tells it, or None.
    """

    scene: Scene
    model: Model
    options: SegmentOptions
    grid: Grid
    predictor: Predictor
    cut: BlockSize
    acquired: str | None = None

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The grid's blocks."""
        return cut_blocks(self.grid, self.cut)

    @property
    def normalizer(self) -> Normalizer:
        """From the scene's values to the network's."""
        return Normalizer.of(self.card, self.options.scale)

    def rows(
        self,
        progress: Progress | None,
        *,
        store: BlockStore | None = None,
        stop: Stop | None = None,
        disagreement: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> Generator[ProbabilityRows]:
        """Finished rows, top to bottom; see `geohr.inference.pipeline.predict_rows`."""
        return predict_rows(
            self.scene,
            self.grid,
            self.predictor,
            normalizer=self.normalizer,
            classes=len(self.card.classes),
            blend=self.options.blend,
            cut=self.cut,
            progress=progress,
            store=store,
            stop=stop,
            disagreement=disagreement,
        )

    def fingerprint(self) -> dict[str, object]:
        """All that a block's scores depend on, and how blocks are cut."""
        return {
            "scene": identify(self.scene.files),
            "view": self.scene.describe(),
            "gdal": rasterio.__gdal_version__,
            "machine": machine(),
            "batch": self.predictor.batch,
            "blocks": [self.cut.rows, self.cut.cols],
            **self.provenance(),
        }

    @cached_property
    def own_scene(self) -> Scene:
        """The scene and its area on its own pixel grid, on which rasters come out."""
        if self.scene.warped_from is None:
            return self.scene
        return self.scene.native.within(aoi=self.options.aoi, bbox=self.options.bbox)

    @property
    def crs(self) -> CRS | None:
        """Of the polygons: what was asked for, else the scene's own."""
        if self.options.out_crs is None:
            return self.scene.native.crs
        return CRS.from_wkt(parse_crs(self.options.out_crs).to_wkt())

    def placed(self, polygons: Polygons) -> Polygons:
        """Polygons as the tracer makes them, in the CRS of the polygons."""
        return reprojected(polygons, self.scene.crs, self.crs)

    @property
    def tracing(self) -> TraceSettings:
        """How rows of the scene's area are traced."""
        return TraceSettings(
            self.scene.area_geobox,
            options=self.options,
            class_names={number: label.name for number, label in enumerate(self.card.classes, 1)},
            threshold=self.options.threshold or EVEN,
        )

    def tracer(self) -> Tracer:
        """Polygons from finished rows of the scene's area."""
        return Tracer(self.tracing)

    def provenance(self) -> dict[str, str]:
        """What made the outputs: text by name. No time of day, so that outputs repeat."""
        options = dataclasses.asdict(self.options)
        return {
            "geohr_version": __version__,
            "geohr_scene": redact(Path(self.scene.path).name),
            "geohr_scene_modified": modified(self.scene.files) or "",
            "geohr_scene_acquired": self.acquired or "",
            "geohr_model": f"{self.card.name} {self.card.version}",
            "geohr_model_sha256": self.model.digest,
            "geohr_engine": self.predictor.engine,
            "geohr_options": json.dumps(options, sort_keys=True),
        }


def prepare(
    given: SceneLike,
    model: Model,
    options: SegmentOptions,
    *,
    cut: Callable[[Grid], BlockSize] = downward,
    opener: Opener | None = None,
) -> Job:
    """Resolve every default and refuse what cannot work, before anything is predicted.

    Args:
        given: The scene, or several that are one mosaic; see `geohr.scene.prepare.open_view`.
        model: Network and card.
        options: As they were asked for.
        cut: How large blocks of a grid are.
        opener: Finds what predicts; by default an engine in this process.

    Raises:
        UsageError: For an option that the model does not allow.
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    card = model.card
    check_one_class(card, options)
    suits = ResolutionRange(card.gsd, card.gsd_best or card.gsd)
    scene = open_view(given, options, bands=card.bands, suits=suits)
    check_out_crs(scene, options)
    resolved = dataclasses.replace(
        options,
        tile=options.tile or card.tile,
        threshold=card.threshold if options.threshold is None else options.threshold,
        min_area=default_min_area(scene, card) if options.min_area is None else options.min_area,
        simplify=default_simplify(scene, card, options),
        instances=default_instances(scene, card, options),
        instance_area=(
            card.instance_area if options.instance_area is None else options.instance_area
        ),
    )
    side = resolved.tile or card.tile
    overlap = round(side * resolved.overlap)
    step = lattice(side, overlap)
    scene, grid = cut_to_area(scene, Grid(scene.height, scene.width, side, overlap, step=step))
    normalizer = Normalizer.of(card, options.scale)
    check_range(scene, normalizer)
    warn_of_resolution(scene, card)

    shown = scene
    if options.calibrate is not None:
        whole = dataclasses.replace(options, aoi=None, bbox=None)
        shown = open_view(options.calibrate, whole, bands=card.bands, suits=suits)
    shown_grid = grid
    if shown is not scene:
        shown_grid = Grid(shown.height, shown.width, side, overlap, step=step)
    calibration = Calibration(shown, shown_grid, normalizer)
    predictor = (opener or open_predictor)(model, side, options, calibration=calibration)
    named = [given] if isinstance(given, (str, Path)) else given
    taken = acquired(map(str, named), scene.files)
    return Job(scene, model, resolved, grid, predictor, cut(grid), taken)


def check_one_class(card: Card, options: SegmentOptions) -> None:
    """Refuse walls where classes meet: an object as large as the scene cannot wait for them."""
    if options.regularize and len(card.classes) > 1:
        raise UsageError(
            f"regularize is for models of one class; {card.name} has {len(card.classes)}, whose "
            "common borders would tear: use --simplify, which keeps them"
        )


def default_instances(scene: Scene, card: Card, options: SegmentOptions) -> float | None:
    """From which probability on objects are parted; without a CRS only if that is asked for."""
    if options.instances is not None or scene.crs is None:
        return options.instances
    return card.instances


def default_simplify(scene: Scene, card: Card, options: SegmentOptions) -> float:
    """For walls what the card says, but no less than two of the scene's pixels."""
    if options.simplify or not options.regularize or card.walls is None or scene.gsd is None:
        return options.simplify
    return max(card.walls, WALL_PIXELS * scene.gsd)


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


def cut_to_area(scene: Scene, grid: Grid) -> tuple[Scene, Grid]:
    """The part of a scene with the windows that its area touches, and these windows.

    They lie where they lie in the whole scene, so that the results there are the same.
    """
    bounds = None if scene.area is None else scene.area.bounds(scene.height, scene.width)
    if bounds is None:
        return scene, grid
    window, part = grid.part(bounds)
    return scene.crop(window), part


def check_out_crs(scene: Scene, options: SegmentOptions) -> None:
    """Refuse a CRS for the polygons that nothing understands, or that the scene has no way to.

    Raises:
        InputError: When the scene has no CRS of its own.
        UsageError: When PROJ does not know the CRS.
    """
    if options.out_crs is None:
        return
    try:
        parse_crs(options.out_crs)
    except InputError as error:
        raise UsageError(f"out-crs: {error}; give one such as EPSG:32636") from error
    if scene.crs is None:
        raise InputError(
            f"{scene.path}: has no CRS, so that polygons cannot be brought into "
            f"{options.out_crs}; set it with gdal_edit.py -a_srs"
        )


def warn_of_resolution(scene: Scene, card: Card) -> None:
    """Say so where the scene's pixels are finer or coarser than any the model was trained on."""
    finest, coarsest = card.gsd
    own = scene.native.gsd
    if own is None or finest <= own <= coarsest:
        return
    resampled = scene.gsd is not None and abs(scene.gsd / own - 1) > SAME_SIZE
    told = (
        f"it is resampled to {scene.gsd:.3g} m, which --gsd native prevents"
        if resampled
        else "expect poor results, or have it resampled with --gsd"
    )
    warnings.warn(
        f"{scene.path}: {own:.3g} m a pixel, but model {card.name} was trained on "
        f"{finest:g} to {coarsest:g} m; {told}",
        stacklevel=4,
    )
