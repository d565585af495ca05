"""A plan made from scenes: their common grid, its cells, and what each of them will take."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp
import shapely

from geohr import __version__
from geohr.api.plan import seconds_a_window
from geohr.encoding import Floats
from geohr.engines.cores import cores
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.geodesy import ground_sampling_distance
from geohr.inference.disk import CLASSES_BYTES, PROBABILITIES_BYTES, VECTOR_BYTES
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import Job
from geohr.inference.prepare import (
    check_one_class,
    check_out_crs,
    resolve_options,
    warn_of_resolution,
)
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene.prepare import SceneLike, display_name, names_of, open_scene
from geohr.scene.provenance import identify
from geohr.scene.stac import acquired
from geohr.scene.warped import LATTICE
from geohr.tiling.normalize import Normalizer, check_range
from geohr.workflows.cells.grids import ZoneDraft, draft_zones
from geohr.workflows.cells.options import CellOptions
from geohr.workflows.cells.plan import Cell, CellPlan, Zone, touched
from geohr.workflows.cells.scene import assembled, job_of, needed, suited

# Pixels by which a scene may lie beyond where it is thought to, as edges are bent between CRSs.
SLACK = 4
# Points on each side of a scene that are followed to another CRS.
EDGE_POINTS = 21


def plan_cells(
    given: SceneLike,
    root: str | Path,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    asked: CellOptions | None = None,
) -> CellPlan:
    """Cut scenes into cells that can be made one by one, and joined into what one run would give.

    Args:
        given: Rasters, addresses, STAC Items or ItemCollections; where several have a valid
            pixel, the later one's is taken.
        root: The folder, or the address in an object store, that cells write to.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The options of segmentation; by default those of the model card.
        asked: How the scenes are cut, and what cells write.

    Raises:
        UsageError: For options that cells cannot have.
        InputError: When a scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    options, asked = options or SegmentOptions(), asked or CellOptions()
    network = resolve_model(model)
    card = network.card
    check_one_class(card, options)
    if options.precision == "int8" and options.calibrate is None:
        raise UsageError("with --precision int8, name the scene to calibrate on with --calibrate")
    named = [given] if isinstance(given, (str, Path)) else list(given)
    names = [_absolute(each) for each in names_of(named, options)]
    options = dataclasses.replace(
        options,
        aoi=None if options.aoi is None else _absolute(options.aoi),
        calibrate=None if options.calibrate is None else _absolute(options.calibrate),
    )
    opened = [open_scene(name, options, suited(card)).select(card.bands) for name in names]
    files = [name for scene in opened for name in scene.files]
    taken = acquired(map(str, named), files, options)
    drafts = draft_zones(names, opened, options, asked, card)
    executor = LocalExecutor()
    zones: list[Zone] = []
    cells: list[Cell] = []
    rate = 0.0
    for draft in drafts:
        zone, job = _resolved(draft, taken, network, asked)
        if not rate:
            made = executor.open(network, job.grid.tile, job.options, job.calibration)
            rate = seconds_a_window(executor.predictor, len(card.bands), job.grid.tile)
            assert made
        cells += _cells(zone, len(zones), job, asked, rate, draft.side)
        zones.append(zone)
    if not cells:
        raise InputError(
            f"{display_name(names)}: no cell has a scene in it; check --aoi and --bbox"
        )
    inputs = [each for each in (options.aoi, options.calibrate) if each is not None]
    return CellPlan(
        root=str(root) if "://" in str(root) else _absolute(root),
        model=_model_name(model),
        model_digest=network.digest,
        version=__version__,
        cores=cores(),
        asked=asked,
        inputs=tuple((name, identify([name])) for name in inputs),
        zones=tuple(zones),
        cells=tuple(cells),
    )


def _model_name(model: str | Path | Model | None) -> str:
    """The name by which a task finds the model.

    Raises:
        UsageError: When it is in memory alone.
    """
    if model is None:
        return "buildings"
    if isinstance(model, Model):
        if model.path is None:
            raise UsageError("the model is in no file, where tasks could find it; save it first")
        return _absolute(model.path)
    return _absolute(model) if Path(model).exists() else str(model)


def _absolute(name: str | Path) -> str:
    """A name that holds in any working folder, where it is one of a file."""
    text = str(name)
    return text if "://" in text or text.startswith("/vsi") else str(Path(text).resolve())


def _resolved(
    draft: ZoneDraft, taken: str | None, model: Model, asked: CellOptions
) -> tuple[Zone, Job]:
    """A zone with its options and edges, and its job."""
    zone, card = draft.zone, model.card
    scene = assembled(zone, zone.scenes, draft.opened, card)
    check_out_crs(scene, zone.segmenting)
    options = resolve_options(zone.segmenting, scene, card)
    check_range(scene, Normalizer.of(card, options.scale))
    warn_of_resolution(scene, card)
    zone = dataclasses.replace(zone, options=dataclasses.asdict(options), acquired=taken)
    job = job_of(zone, scene, model, polygons=asked.polygons)
    box = job.geobox
    if draft.side is None:
        side = _side(job, asked)
        rows, cols = ([*range(0, size, side), size] for size in box.shape)
    else:
        rows = _edges(-box.transform.f, -box.transform.e, box.height, draft.side)
        cols = _edges(box.transform.c, box.transform.a, box.width, draft.side)
    own = job.own_scene.area_geobox
    return (
        dataclasses.replace(
            zone,
            rows=tuple(rows),
            cols=tuple(cols),
            own_rows=tuple(round(each * own.height / box.height) for each in rows),
            own_cols=tuple(round(each * own.width / box.width) for each in cols),
        ),
        job,
    )


