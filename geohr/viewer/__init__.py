"""A page to look at a result: the scene as a map, the objects on it, and their review."""

from __future__ import annotations

from geohr.viewer.objects import ObjectTable
from geohr.viewer.page import write_page
from geohr.viewer.server import PageServer, page_server

__all__ = ["ObjectTable", "PageServer", "page_server", "write_page"]
