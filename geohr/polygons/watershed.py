"""Touching objects parted where the network's probabilities show that they are several.

An object's middles are its connected parts, of a least area, where the probability of its class
reaches a level. An object with several is flooded from them, likelier pixels first (watershed by
the image foresting transform; Lotufo and Falcao, "The ordered queue and the optimality of the
watershed approaches", 2000), and a line of pixels is taken out where two floods meet. An object
with one middle or none stays whole: nothing is parted by its shape alone.

This is done in squares with margins, on a fixed grid over the scene, so that memory does not grow
with its height and the result does not depend on how rows come. Middles that reach a margin's edge
may be one outside, and are not parted from each other.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geohr import geodesy
from geohr.encoding import NODATA, PROBABILITY_MAX, Bools, Bytes, Ints
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox, Window

# The side, in pixels, of the squares that are processed at a time.
SQUARE = 512
# The width, in pixels, of the margin that is read around a square: more than half a building.
MARGIN = 256


def squares(pixels: Window, scene: Window) -> Window:
    """The squares of a scene that hold some of its pixels."""
    row, col = (each // SQUARE * SQUARE for each in (pixels.row, pixels.col))
    down, across = (-(-each // SQUARE) * SQUARE for each in (pixels.row_stop, pixels.col_stop))
    return Window(row, col, down - row, across - col).within(scene)


def with_margin(pixels: Window, scene: Window) -> Window:
    """Squares of a scene with the pixels around them that `Splitter` takes, too."""
    height, width = pixels.height + 2 * MARGIN, pixels.width + 2 * MARGIN
    return Window(pixels.row - MARGIN, pixels.col - MARGIN, height, width).within(scene)


class Splitter:
    """Splits touching objects in rows of classes and probabilities.

    Args:
        geobox: The scene's grid.
        level: The probability that cores reach, in (0, 1).
        least_area: The smallest area of a core, in square metres.
        background: The class id that is no object; 255 (nodata) never is one.
        start: First row to hand out, a multiple of `SQUARE`; the first row that comes is
            `MARGIN` rows above it where there are any.
        columns: Columns `[first, stop)` to hand out, multiples of `SQUARE` or the scene's width;
            rows that come have `MARGIN` more on both sides, where there are any. By default all.

    Raises:
        InputError: Without a CRS, which tells how large a pixel is.
    """

    def __init__(
        self,
        geobox: GeoBox,
        *,
        level: float,
        least_area: float,
        background: int,
        start: int = 0,
        columns: tuple[int, int] | None = None,
    ) -> None:
        if geobox.crs is None:
            raise InputError(
                "splitting touching objects needs areas in square metres, and the raster has no "
                "CRS; give it one (gdal_edit -a_srs) or use --instances 1"
            )
        self._level = int(np.ceil(level * PROBABILITY_MAX))
        self._least_area = least_area
        self._geobox = geobox
        self._background = background
        self._first, self._stop = columns or (0, geobox.width)
        self._left = max(0, self._first - MARGIN)
        right = min(geobox.width, self._stop + MARGIN)
        self._classes = np.zeros((0, right - self._left), np.uint8)
        self._scores: Bytes | None = None
        self._top = max(0, start - MARGIN)
        self._next = start

    def push(self, classes: Bytes, probabilities: Bytes | None) -> tuple[Bytes, Bytes]:
        """Take the next rows; see `Tracer.push`.

        Returns:
            The rows that are ready, of both.

        Raises:
            UsageError: Without probabilities.
        """
        if probabilities is None:
            raise UsageError(
                "splitting touching objects needs probabilities; give them with --probs"
            )
        if self._scores is None:
            self._scores = probabilities[:, :0]
        self._classes = np.concatenate([self._classes, classes])
        self._scores = np.concatenate([self._scores, probabilities], axis=1)
        seen = self._top + len(self._classes)
        ready = max(0, (seen - MARGIN - self._next) // SQUARE)
        return self._hand_out([self._next + SQUARE * (each + 1) for each in range(ready)])

    def finish(self) -> tuple[Bytes, Bytes]:
        """Return the rows that are left."""
        if self._scores is None:
            self._scores = np.zeros((0, *self._classes.shape), np.uint8)
        seen = self._top + len(self._classes)
        return self._hand_out([*range(self._next + SQUARE, seen, SQUARE), seen])

    def _hand_out(self, stops: list[int]) -> tuple[Bytes, Bytes]:
        """Part the objects in rows up to each stop, and let go of what no longer counts."""
        assert self._scores is not None
        begin, parted = self._next, []
        for stop in stops:
            low, high = max(self._top, self._next - MARGIN), stop + MARGIN
            rows = slice(low - self._top, high - self._top)
            inner = slice(self._next - low, stop - low)
            classes, scores = self._classes[rows], self._scores[:, rows]
            parted.append(self._part(classes, scores, inner, self._least_pixels(self._next, stop)))
            self._next = stop
        done = slice(begin - self._top, self._next - self._top)
        of_scores = self._scores[:, done, self._columns].copy()
        keep = max(0, self._next - MARGIN - self._top)
        self._classes, self._scores = self._classes[keep:], self._scores[:, keep:]
        self._top += keep
        return np.concatenate([self._classes[:0, self._columns], *parted]), of_scores

    @property
    def _columns(self) -> slice:
        """The columns to hand out, of those that come."""
        return slice(self._first - self._left, self._stop - self._left)

    def _least_pixels(self, start: int, stop: int) -> float:
        """The smallest area of a core in pixels, at the middle of the rows `[start, stop)`."""
        row, column = np.array([(start + stop) / 2]), np.array([self._geobox.width / 2])
        scale = geodesy.local_scale(self._geobox.crs, *self._geobox.to_world(column, row))
        a, b, _, d, e, _ = self._geobox.transform[:6]
        metres = scale @ np.array([[a, b], [d, e]])
        return self._least_area / abs(float(np.linalg.det(metres)[0]))

    def _part(self, classes: Bytes, scores: Bytes, inner: slice, least: float) -> Bytes:
        """The inner rows, square by square."""
        parted = classes[inner, self._columns].copy()
        width, left = self._geobox.width, self._left
        labels = [each for each in np.unique(parted) if each not in (self._background, NODATA)]
        for start in range(self._first, self._stop, SQUARE):
            low, high = max(0, start - MARGIN), min(width, start + SQUARE + MARGIN)
            stop = min(width, start + SQUARE)
            for label in labels:
                inside = classes[:, low - left : high - left] == label
                if label == 0 or label > len(scores) or not inside.any():
                    continue
                near = scores[label - 1, :, low - left : high - left]
                cut = lines(inside, near, self._level, least)
                part = parted[:, start - self._first : stop - self._first]
                part[cut[inner, start - low : stop - low]] = self._background
        return parted


def lines(inside: Bools, scores: Bytes, level: int, least: float) -> Bools:
    """Pixels between the middles of objects.

    Args:
        inside: `(row, col)` the objects.
        scores: `(row, col)` their class's probability in 1/254.
        level: The probability that a core must reach, in 1/254.
        least: Pixels of the smallest middle.

    Returns:
        `(row, col)`; without them, no two floods touch side by side.
    """
    cut = np.zeros(inside.shape, np.bool_)
    objects, _ = ndimage.label(inside)
    middles, count = ndimage.label(inside & (scores >= level))
    object_of = np.zeros(count + 1, np.int64)
    object_of[middles] = objects
    number = _numbers(middles, count, least)
    ids = np.flatnonzero(number)
    pairs = np.unique(object_of[ids] * (count + 1) + number[ids])
    several = np.flatnonzero(np.bincount(pairs // (count + 1)) > 1)
    middles = number[middles]
    boxes = ndimage.find_objects(objects)
    for each in several.tolist():
        box = boxes[each - 1]
        cut[box] |= _meeting(objects[box] == each, middles[box], scores[box])
    return cut


def _numbers(middles: Ints, count: int, least: float) -> Ints:
    """`(count + 1,)` the number of each middle; 0 for one that is too small.

    All middles at the edge, which may be one beyond it, have one number.
    """
    sizes = np.bincount(middles.reshape(-1), minlength=count + 1)
    number = np.where(sizes >= least, np.arange(count + 1), 0)
    number[0] = 0
    edge = np.concatenate([middles[0], middles[-1], middles[:, 0], middles[:, -1]])
    edge = np.unique(edge[number[edge] > 0])
    number[edge] = edge.min(initial=count)
    return number


def _meeting(inside: Bools, middles: Ints, scores: Bytes) -> Bools:
    """Pixels of one object where the floods from its middles meet."""
    seeds = np.where(inside, middles, 0).astype(np.int32)
    # A negative seed is flooded like a middle; that of the outside takes nothing from the object.
    seeds[~inside] = -1
    height = np.where(inside, PROBABILITY_MAX - np.minimum(scores, PROBABILITY_MAX), 255)
    flood = ndimage.watershed_ift(height.astype(np.uint8), seeds)
    flood[~inside] = 0
    meets = np.zeros(inside.shape, np.bool_)
    # Side by side first: what is left to touch at corners then is little.
    for one, other in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        a, b = np.where(meets, 0, flood)[one], np.where(meets, 0, flood)[other]
        meets[one] |= (a != b) & (a > 0) & (b > 0)
    return meets