def _side(job: Job, asked: CellOptions) -> int:
    """Pixels of a side of a cell."""
    if job.scene.gsd is None:
        raise InputError(
            f"{job.scene.path}: has no CRS, so that its pixels have no size, and cells of "
            f"{asked.cell} cannot be cut; say its resolution with --scene-gsd METRES"
        )
    side = round(asked.cell_metres / job.scene.gsd)
    if side < 1:
        raise UsageError(f"cell {asked.cell}: is less than a pixel of {job.scene.gsd:.3g} m")
    return side


def _edges(origin: float, pixel: float, size: int, side: float) -> list[int]:
    """Pixels along one axis at which cells begin whose edges are multiples of a side."""
    first = math.floor(origin / side) + 1
    last = math.ceil((origin + size * pixel) / side)
    inner = {round((each * side - origin) / pixel) for each in range(first, last)}
    return [0, *sorted(each for each in inner if 0 < each < size), size]


def _cells(
    zone: Zone, number: int, job: Job, asked: CellOptions, rate: float, side: float | None
) -> list[Cell]:
    """The cells of a zone that a scene and the area lie in."""
    boxes = _scene_boxes(zone, job)
    tree = shapely.STRtree(shapely.box(*boxes.T))
    area = None if job.scene.area is None else job.scene.area
    cells = []
    for row in range(len(zone.rows) - 1):
        for col in range(len(zone.cols) - 1):
            cell = Cell("", number, row, col, (), 0, 0.0, 0, 0.0)
            window = cell.place(zone)
            if area and not area.touches(window.shifted(job.window.row, job.window.col)):
                continue
            if not len(tree.query(_box(window, SLACK), predicate="intersects")):
                continue
            reach, windows = _windows(job, window, cell.own_place(zone))
            near = LATTICE + SLACK if job.scene.warped_from is not None else SLACK
            scenes = np.sort(tree.query(_box(reach, near), predicate="intersects"))
            covered = shapely.union_all(shapely.box(*boxes[scenes].T)).intersection(_box(reach, 0))
            share = covered.area / (reach.height * reach.width)
            predicted = math.ceil(windows * min(share, 1.0))
            gsd = job.scene.gsd or 0.0
            if job.geobox.crs is not None and asked.grid == "scene":
                gsd = ground_sampling_distance(job.geobox.window(window))
            cells.append(
                Cell(
                    name=_cell_name(zone, job, row, col, side),
                    zone=number,
                    row=row,
                    col=col,
                    scenes=tuple(scenes.tolist()),
                    windows=predicted,
                    seconds=round(predicted * rate, 3),
                    bytes=_output_bytes(window, len(job.card.classes), asked),
                    km2=round(window.height * window.width * gsd**2 / 1e6, 6),
                )
            )
    return cells


def _windows(job: Job, window: Window, own: Window) -> tuple[Window, int]:
    """The pixels that the windows of a cell touch, and how many windows there are."""
    grid, reach = job.grid, needed(job, window, own).shifted(job.window.row, job.window.col)
    top, bottom = touched(grid.row_starts, grid.tile, reach.row, reach.row_stop)
    left, right = touched(grid.col_starts, grid.tile, reach.col, reach.col_stop)
    first_row, first_col = grid.row_starts[top], grid.col_starts[left]
    whole = Window(
        first_row - job.window.row,
        first_col - job.window.col,
        grid.row_starts[bottom - 1] + grid.tile - first_row,
        grid.col_starts[right - 1] + grid.tile - first_col,
    )
    return whole, (bottom - top) * (right - left)


def _box(window: Window, more: int) -> Any:
    """A window as a rectangle, with more on all sides."""
    return shapely.box(
        window.col - more, window.row - more, window.col_stop + more, window.row_stop + more
    )


def _scene_boxes(zone: Zone, job: Job) -> Floats:
    """`(scene, 4)` left, top, right and bottom of scenes among the pixels that outputs hold."""
    geobox, crs = job.geobox, zone.geobox.crs
    bent = crs != geobox.crs
    steps = np.linspace(0, 1, EDGE_POINTS if bent else 2)
    found = []
    for scene in zone.scenes:
        window = scene.place
        cols, rows = np.meshgrid(
            window.col + steps * window.width, window.row + steps * window.height
        )
        x, y = zone.geobox.to_world(cols.ravel(), rows.ravel())
        if bent:
            x, y = map(np.asarray, rasterio.warp.transform(crs, geobox.crs, x, y))
        col, row = geobox.to_pixels(x, y)
        found.append([col.min(), row.min(), col.max(), row.max()])
    return np.array(found)


def _cell_name(zone: Zone, job: Job, row: int, col: int, side: float | None) -> str:
    """The name of a cell: its place in the mosaic, or in the CRS where its edges lie there."""
    if side is None:
        return f"r{row:03d}c{col:03d}"
    x, y = job.geobox.to_world(
        (zone.cols[col] + zone.cols[col + 1]) / 2, (zone.rows[row] + zone.rows[row + 1]) / 2
    )
    return f"{zone.name}x{math.floor(float(x) / side)}y{math.floor(float(y) / side)}"


def _output_bytes(window: Window, classes: int, asked: CellOptions) -> int:
    """Bytes of what a cell writes, as towns were seen to take."""
    each = asked.classes * CLASSES_BYTES + asked.polygons * VECTOR_BYTES
    each += asked.probs * classes * PROBABILITIES_BYTES
    return math.ceil(window.height * window.width * each)
