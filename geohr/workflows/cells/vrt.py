"""One virtual raster over the rasters of cells, which GDAL and all that use it can open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from geohr.encoding import NODATA
from geohr.geobox import GeoBox, Window


@dataclass(frozen=True)
class VrtBand:
    """A band of a virtual raster.

    Attributes:
        name: Its description.
        scale: The factor from pixel values to what they mean.
        colours: RGB by pixel value, or None.
    """

    name: str
    scale: float
    colours: dict[int, tuple[int, int, int]] | None


def vrt_of(
    geobox: GeoBox, bands: Sequence[VrtBand], sources: Sequence[tuple[str, Window]], beside: str
) -> str:
    """The text of a virtual raster of uint8, with 255 as nodata.

    Args:
        geobox: The pixels of the whole.
        bands: Its bands, which all sources have.
        sources: Names of rasters as GDAL opens them, and the window of each.
        beside: The folder of the virtual raster: rasters on the same disk are named from there.
    """
    lines = [f'<VRTDataset rasterXSize="{geobox.width}" rasterYSize="{geobox.height}">']
    if geobox.crs is not None:
        lines.append(f"<SRS>{escape(geobox.crs.to_wkt())}</SRS>")
    numbers = ", ".join(repr(float(each)) for each in geobox.transform.to_gdal())
    lines.append(f"<GeoTransform>{numbers}</GeoTransform>")
    for number, band in enumerate(bands, start=1):
        lines += _band(number, band)
        lines += [_source(name, number, window, beside) for name, window in sources]
        lines.append("</VRTRasterBand>")
    return "\n".join([*lines, "</VRTDataset>", ""])


def _band(number: int, band: VrtBand) -> list[str]:
    """What a band is, before its sources."""
    lines = [
        f'<VRTRasterBand dataType="Byte" band="{number}" blockXSize="512" blockYSize="512">',
        f"<Description>{escape(band.name)}</Description>",
        f"<NoDataValue>{NODATA}</NoDataValue>",
        f"<Scale>{band.scale!r}</Scale>",
    ]
    if band.colours is not None:
        entries = [
            f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>'
            for red, green, blue in (band.colours.get(value, (0, 0, 0)) for value in range(256))
        ]
        lines += ["<ColorInterp>Palette</ColorInterp>", "<ColorTable>", *entries, "</ColorTable>"]
    return lines


def _source(name: str, band: int, window: Window, beside: str) -> str:
    """A raster as a source of a band."""
    here = beside and "://" not in name and not name.startswith("/vsi")
    named = os.path.relpath(name, beside) if here else name
    size = f"xSize={quoteattr(str(window.width))} ySize={quoteattr(str(window.height))}"
    return (
        "<SimpleSource>"
        f'<SourceFilename relativeToVRT="{int(bool(here))}">{escape(named)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{window.width}" RasterYSize="{window.height}" '
        'DataType="Byte" BlockXSize="512" BlockYSize="512"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/>'
        f'<DstRect xOff="{window.col}" yOff="{window.row}" {size}/>'
        "</SimpleSource>"
    )


def gdal_name(address: str) -> str:
    """A path or an address in an object store as GDAL names it."""
    kind, colon, rest = address.partition("://")
    return f"/vsi{kind}/{rest}" if colon else str(Path(address).resolve())
