"""A page to look at a result: the scene as a map, the objects on it, and their review."""

from __future__ import annotations

from geohr.view.objects import Objects
from geohr.view.page import write_page
from geohr.view.server import PageServer, page_server

__all__ = ["Objects", "PageServer", "page_server", "write_page"]
