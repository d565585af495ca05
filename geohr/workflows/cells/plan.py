"""The plan: everything that a task needs to know of a mosaic, its cells, and where they go.

A plan is one JSON file. It names the scenes, their place on the common pixel grid and what
identified them when it was made; the options, with every default resolved; and the cells. A task
reads it, and nothing else tells it what to do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from affine import Affine
from rasterio.crs import CRS

from geohr import __version__
from geohr._runtime.file_store import FolderStore, open_file_store
from geohr._runtime.files import check_writable
from geohr._runtime.messages import amount
from geohr._runtime.stores import check_absent, is_object
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox, Window
from geohr.options import SegmentOptions
from geohr.workflows.cells.options import CellOptions

# The version of the file's form.
FORMAT = 1


@dataclass(frozen=True)
class PlannedScene:
    """A scene of a zone.

    Attributes:
        name: A path, or an address as GDAL or geohr take it.
        window: Row, column, height and width on the zone's pixel grid.
        state: What identified its files; see `geohr.scene.provenance.identify`.
    """

    name: str
    window: tuple[int, int, int, int]
    state: list[list[object]]

    @property
    def place(self) -> Window:
        """The window on the zone's pixel grid."""
        return Window(*self.window)


@dataclass(frozen=True)
class Zone:
    """A mosaic on one pixel grid: all scenes, or those in one UTM zone.

    Attributes:
        name: The beginning of the names of its cells; empty where there is one zone.
        title: What the mosaic is called.
        crs: The CRS of the scenes' common pixel grid as WKT, or None.
        transform: The six numbers of the grid's affine transform.
        window: Row, column, height and width of the mosaic on that grid.
        gsd: Ground sampling distance in metres, or None.
        scenes: The scenes, in the order in which the later lies over the earlier.
        options: The options of segmentation, with every default resolved.
        rows: Rows of the outputs at which cells are cut, on the grid that is predicted on.
        cols: Columns likewise.
        own_rows: Rows of the rasters at which cells are cut.
        own_cols: Columns likewise.
        acquired: When the scenes were taken, or None.
    """

    name: str
    title: str
    crs: str | None
    transform: tuple[float, ...]
    window: tuple[int, int, int, int]
    gsd: float | None
    scenes: tuple[PlannedScene, ...]
    options: dict[str, Any]
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    own_rows: tuple[int, ...]
    own_cols: tuple[int, ...]
    acquired: str | None

    @cached_property
    def grid(self) -> GeoBox:
        """The pixel grid on which the mosaic is placed, as far as its first scene goes."""
        crs = None if self.crs is None else CRS.from_wkt(self.crs)
        return GeoBox(crs, Affine(*self.transform), self.window[2], self.window[3])

    @cached_property
    def geobox(self) -> GeoBox:
        """The pixels of the mosaic."""
        return self.grid.window(Window(*self.window))

    @cached_property
    def segmenting(self) -> SegmentOptions:
        """The options of segmentation."""
        return SegmentOptions.from_mapping(self.options, source="plan")


@dataclass(frozen=True)
class Cell:
    """A cell: a rectangle of the pixels of a zone, that one task makes.

    Attributes:
        name: Its name, and that of its files.
        zone: The number of its zone.
        row: Its place down, among the cells of the zone.
        col: Its place across.
        scenes: Numbers of the scenes of the zone that it is read from.
        windows: Windows that will be predicted, estimated.
        seconds: Seconds that takes on all cores of the machine that made the plan, estimated.
        bytes: Bytes that it writes, estimated.
        km2: Square kilometres on the ground.
    """

    name: str
    zone: int
    row: int
    col: int
    scenes: tuple[int, ...]
    windows: int
    seconds: float
    bytes: int
    km2: float

    def place(self, zone: Zone) -> Window:
        """The pixels that it makes, on the grid that is predicted on."""
        return _between(zone.rows, zone.cols, self.row, self.col)

    def own_place(self, zone: Zone) -> Window:
        """The pixels of its rasters."""
        return _between(zone.own_rows, zone.own_cols, self.row, self.col)


