"""A page to look at a result: the scene as a map, the objects on it, and their review.

The page needs the extra `view`; reports and plots do not, so that its libraries are imported when
one of these names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geohr.errors import EngineError
from geohr.viewer.objects import ObjectTable

if TYPE_CHECKING:
    from geohr.viewer.display import ServedPage, view
    from geohr.viewer.page import write_page
    from geohr.viewer.server import PageServer, page_server

__all__ = ["ObjectTable", "PageServer", "ServedPage", "page_server", "view", "write_page"]

_LAZY = {
    "PageServer": "geohr.viewer.server",
    "ServedPage": "geohr.viewer.display",
    "page_server": "geohr.viewer.server",
    "view": "geohr.viewer.display",
    "write_page": "geohr.viewer.page",
}
# The libraries that the extra `view` installs, by their import names.
_LIBRARIES = ("anyio", "morecantile", "rio_tiler", "starlette", "uvicorn")


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used.

    Raises:
        EngineError: When the extra `view` is not installed.
    """
    if name not in _LAZY:
        raise AttributeError(f"module 'geohr.viewer' has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in _LIBRARIES:
            raise
        raise EngineError(
            f"geohr view needs {missing}, which is not installed; "
            "install it with pip install 'geohr[view]'"
        ) from error
