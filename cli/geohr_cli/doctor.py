"""`geohr doctor`: what is installed here, and how fast it is."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from geohr import __version__
from geohr.errors import EngineError
from geohr_cli.facts import json_option
from geohr_cli.flags import debug_option

LIBRARIES = ("torch", "segmentation-models-pytorch", "rasterio", "pyogrio", "geopandas", "numpy")
EXTRAS = ("openvino", "onnxruntime", "pyarrow", "matplotlib", "rioxarray", "dask")
RASTER_DRIVERS = ("GTiff", "COG", "VRT", "PNG", "WEBP")
VECTOR_DRIVERS = ("GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile")
SPEED_SECONDS = 1.0
"""How long the speed test predicts, at least one batch."""
GIB = 1024.0**3


@click.command()
@json_option
@debug_option
def doctor(as_json: bool) -> None:
    """Show versions, drivers, engines, cores and memory, and test the speed for a second.

    Example: geohr doctor
    """
    found = {}
    for name, text in facts():
        found[name] = text
        if not as_json:
            click.echo(f"{name:28} {text}")
    if as_json:
        click.echo(json.dumps(found))


def facts() -> Iterator[tuple[str, str]]:
    """Names and what is found, in the order of the table."""
    yield "geohr", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
    for name in LIBRARIES:
        yield name, version_of(name) or "missing; pip install 'geohr'"
    for name in EXTRAS:
        yield name, version_of(name) or "not installed (optional)"
    yield from drivers()
    yield "engines", engines()
    yield "processors", f"{usable_processors()} usable of {os.cpu_count()}"
    yield "memory", memory()
    yield from speed()


def version_of(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def drivers() -> Iterator[tuple[str, str]]:
    """GDAL, which rasterio and pyogrio each bring, and the drivers that geohr writes with."""
    import pyogrio
    import rasterio
    from rasterio.env import Env

    with Env() as env:
        rasters = env.drivers()
    missing = [name for name in RASTER_DRIVERS if name not in rasters]
    found = f"GDAL {rasterio.__gdal_version__}"
    yield "raster drivers", f"{found}; missing: {', '.join(missing) or 'none'}"
    writable = {name for name, can in pyogrio.list_drivers().items() if "w" in can}
    missing = [name for name in VECTOR_DRIVERS if name not in writable]
    found = f"GDAL {'.'.join(map(str, pyogrio.__gdal_version__))}"
    yield "vector drivers", f"{found}; missing: {', '.join(missing) or 'none'}"


def engines() -> str:
    """Which engines there are, and which one is taken."""
    from geohr.engines import backends_for
    from geohr.options import EngineOptions

    names = backends_for(EngineOptions())
    if not names:
        raise EngineError("no engine is installed; pip install 'geohr[openvino]'")
    return f"{', '.join(names)}; {names[0]} is taken by default"


def usable_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> str:
    """How much memory is free, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "not known on this system"
    kib = {name: int(rest.split()[0]) for name, rest in (each.split(":", 1) for each in lines)}
    return (
        f"{kib['MemAvailable'] * 1024 / GIB:.1f} GiB free of {kib['MemTotal'] * 1024 / GIB:.1f} GiB"
    )


def speed() -> Iterator[tuple[str, str]]:
    """Predict noise with the bundled model for a second."""
    import numpy as np

    from geohr.engines import open_predictor
    from geohr.models.model import bundled_models, resolve_model
    from geohr.options import EngineOptions

    yield "bundled models", ", ".join(bundled_models()) or "none"
    if not bundled_models():
        return
    model = resolve_model(None)
    card = model.card
    started = time.monotonic()
    predictor = open_predictor(model, card.tile, EngineOptions())
    opened = time.monotonic() - started
    shape = (predictor.batch, len(card.bands), card.tile, card.tile)
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    predictor.predict(pixels)
    started, done = time.monotonic(), 0
    while done == 0 or time.monotonic() - started < SPEED_SECONDS:
        predictor.predict(pixels)
        done += predictor.batch
    seconds = time.monotonic() - started
    megapixels = done * card.tile**2 / 1e6
    yield "engine", f"{predictor.engine}, opened in {opened:.1f} s"
    yield (
        "speed",
        f"{megapixels / seconds:.2f} megapixels a second in one of {predictor.workers} workers, "
        f"windows of {card.tile} pixels, overlap not counted",
    )
