"""Preparation of a job: defaults are resolved, and what cannot work is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from pyproj import Transformer
from pyproj.exceptions import ProjError

from geohr._runtime.messages import warn
from geohr.engines.calibration import Calibration
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.geodesy import parse_crs
from geohr.inference.executor import Executor
from geohr.inference.job import CoarserJob, Job
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.polygons.regularize import WALL_PIXELS
from geohr.scene import Scene
from geohr.scene.prepare import FACTOR, SAME_SIZE, ResolutionRange, SceneLike, open_view
from geohr.scene.stac import acquired
from geohr.scene.warped import LATTICE, WarpedSource
from geohr.tiling.blocks import BlockSize
from geohr.tiling.grid import Grid, lattice
from geohr.tiling.normalize import Normalizer, check_range


def prepare(
    given: SceneLike,
    model: Model,
    options: SegmentOptions,
    executor: Executor,
    *,
    block_size: BlockSize | None = None,
    polygons: bool = True,
) -> Job:
    """Describe a run, and open its model on the executor.

    Args:
        given: The scene, or several that are one mosaic; see `geohr.scene.prepare.open_view`.
        model: Network and card.
        options: The options that were asked for.
        executor: The executor of the job.
        block_size: The size of blocks; by default that of the executor.
        polygons: Whether polygons are wanted.

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
    options = resolve_options(options, scene, card)
    tile = options.tile or card.tile
    overlap = round(tile * options.overlap)
    step = lattice(tile, overlap)
    whole = scene
    scene, grid = cut_to_area(scene, Grid(scene.height, scene.width, tile, overlap, step=step))
    normalizer = Normalizer.of(card, options.scale)
    check_range(scene, normalizer)
    warn_of_resolution(scene, card)

    shown, shown_grid = scene, grid
    everywhere = dataclasses.replace(options, aoi=None, bbox=None)
    if options.calibrate is not None:
        shown = open_view(options.calibrate, everywhere, bands=card.bands, suits=suits)
        shown_grid = Grid(shown.height, shown.width, tile, overlap, step=step)
    calibration = Calibration(shown, shown_grid, normalizer)
    named = [given] if isinstance(given, (str, Path)) else given
    job = Job(
        scene,
        card,
        model.digest,
        options,
        grid,
        block_size or executor.block_size(grid),
        calibration,
        engine=executor.open(model, tile, options, calibration),
        acquired=acquired(map(str, named), scene.files, options),
        polygons=polygons,
    )
    coarser = [
        open_view(given, dataclasses.replace(everywhere, gsd=repr(metres)), bands=card.bands)
        for metres in options.readings or ()
    ]
    return dataclasses.replace(
        job,
        coarser=tuple(
            coarser_reading(job, whole, each, block_size=block_size, executor=executor)
            for each in coarser
        ),
    )


