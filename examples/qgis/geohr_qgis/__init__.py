"""geohr in the Processing toolbox of QGIS."""

from __future__ import annotations

from typing import Any


def classFactory(_: Any) -> Any:  # noqa: N802  the name that QGIS looks for
    """The plugin."""
    from .plugin import Plugin

    return Plugin()