def _between(rows: Sequence[int], cols: Sequence[int], row: int, col: int) -> Window:
    """The rectangle between two edges down and two across."""
    return Window(rows[row], cols[col], rows[row + 1] - rows[row], cols[col + 1] - cols[col])


@dataclass(frozen=True)
class PlanEstimate:
    """What the cells of a plan will take.

    Attributes:
        cells: How many there are.
        scenes: The scenes that they are read from.
        km2: Square kilometres.
        windows: Windows that will be predicted.
        seconds: Seconds on one machine like the one that made the plan.
        core_hours: The same as hours of one core.
        bytes: Bytes of the outputs.
        cost: The price of the core hours.
        cost_per_km2: The same per square kilometre.
    """

    cells: int
    scenes: int
    km2: float
    windows: int
    seconds: float
    core_hours: float
    bytes: int
    cost: float
    cost_per_km2: float

    def describe(self) -> str:
        """The estimate for a person."""
        return (
            f"{amount(self.cells, 'cell')} of {amount(self.scenes, 'scene')}, {self.km2:.4g} km2; "
            f"{amount(self.windows, 'window')}, {self.core_hours:.3g} core hours; "
            f"{self.bytes / 1e6:.4g} MB of outputs; "
            f"cost {self.cost:.3g} at --price, {self.cost_per_km2:.3g} per km2"
        )


@dataclass(frozen=True)
class CellPlan:
    """A plan; see the module.

    Attributes:
        root: The folder or address of what cells write.
        model: The model: a bundled name or a file.
        model_digest: SHA-256 of the model file.
        version: The version of geohr.
        cores: Cores of the machine that made it, which `Cell.seconds` takes.
        asked: The options of the plan.
        inputs: Other files that cells depend on, and what identified them.
        zones: The zones.
        cells: The cells, in the order of tasks.
    """

    root: str
    model: str
    model_digest: str
    version: str
    cores: int
    asked: CellOptions
    inputs: tuple[tuple[str, list[list[object]]], ...]
    zones: tuple[Zone, ...]
    cells: tuple[Cell, ...]

    @cached_property
    def store(self) -> Any:
        """The folder or bucket of what cells write."""
        return open_file_store(self.root)

    @cached_property
    def _digests(self) -> dict[str, str]:
        """What each cell's outputs depend on, by its name."""
        of_zones = []
        for zone in self.zones:
            fields = dataclasses.asdict(zone) | {"scenes": None}
            of_zones.append(_digest([fields, self.model_digest, self.version, self.inputs]))
        asked = [self.asked.classes, self.asked.probs, self.asked.polygons]
        return {
            cell.name: _digest(
                [
                    of_zones[cell.zone],
                    asked,
                    [cell.row, cell.col],
                    [
                        dataclasses.asdict(self.zones[cell.zone].scenes[each])
                        for each in cell.scenes
                    ],
                ]
            )[:12]
            for cell in self.cells
        }

    def marker(self, cell: Cell, folder: str = "done") -> str:
        """The name of the file that says that a cell is done, or why it failed."""
        return f"{folder}/{cell.name}-{self._digests[cell.name]}.json"

    def cell(self, name: str) -> Cell:
        """The cell of that name.

        Raises:
            UsageError: When there is none.
        """
        found = [each for each in self.cells if each.name == name]
        if not found:
            first, last = self.cells[0].name, self.cells[-1].name
            raise UsageError(f"no cell {name}; the plan has {len(self.cells)}: {first} to {last}")
        return found[0]

    def task(self, number: int, count: int) -> list[Cell]:
        """The cells of one of `count` tasks, numbered from 1, that share all of them."""
        return list(self.cells[number - 1 :: count])

    def estimate(self) -> PlanEstimate:
        """What all cells will take."""
        seconds = sum(each.seconds for each in self.cells)
        hours = seconds * self.cores / 3600
        km2 = sum(each.km2 for each in self.cells)
        return PlanEstimate(
            cells=len(self.cells),
            scenes=sum(len(each.scenes) for each in self.zones),
            km2=round(km2, 6),
            windows=sum(each.windows for each in self.cells),
            seconds=round(seconds, 1),
            core_hours=hours,
            bytes=sum(each.bytes for each in self.cells),
            cost=hours * self.asked.price,
            cost_per_km2=hours * self.asked.price / km2 if km2 else 0.0,
        )

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps({"geohr_cells": FORMAT, **dataclasses.asdict(self)}, default=str)


