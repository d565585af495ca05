"""Scenes under names that hold on workers, too, which have working folders of their own."""

from __future__ import annotations

from dataclasses import replace

from geohr.scene import Scene
from geohr.scene.files import absolute
from geohr.scene.mosaic import MosaicSource
from geohr.scene.warped import WarpedSource


def anywhere(scene: Scene) -> Scene:
    """The same scene, whatever the working folder."""
    origin = scene.origin
    if isinstance(origin, WarpedSource):
        origin = replace(origin, source=anywhere(origin.source))
    elif isinstance(origin, MosaicSource):
        parts = (replace(each, scene=anywhere(each.scene)) for each in origin.parts)
        origin = replace(origin, parts=tuple(parts))
    files = tuple(map(absolute, scene.files))
    return replace(scene, path=absolute(scene.path), files=files, origin=origin)
