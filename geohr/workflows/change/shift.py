"""How far one date lies from the other, as a field that is smooth over the scene.

Shifts are measured in windows spread over what both dates show, by normalised cross-correlation
of edge strength (Lewis, "Fast Normalized Cross-Correlation", 1995), which hardly depends on
colours, seasons or the sensor. A plane or a quadratic surface is then fitted to them with
bisquare weights (Beaton and Tukey, 1974), so that windows where the ground itself changed do not
pull it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from geohr.encoding import Bools, Floats, Floats32

# Pixels of a window: at half a metre 128 m, in which a village has dozens of edges.
SIDE = 256
# Windows along the longer side of what is compared. A field of six or twelve numbers needs a few
# dozen good ones, and half of them may fail.
ACROSS = 12
# Pixels that are searched on each side: a window must still share three quarters.
REACH = SIDE // 4
# Standard deviation in pixels by which edges are widened, so that half a pixel does not part them.
SMOOTH = 1.0
# Correlation below which a window says nothing.
PEAK_MIN = 0.2
# The smallest ratio of the correlation peak to the next best one elsewhere.
CLEAR = 1.15
# Pixels around the peak that belong to it.
NEAR = 4
# Good windows from which a plane is fitted, below it the median is taken as the shift: three
# windows fit any plane exactly, however wrong they are.
LEAST = 6
# Good windows from which the field may bend.
QUADRATIC = 24
# Bisquare's tuning constant: 95% as efficient as least squares where nothing is wrong.
TUNING = 4.685
ROUNDS = 20
# Metres: the noise that is granted at least, so that exact fits do not throw others out.
SCALE_MIN = 0.1

# Grey values `(SIDE, SIDE)` and their validity around a point x, y at a pixel size in metres.
Look = Callable[[float, float, float], tuple[Floats32, Bools] | None]


@dataclass(frozen=True)
class ShiftField:
    """Metres east and north by which the earlier date must be moved to lie on the later one.

    Attributes:
        centre: `(2,)` x and y about which the field is written.
        scale: Metres by which distances from the centre are divided.
        weights: `(terms, 2)` of 1, x, y, and perhaps x squared, x times y, y squared.
        windows: The number of windows that it was fitted to.
        spread: Median distance of the windows' own shifts from the field, in metres.
    """

    centre: Floats
    scale: float
    weights: Floats
    windows: int
    spread: float

    @classmethod
    def none(cls) -> ShiftField:
        """A field without any shift."""
        return cls(np.zeros(2), 1.0, np.zeros((1, 2)), 0, 0.0)

    def at(self, points: Floats) -> Floats:
        """`(n, 2)` metres east and north at points `(n, 2)`."""
        place = (points - self.centre) / self.scale
        return np.asarray(terms(place, len(self.weights)) @ self.weights, np.float64)

    @property
    def metres(self) -> float:
        """The length of the shift at the centre."""
        return float(np.hypot(*self.weights[0]))

    def largest(self, bounds: tuple[float, float, float, float]) -> float:
        """The largest shift at the corners and in the middle of a box, in metres."""
        west, south, east, north = bounds
        middle = ((west + east) / 2, (south + north) / 2)
        corners = [(x, y) for x in (west, east) for y in (south, north)]
        return float(np.hypot(*self.at(np.array([middle, *corners])).T).max())

    def describe(self) -> str:
        """A description of the shift in one line."""
        if self.windows == 0:
            return "shift between the dates: not estimated"
        east, north = self.weights[0]
        return (
            f"shift between the dates: {east:+.2f} m east, {north:+.2f} m north in the middle, "
            + (
                "from 1 window"
                if self.windows == 1
                else f"from {self.windows:,} windows that agree to {self.spread:.2f} m"
            )
        )


def terms(place: Floats, count: int) -> Floats:
    """`(n, count)` of 1, x, y, xx, xy, yy for points `(n, 2)`."""
    x, y = place[:, 0], place[:, 1]
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y][:count])


def estimate_shift(
    before: Look, after: Look, bounds: tuple[float, float, float, float], pixel: float
) -> ShiftField | None:
    """The field of shifts between two dates.

    Args:
        before: Shows the earlier date.
        after: Shows the later date.
        bounds: West, south, east, north in metres of a plane in which both are looked at.
        pixel: Metres a pixel at which they are looked at.

    Returns:
        None where no window tells a shift: too little to see, or not the same place.
    """
    west, south, east, north = bounds
    step = max(max(east - west, north - south) / ACROSS, SIDE * pixel / 2)
    points, moves = [], []
    for y in middles(south, north, step):
        for x in middles(west, east, step):
            first, second = before(x, y, pixel), after(x, y, pixel)
            if first is None or second is None:
                continue
            move = window_shift(first, second)
            if move is not None:
                points.append((x, y))
                # Rows run south.
                moves.append((move[1] * pixel, -move[0] * pixel))
    if not points:
        return None
    return fit_field(np.array(points), np.array(moves))


def middles(low: float, high: float, step: float) -> Floats:
    """Places spread evenly between two ends, about `step` apart, at least one."""
    count = max(int((high - low) / step), 1)
    return low + (np.arange(count) + 0.5) * (high - low) / count


def edges(values: Floats32, valid: Bools) -> Floats32:
    """Strength of edges `(row, col)`; 0 where data end."""
    smooth = ndimage.gaussian_filter(np.where(valid, values, values[valid].mean()), SMOOTH)
    strength = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    inside = ndimage.binary_erosion(valid, iterations=3, border_value=1)
    strength = np.where(inside, strength, 0)
    # A few glints must not outweigh all walls.
    top = np.percentile(strength[inside], 98) if inside.any() else 0
    return np.minimum(strength, top).astype(np.float32)


def window_shift(
    before: tuple[Floats32, Bools], after: tuple[Floats32, Bools]
) -> tuple[float, float] | None:
    """The rows and columns by which `before` must be moved to lie on `after`; None if unclear."""
    both = before[1] & after[1]
    if both.mean() < 0.5:
        return None
    first, second = edges(before[0], before[1]), edges(after[0], after[1])
    inner = first[REACH:-REACH, REACH:-REACH]
    if inner.std() == 0 or second.std() == 0:
        return None
    size = inner.size
    pattern = inner - inner.mean()
    shape = [fft.next_fast_len(a + b - 1) for a, b in zip(second.shape, inner.shape, strict=True)]

    def correlate(values: Floats32, kernel: Floats32) -> Floats32:
        product = fft.rfft2(values, shape) * fft.rfft2(kernel[::-1, ::-1], shape)
        whole = fft.irfft2(product, shape)
        top, left = kernel.shape[0] - 1, kernel.shape[1] - 1
        return np.asarray(whole[top : top + 2 * REACH + 1, left : left + 2 * REACH + 1], np.float32)

    ones = np.ones_like(inner)
    mean = correlate(second, ones) / size
    energy = correlate(second * second, ones) - size * mean**2
    score = correlate(second, pattern) / np.sqrt(
        np.maximum(energy, 1e-6 * size) * float((pattern**2).sum())
    )
    row, col = np.unravel_index(int(score.argmax()), score.shape)
    peak = score[row, col]
    elsewhere = score.copy()
    elsewhere[max(row - NEAR, 0) : row + NEAR + 1, max(col - NEAR, 0) : col + NEAR + 1] = -1
    at_border = row in (0, 2 * REACH) or col in (0, 2 * REACH)
    if peak < PEAK_MIN or peak < CLEAR * elsewhere.max() or at_border:
        return None
    return (
        row - REACH + vertex(score[row - 1 : row + 2, col]),
        col - REACH + vertex(score[row, col - 1 : col + 2]),
    )


def vertex(three: NDArray[np.floating[Any]]) -> float:
    """The place, between -0.5 and 0.5, of the maximum of the parabola through three values."""
    left, middle, right = (float(each) for each in three)
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip((left - right) / (2 * bend), -0.5, 0.5))


def fit_field(points: Floats, moves: Floats) -> ShiftField:
    """A smooth field through shifts `(n, 2)` at points `(n, 2)`, some of which are wrong."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = max(float(np.ptp(points, axis=0).max()) / 2, 1.0)
    middle = np.median(moves, axis=0)
    count = 1 if len(points) < LEAST else 6 if len(points) >= QUADRATIC else 3
    design = terms((points - centre) / scale, count)
    fitted = np.zeros((count, 2))
    fitted[0] = middle
    for _ in range(ROUNDS):
        away = np.hypot(*(moves - design @ fitted).T)
        noise = max(1.4826 * float(np.median(away)), SCALE_MIN)
        weight = np.clip(1 - (away / (TUNING * noise)) ** 2, 0, None) ** 2
        if np.count_nonzero(weight) < 2 * count:
            break
        root = weight[:, None] ** 0.5
        fitted = np.linalg.lstsq(design * root, moves * root, rcond=None)[0]
    away = np.hypot(*(moves - design @ fitted).T)
    return ShiftField(centre, scale, fitted, len(points), float(np.median(away)))