def _digest(value: object) -> str:
    """A digest of a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_plan(plan: CellPlan, out: str | Path, *, overwrite: bool = False) -> None:
    """Write a plan, whole or not at all.

    Args:
        plan: The plan.
        out: A file, or an address in an object store.
        overwrite: Replace one that exists.

    Raises:
        UsageError: When it exists and `overwrite` is not set, or is one of the scenes.
        OutputError: When it cannot be written.
    """
    if is_object(out):
        check_absent(str(out), overwrite=overwrite)
        folder, _, name = str(out).rpartition("/")
        open_file_store(folder).put(name, plan.to_json().encode())
        return
    path = Path(out)
    scenes = [scene.name for zone in plan.zones for scene in zone.scenes]
    named = [zone.options.get("aoi") for zone in plan.zones]
    check_writable(path, overwrite=overwrite, inputs=[*scenes, *named])
    open_file_store(path.parent).put(path.name, plan.to_json().encode())


def beside_plan(out: str | Path) -> str | Path:
    """Where cells write, if nothing else is said: a folder named after the plan."""
    if is_object(out):
        return str(out).removesuffix(".json") + ".cells"
    return Path(out).with_suffix(".cells")


def read_plan(path: str | Path) -> CellPlan:
    """Read a plan from a file or an object store.

    Raises:
        InputError: When there is none, or it is no plan.
        UsageError: When another version of geohr made it.
    """
    return plan_of(_content(path), str(path))


def plan_of(text: str | bytes, name: str) -> CellPlan:
    """The plan in a text that `CellPlan.to_json` made; messages name it.

    Raises:
        InputError: When it is no plan.
        UsageError: When another version of geohr made it.
    """
    try:
        content = json.loads(text)
        if content["geohr_cells"] != FORMAT:
            raise InputError(f"{name}: a plan of form {content['geohr_cells']}; make it again")
        plan = _plan(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: is no plan of cells ({type(error).__name__}: {error}); make one with geohr "
            "cells plan"
        ) from error
    if plan.version != __version__:
        raise UsageError(
            f"{name}: was made with geohr {plan.version}, and this is {__version__}, whose results "
            "may differ; make the plan again, or install that version"
        )
    return plan


def _content(path: str | Path) -> bytes:
    """The bytes of a plan."""
    folder, _, name = str(path).rpartition("/")
    store = open_file_store(folder) if is_object(path) else FolderStore(Path(path).parent)
    content = store.read(name if is_object(path) else Path(path).name)
    if content is None:
        raise InputError(f"{path}: no such file; make a plan with geohr cells plan")
    return content


def _plan(fields: Mapping[str, Any]) -> CellPlan:
    """The plan that JSON holds."""
    return CellPlan(
        root=fields["root"],
        model=fields["model"],
        model_digest=fields["model_digest"],
        version=fields["version"],
        cores=fields["cores"],
        asked=CellOptions.from_mapping(fields["asked"], source="plan"),
        inputs=tuple((name, state) for name, state in fields["inputs"]),
        zones=tuple(_zone(each) for each in fields["zones"]),
        cells=tuple(Cell(**{**each, "scenes": tuple(each["scenes"])}) for each in fields["cells"]),
    )


def _zone(fields: Mapping[str, Any]) -> Zone:
    """The zone that JSON holds."""
    scenes = tuple(
        PlannedScene(each["name"], tuple(each["window"]), each["state"])
        for each in fields["scenes"]
    )
    lists = {name: tuple(each) for name, each in fields.items() if isinstance(each, list)}
    return Zone(**{**fields, **lists, "scenes": scenes})


def touched(starts: Sequence[int], tile: int, first: int, stop: int) -> tuple[int, int]:
    """The windows along one axis that touch the pixels `[first, stop)`, as a range."""
    return bisect_right(starts, first - tile), bisect_left(starts, stop)