def coarser_reading(
    job: Job, whole: Scene, coarse: Scene, *, block_size: BlockSize | None, executor: Executor
) -> CoarserJob:
    """Describe a coarser reading of a job's scene.

    `whole` is the job's scene before it was cut to its area, `coarse` all of it on the coarser
    grid.
    """
    own = job.grid
    grid = Grid(coarse.height, coarse.width, own.tile, own.overlap, step=own.step)
    scene = coarse
    if whole.area is not None:
        # All that the blocks of the lattice over the area are made of, so that they are made of
        # the same pixels as they are for the whole scene.
        area, reach = whole.area_window, whole.geobox.extent
        row, col = area.row // LATTICE * LATTICE, area.col // LATTICE * LATTICE
        height = -(-(area.row_stop - row) // LATTICE) * LATTICE
        width = -(-(area.col_stop - col) // LATTICE) * LATTICE
        source = WarpedSource(coarse, whole.geobox)
        needed = source.source_window(
            Window(row, col, height, width).within(reach), source.scale(reach)
        )
        window, grid = grid.part((needed or coarse.geobox.extent).within(coarse.geobox.extent))
        scene = coarse.crop(window)
    made = dataclasses.replace(
        job,
        scene=scene,
        grid=grid,
        block_size=block_size or executor.block_size(grid),
        polygons=False,
    )
    return CoarserJob(made, coarse.geobox, whole.geobox)


def resolve_options(options: SegmentOptions, scene: Scene, card: Card) -> SegmentOptions:
    """The options with what the card says where nothing was asked for."""
    options = dataclasses.replace(
        options,
        outline=options.outline or card.outline,
        readings=default_readings(scene, card, options),
        join=options.join or card.join,
        regularize=default_regularize(scene, card, options),
    )
    return dataclasses.replace(
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


def default_readings(scene: Scene, card: Card, options: SegmentOptions) -> tuple[float, ...]:
    """The coarser readings asked for; else, where the model chooses the resolution, the card's.

    Those that are hardly coarser than the first reading, finer than the scene itself, or larger
    than all of it are left out.
    """
    asked = options.readings
    if asked is None:
        asked = card.readings if options.gsd == "auto" else ()
    own, read = scene.native.gsd, scene.gsd
    if own is None or read is None:
        return ()
    # A reading at the scene's own resolution is one that it has.
    low, high = own / (1 + SAME_SIZE), own * max(scene.native.geobox.shape)
    return tuple(sorted({each for each in asked if each > FACTOR * read and low <= each <= high}))


def check_one_class(card: Card, options: SegmentOptions) -> None:
    """Refuse walls where classes meet: an object as large as the scene cannot wait for them."""
    if options.regularize and len(card.classes) > 1:
        raise UsageError(
            f"regularize is for models of one class; {card.name} has {len(card.classes)}, whose "
            "common borders would tear: use --simplify, which keeps them"
        )


def default_instances(scene: Scene, card: Card, options: SegmentOptions) -> float | None:
    """The probability of cores that split objects; without metres only if it is asked for."""
    if options.instances is not None or scene.gsd is None:
        return options.instances
    return card.instances


def default_regularize(scene: Scene, card: Card, options: SegmentOptions) -> bool:
    """Whether walls are drawn; where metres are not known, only if that is asked for."""
    if options.regularize is not None:
        return options.regularize
    return card.regularize and scene.gsd is not None


def default_simplify(scene: Scene, card: Card, options: SegmentOptions) -> float:
    """The tolerance asked for; else, for walls, that of the card, but at least two pixels.

    A tolerance of 0 follows outlines exactly, and draws walls as closely as the pixels allow.
    """
    if options.simplify is not None:
        return options.simplify
    if not options.regularize or card.walls is None or scene.gsd is None:
        return 0.0
    return max(card.walls, WALL_PIXELS * scene.gsd)


def default_min_area(scene: Scene, card: Card) -> float | None:
    """The card's smallest object in square metres; None, with a warning, without metres."""
    if scene.gsd is not None or not card.min_area:
        return card.min_area
    warn(
        f"{scene.path}: has no CRS, so that its pixels have no size: areas and lengths are in "
        f"its own units, objects below the model's {card.min_area:g} m2 are kept, and no check of "
        "the resolution was made; give it one with gdal_edit.py -a_srs, or say its resolution "
        "with --scene-gsd METRES"
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
    check_transformation(scene, options.out_crs)


def check_transformation(scene: Scene, target: str) -> None:
    """Refuse a scene whose polygons have no way into a CRS, before they are found.

    Args:
        scene: The scene; one without a CRS has nothing to be brought anywhere.
        target: The CRS of the polygons.

    Raises:
        UsageError: When the target is no CRS of a map.
        InputError: When there is no transformation, or it does not hold in the scene.
    """
    if scene.crs is None:
        return
    crs = parse_crs(target)
    if not (crs.is_geographic or crs.is_projected or crs.is_engineering):
        raise UsageError(f"polygons cannot be in {target}, a {crs.type_name}; name a CRS of maps")
    x, y = scene.geobox.to_world(scene.width / 2, scene.height / 2)
    try:
        transformer = Transformer.from_crs(parse_crs(scene.crs), crs, always_xy=True)
        placed = bool(np.isfinite(transformer.transform(x, y)).all())
    except ProjError:
        placed = False
    if not placed:
        raise InputError(
            f"{scene.path}: its CRS has no transformation into {target} that holds there; leave "
            "out --out-crs and .geojson, or give the scene its CRS with gdal_edit.py -a_srs"
        )


def warn_of_resolution(scene: Scene, card: Card) -> None:
    """Say so where the scene's pixels are finer or coarser than any the model was trained on."""
    finest, coarsest = card.gsd
    own = scene.native.gsd
    # As close as scenes are read without being resampled: a model of one resolution suits its like.
    if own is None or finest / FACTOR <= own <= coarsest * FACTOR:
        return
    resampled = scene.gsd is not None and abs(scene.gsd / own - 1) > SAME_SIZE
    told = (
        f"it is resampled to {scene.gsd:.3g} m, which --gsd native prevents"
        if resampled
        else "expect poor results, or have it resampled with --gsd"
    )
    warn(
        f"{scene.path}: {own:.3g} m a pixel, but model {card.name} was trained on "
        f"{finest:g} to {coarsest:g} m; {told}"
    )
