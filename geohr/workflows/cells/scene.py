"""The job of a zone, and the part of it that a cell needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geohr._runtime.redact import redact
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Engine
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.inference.job import Job
from geohr.inference.prepare import cut_to_area
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.polygons.rectangles import reach
from geohr.scene import Scene
from geohr.scene.mosaic import MosaicSource, PlacedScene
from geohr.scene.prepare import ResolutionRange, on_wanted_grid, open_scene, place, warp
from geohr.scene.provenance import changed
from geohr.scene.warped import LATTICE, WarpedSource
from geohr.tiling.blocks import downward
from geohr.tiling.grid import Grid, lattice
from geohr.tiling.normalize import Normalizer
from geohr.workflows.cells.plan import CellPlan, PlannedScene, Zone


@dataclass(frozen=True)
class CellView:
    """What a cell is made from.

    Attributes:
        job: The job of the whole zone; its scene reads nothing but the cell's scenes.
        place: The pixels that the cell makes, among those that outputs hold.
        own_place: The pixels of its rasters, which may be on another grid.
        reach: The pixels that these depend on.
        scene: The part of the zone's scene whose windows touch them.
        grid: These windows.
        corner: Row and column of the part's first pixel, counted from the outputs' first pixel.
    """

    job: Job
    place: Window
    own_place: Window
    reach: Window
    scene: Scene
    grid: Grid
    corner: tuple[int, int]


def suited(card: Card) -> ResolutionRange:
    """Resolutions that suit a model."""
    return ResolutionRange(card.gsd, card.gsd_best or card.gsd)


def open_scenes(scenes: Sequence[PlannedScene], zone: Zone, card: Card) -> list[Scene]:
    """Open scenes of a zone.

    Raises:
        InputError: When one cannot be opened, or was changed since the plan was made.
    """
    opened = []
    suits = suited(card)
    for planned in scenes:
        scene = open_scene(planned.name, zone.segmenting, suits).select(card.bands)
        check_state(planned.name, scene.files, planned.state)
        opened.append(scene)
    return opened


def assembled(
    zone: Zone, scenes: Sequence[PlannedScene], opened: Sequence[Scene], card: Card
) -> Scene:
    """The scene of a zone, of which some of its scenes, one at least, are opened.

    Elsewhere there is no data. Those opened have the model's bands.

    Raises:
        InputError: When one does not lie where it lay when the plan was made.
    """
    options = zone.segmenting
    if len(zone.scenes) == 1 and tuple(opened[0].transform)[:6] == zone.transform:
        scene = opened[0]
    else:
        scene = _mosaic(zone, scenes, opened)
    scene = replace(scene, gsd=zone.gsd)
    return on_wanted_grid(scene, options, suited(card)).within(aoi=options.aoi, bbox=options.bbox)


def _mosaic(zone: Zone, scenes: Sequence[PlannedScene], opened: Sequence[Scene]) -> Scene:
    """Scenes of a zone where the plan has them."""
    # A CRS as a file has it and the same as text can differ in what does not matter.
    same = [each.crs for each in opened if each.crs and each.crs.to_wkt() == zone.crs]
    geobox = replace(zone.grid, crs=same[0]) if same else zone.grid
    grid = replace(opened[0], geobox=geobox, path=zone.title)
    top, left = zone.window[:2]
    parts = []
    for planned, scene in zip(scenes, opened, strict=True):
        placed, (row, col) = place(scene, grid)
        window = Window(row - top, col - left, placed.height, placed.width)
        if window != planned.place:
            raise InputError(
                f"{planned.name}: lies elsewhere than when the plan was made; make the plan again"
            )
        parts.append(PlacedScene(placed, window))
    return replace(
        grid,
        geobox=geobox.window(Window(*zone.window)),
        source=MosaicSource(tuple(parts), zone.window[3]),
        band_names=(),
        corner=(0, 0),
        warped_from=None,
    )


def zone_job(plan: CellPlan, zone: Zone, scenes: Sequence[PlannedScene], model: Model) -> Job:
    """The job that one run over a zone would be, with some of its scenes; see `assembled`.

    Raises:
        InputError: When a scene cannot be opened, or is not what it was.
    """
    card = model.card
    scene = assembled(zone, scenes, open_scenes(scenes, zone, card), card)
    for name, state in plan.inputs:
        check_state(name, [name], state)
    return job_of(zone, scene, model, polygons=plan.asked.polygons)


def job_of(zone: Zone, scene: Scene, model: Model, *, polygons: bool) -> Job:
    """The job over the scene of a zone."""
    card, options = model.card, zone.segmenting
    tile = options.tile or card.tile
    overlap = round(tile * options.overlap)
    whole = Grid(scene.height, scene.width, tile, overlap, step=lattice(tile, overlap))
    scene, grid = cut_to_area(scene, whole)
    normalizer = Normalizer.of(card, options.scale)
    shown, shown_grid = scene, grid
    if options.calibrate is not None:
        shown = Scene.open(options.calibrate, options).select(card.bands)
        shown_grid = Grid(shown.height, shown.width, tile, overlap, step=lattice(tile, overlap))
    return Job(
        replace(scene, path=zone.title),
        card,
        model.digest,
        options,
        grid,
        downward(grid),
        Calibration(shown, shown_grid, normalizer),
        engine=Engine("", 0),
        acquired=zone.acquired,
        polygons=polygons,
    )


def cell_view(job: Job, place_: Window, own_place: Window) -> CellView:
    """What a cell is made from; see `CellView`."""
    near = needed(job, place_, own_place)
    window, grid = job.grid.part(near.shifted(job.window.row, job.window.col))
    corner = (window.row - job.window.row, window.col - job.window.col)
    return CellView(job, place_, own_place, near, job.scene.crop(window), grid, corner)


def needed(job: Job, place_: Window, own_place: Window) -> Window:
    """The pixels that those of a cell depend on, among the pixels that outputs hold."""
    found = [place_]
    if job.polygons:
        found.append(reach(place_, job.trace_settings))
    if job.own_scene is not job.scene:
        found.append(resampled_from(job, own_place))
    top, left = min(each.row for each in found), min(each.col for each in found)
    bottom = max(each.row_stop for each in found)
    right = max(each.col_stop for each in found)
    return Window(top, left, bottom - top, right - left).within(job.geobox.extent)


def resampled_from(job: Job, own_place: Window) -> Window:
    """The pixels that a cell's rasters on the scene's own grid are made from."""
    own = job.own_scene.area_geobox
    source = WarpedSource(replace(job.scene, geobox=job.geobox), own)
    scale = source.scale(own.extent)
    tops = range(own_place.row // LATTICE * LATTICE, own_place.row_stop, LATTICE)
    lefts = range(own_place.col // LATTICE * LATTICE, own_place.col_stop, LATTICE)
    blocks = {(row, col) for row in (tops[0], tops[-1]) for col in lefts}
    blocks |= {(row, col) for row in tops for col in (lefts[0], lefts[-1])}
    found = [
        source.source_window(Window(row, col, LATTICE, LATTICE).within(own.extent), scale)
        for row, col in sorted(blocks)
    ]
    windows = [each for each in found if each is not None]
    if not windows:
        return Window(0, 0, 1, 1)
    top, left = min(each.row for each in windows), min(each.col for each in windows)
    bottom = max(each.row_stop for each in windows)
    right = max(each.col_stop for each in windows)
    return Window(top, left, bottom - top, right - left)


def on_own_grid(job: Job, made: Scene, reach: Window, *, classes: bool) -> Scene:
    """A raster of a part of the outputs on the scene's own grid, as `ReprojectedWriter` has it."""
    whole = replace(
        made,
        geobox=job.geobox,
        source=MosaicSource((PlacedScene(made, reach),), job.geobox.width),
    )
    return warp(whole, job.own_scene.area_geobox, nearest=classes, by_centre=True)


def check_state(name: str, files: Sequence[str], state: Sequence[list[object]]) -> None:
    """Refuse an input of which a file is not in the state noted when the plan was made.

    Raises:
        InputError: When one of them was changed, or is gone.
    """
    if len(files) != len(state) or changed(files, state) is not None:
        raise InputError(
            f"{redact(name)}: was changed since the plan was made; make the plan again"
        )
