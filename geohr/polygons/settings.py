"""What tracing depends on, whoever does it: one process from top to bottom, or bands apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from affine import Affine

from geohr.encoding import NODATA
from geohr.errors import UsageError
from geohr.models.card import INSTANCE_AREA
from geohr.options import PolygonOptions
from geohr.polygons.finish import AttributeBuilder
from geohr.polygons.frames import Above, Frames
from geohr.polygons.instances import MARGIN, SQUARE, Splitter
from geohr.polygons.neighbours import BuildingGroups
from geohr.polygons.vertices import SIDE_MAX


@dataclass(frozen=True)
class TraceSettings:
    """How a scene is traced.

    Attributes:
        width: Columns of the scene.
        transform: From (column, row) of pixel corners to the CRS.
        crs: The scene's CRS, anything pyproj understands; None leaves metres unknown.
        options: Outline, connectivity, simplification and the rest.
        class_names: Name of each class id; others are named "class ID".
        background: The class id that is not traced; 255 (nodata) never is.
        threshold: The probability at which contours run between a class and the background.

    Raises:
        UsageError: For a width, background or threshold out of range.
    """

    width: int
    transform: Affine
    crs: Any = None
    options: PolygonOptions = field(default_factory=PolygonOptions)
    class_names: Mapping[int, str] = field(default_factory=dict)
    background: int = 0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= self.width <= SIDE_MAX:
            raise UsageError(f"width must be in [1, {SIDE_MAX}] pixels, got {self.width}")
        if not 0 <= self.background <= NODATA:
            raise UsageError(f"background must be in [0, 255], got {self.background}")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"threshold must be in (0, 1], got {self.threshold}")

    @property
    def parts(self) -> bool:
        """Whether touching objects are parted."""
        return self.options.instances is not None and self.options.instances < 1

    def reach(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """The rows that a band's objects depend on.

        Args:
            start: The band's first row, a multiple of `geohr.polygons.instances.SQUARE`.
            stop: The row after its last.
            height: Of the scene.
        """
        above, below = (SQUARE + MARGIN, MARGIN) if self.parts else (1, 0)
        return max(0, start - above), min(height, stop + below)

    def frames(self, above: Above | None = None) -> Frames:
        """What finds objects in rows; see `Frames`."""
        return Frames(
            self.width,
            options=self.options,
            background=self.background,
            threshold=self.threshold,
            above=above,
        )

    def splitter(self, start: int = 0) -> Splitter | None:
        """What parts touching objects from a row on, or None where that is not asked for.

        Raises:
            InputError: Without a CRS.
        """
        if not self.parts:
            return None
        area, level = self.options.instance_area, self.options.instances
        assert level is not None
        return Splitter(
            self.width,
            level=level,
            least_area=INSTANCE_AREA if area is None else area,
            transform=self.transform,
            crs=self.crs,
            background=self.background,
            start=start,
        )

    def finish(self) -> AttributeBuilder:
        """What draws and measures whole objects.

        Raises:
            InputError: When metres are asked for and there is no CRS.
        """
        return AttributeBuilder(
            transform=self.transform,
            crs=self.crs,
            options=self.options,
            neighbourhoods=BuildingGroups(
                self.width, self.transform, self.crs, self.options.simplify
            ),
            class_names=self.class_names,
        )
