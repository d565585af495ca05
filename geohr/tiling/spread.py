"""Windows spread evenly over a scene, for a look at it."""

from __future__ import annotations

from collections.abc import Iterator

from geohr.scene import Scene, SceneReader, Tile
from geohr.tiling.grid import Grid

# Windows taken, where a scene has as many.
WINDOWS = 48
# Windows looked at for each one taken, as those without a valid pixel show nothing.
TRIES = 4


def spread(count: int) -> list[int]:
    """Some of `count` indices in an order whose every beginning is spread over all of them.

    Multiples of the golden ratio, folded into the unit interval, keep apart from each other
    (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    """
    ratio = (5**0.5 - 1) / 2
    places = (int((number * ratio) % 1 * count) for number in range(1, WINDOWS * TRIES + 1))
    return list(dict.fromkeys(places))


def spread_tiles(scene: Scene, grid: Grid, most: int | None = None) -> Iterator[Tile]:
    """At most `most` windows of a grid, spread over its scene, read one at a time.

    Raises:
        InputError: When the scene cannot be read.
    """
    with SceneReader(scene) as reader:
        for index in spread(len(grid))[:most]:
            yield reader.read(grid[index])
