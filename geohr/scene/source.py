"""Where a scene's pixels come from: what files, warped scenes and mosaics have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, Self

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window

# Blocks up to this height are read whole; of higher ones only the rows that are needed.
BLOCK_ROWS_MAX = 2048


class PixelReader(Protocol):
    """A source with its files open."""

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window inside the source into `(band, row, col)` pixels and `(row, col)` valid.

        Raises:
            InputError: When a file cannot be read there.
        """

    def close(self) -> None:
        """Close the files."""


class PixelSource(Protocol):
    """A source of pixels. It holds no open file, so that it can be pickled."""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that the pixels depend on; none of a service of tiles."""

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands in use, from 1, in the first file."""

    @property
    def dtype(self) -> str:
        """Name of numpy's data type that holds all bands in use."""

    @property
    def nodata(self) -> float | None:
        """The value that means no data in all bands in use, or None where there is no such one."""

    @property
    def nodata_match(self) -> Literal["all", "any"]:
        """Whether all bands or any band must hold its nodata value for a pixel to be invalid."""

    @property
    def mask_band(self) -> bool:
        """Whether validity is told by more than a value: by a mask, an alpha band, or a grid."""

    @property
    def block_height(self) -> int:
        """The number of rows that are decoded together."""

    def open(self) -> PixelReader:
        """Open the files.

        Raises:
            InputError: When a file is gone or no longer a raster.
        """

    def row_block(self) -> int:
        """Bytes of decoded pixels to keep, so that reading downwards decodes none twice."""

    def select(self, places: Sequence[int]) -> Self:
        """The source with some of its bands in use, named by their place among `bands`."""

    def describe(self) -> dict[str, object]:
        """The settings, besides the bytes of the files, that the pixels depend on, as JSON."""

    def absolute(self) -> Self:
        """The source under names that hold in any working folder."""
