"""A map without the objects below a confidence."""

from __future__ import annotations

from pathlib import Path

import pyogrio
import pyogrio.errors

from geohr._runtime.files import check_writable, written_whole
from geohr.errors import InputError, UsageError
from geohr.outputs.layers import GPKG_OPTIONS
from geohr.scene.vectors import first_layer


def write_filtered(result: Path, threshold: float, out: Path, *, overwrite: bool = False) -> int:
    """Copy the objects of a map from a confidence on, with all their columns.

    Args:
        result: Vector file of objects with a column `confidence`.
        threshold: The least confidence kept.
        out: A .gpkg; it appears when it is whole.
        overwrite: Replace `out` if it exists.

    Returns:
        The number of objects kept.

    Raises:
        UsageError: When `out` exists or is no .gpkg.
        InputError: When the map cannot be read or has no confidence.
        OutputError: When `out` cannot be written.
    """
    if out.suffix.lower() != ".gpkg":
        raise UsageError(f"{out}: the map goes to a GeoPackage; name a file that ends in .gpkg")
    check_writable(out, overwrite=overwrite, inputs=[result])
    try:
        layer = first_layer(result)
        about = pyogrio.read_info(result, layer=layer)
        if "confidence" not in about["fields"]:
            raise InputError(
                f"{result}: has no column confidence, so nothing can be left out by it"
            )
        kept = pyogrio.read_dataframe(
            result, layer=layer, where=f"confidence >= {float(threshold)!r}"
        )
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{result}: not vectors that can be read ({error})") from error
    with written_whole(out) as part:
        pyogrio.write_dataframe(
            kept, part, layer=layer, driver="GPKG", geometry_type=about["geometry_type"],
            layer_metadata=about["layer_metadata"], dataset_options=GPKG_OPTIONS,
        )  # fmt: skip
    return len(kept)
