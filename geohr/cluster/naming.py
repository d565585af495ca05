"""Scenes under names that hold on workers, too, which have working folders of their own."""

from __future__ import annotations

from dataclasses import replace

from geohr.scene import Scene
from geohr.scene.mosaicked import Mosaicked
from geohr.scene.opening import absolute
from geohr.scene.warped import Warped


def anywhere(scene: Scene) -> Scene:
    """The same scene, whatever the working folder."""
    origin = scene.origin
    if isinstance(origin, Warped):
        origin = replace(origin, source=anywhere(origin.source))
    elif isinstance(origin, Mosaicked):
        parts = (replace(each, scene=anywhere(each.scene)) for each in origin.parts)
        origin = replace(origin, parts=tuple(parts))
    files = tuple(map(absolute, scene.files))
    return replace(scene, path=absolute(scene.path), files=files, origin=origin)
