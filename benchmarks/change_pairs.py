"""Pairs of dates whose changes are known by construction.

Buildings are taken out of real scenes (ground from beside is put in their place) and put in from
elsewhere in the same scene. The later date is then moved by some metres, lit by another sun (every
building casts a shadow to the other side), coloured and brightened, blurred and packed as JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage

LEAST_M2 = 20.0
MOST_M2 = 400.0
CHANGED = 0.1
"""Share of the buildings that are taken out, and as many that are put in."""
CHANGED_MOST = 60
MARGIN = 8
"""Pixels around a building that go with it."""
CARELESS = 0.4
"""Metres by which corners of careless outlines are off."""
SHADOW_M = 3.0
SHADOW = 0.6
"""How bright ground is in a shadow."""
GAMMA = 0.85
TINT = (1.06, 1.0, 0.92)
BLUR = 0.7
JPEG_QUALITY = 60


@dataclass(frozen=True)
class Pair:
    """Two dates with their truth.

    Attributes:
        before: Image of the earlier date.
        after: Image of the later date, shifted.
        labels: Footprints of both dates, each where its own image shows them.
        changed: Footprints where the earlier date shows them, with `kind`, new or gone, and `m2`.
        shift: The move of the later date, in units of the CRS.
    """

    before: Path
    after: Path
    labels: tuple[Path, Path]
    changed: geopandas.GeoDataFrame
    shift: tuple[float, float]


def metres_of(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """The footprints in their UTM zone."""
    return frame.to_crs(frame.estimate_utm_crs())


def read_labels(label: Path, crs: Any) -> geopandas.GeoDataFrame:
    """The footprints of a scene, valid, in its CRS."""
    frame = geopandas.read_file(label).to_crs(crs)
    frame = frame[frame.geometry.type.isin(["Polygon", "MultiPolygon"])].reset_index(drop=True)
    frame.geometry = frame.geometry.make_valid()
    return frame


def make_pair(image: Path, label: Path, folder: Path, metres: float, seed: int) -> Pair | None:
    """A scene with buildings taken out and put in, and moved by some metres."""
    random = np.random.default_rng(seed)
    with rasterio.open(image) as raster:
        pixels, profile = raster.read([1, 2, 3]), raster.profile
        transform, crs = raster.transform, raster.crs
    frame = read_labels(label, crs)
    size = metres_of(frame).area.to_numpy()
    numbers = rasterize(
        [(shape, index + 1) for index, shape in enumerate(frame.geometry)],
        out_shape=pixels.shape[1:], transform=transform, dtype="int32",
    )  # fmt: skip
    boxes = ndimage.find_objects(numbers, len(frame))
    eligible = [
        index
        for index in np.flatnonzero((size >= LEAST_M2) & (size < MOST_M2))
        if boxes[index] is not None and not at_edge(boxes[index], numbers.shape)
    ]
    count = min(max(round(CHANGED * len(frame)), 4), len(eligible) // 2, CHANGED_MOST)
    if count == 0:
        return None
    pixel = float(np.sqrt(size.sum() / max((numbers > 0).sum(), 1)))
    gone = random.choice(eligible, count, replace=False)
    edited = pixels.copy()
    taken = [index for index in gone if take_out(edited, numbers, index, boxes[index], random)]
    standing = (numbers > 0) & ~np.isin(numbers, np.array(taken) + 1)
    added, sizes = [], list(size[taken])
    for index in random.choice(eligible, count, replace=False):
        place = put_in(edited, pixels, numbers, index, boxes[index], random)
        if place is not None:
            dx, dy = transform.a * place[1], transform.e * place[0]
            added.append(shapely.affinity.translate(frame.geometry[index], dx, dy))
            sizes.append(size[index])
    edited = another_sun(edited, standing | (numbers == -1), SHADOW_M / pixel)
    moved = metres / pixel / np.sqrt(2)
    later = ndimage.shift(edited.astype(np.float32), (0, moved, -moved), order=1, mode="nearest")
    later = (later / 255) ** GAMMA * 255 * np.array(TINT, np.float32)[:, None, None]
    later = ndimage.gaussian_filter(later, (0, BLUR, BLUR))
    before, after = write_images(folder, profile, pixels, later)
    step = (-moved * transform.a, moved * transform.e)
    kept = frame.geometry.drop(index=taken)
    old = geopandas.GeoDataFrame(geometry=frame.geometry, crs=crs)
    new = geopandas.GeoDataFrame(geometry=[*kept, *added], crs=crs)
    new.geometry = new.translate(*step)
    truth = geopandas.GeoDataFrame(
        {"kind": ["gone"] * len(taken) + ["new"] * len(added), "m2": sizes},
        geometry=[*frame.geometry[taken], *added], crs=crs,
    )  # fmt: skip
    labels = folder / "old.gpkg", folder / "new.gpkg"
    for path, table in zip(labels, (old, new), strict=True):
        careless(table, pixel / abs(transform.a), random).to_file(path)
    return Pair(before, after, labels, truth, step)


def another_sun(
    image: NDArray[np.uint8], built: NDArray[np.bool_], length: float
) -> NDArray[np.uint8]:
    """The image with a shadow of each building to the lower left, `length` pixels long."""
    shadow = built.copy()
    for step in range(1, round(length / np.sqrt(2)) + 1):
        shadow[step:, :-step] |= built[:-step, step:]
    soft = ndimage.gaussian_filter((shadow & ~built).astype(np.float32), 1)
    return np.asarray(image * (1 - (1 - SHADOW) * soft), np.uint8)


def write_images(
    folder: Path, profile: Any, pixels: NDArray[np.uint8], later: NDArray[np.float32]
) -> tuple[Path, Path]:
    """Both dates as JPEG, the later one of less quality."""
    folder.mkdir(parents=True, exist_ok=True)
    before, after = folder / "before.tif", folder / "after.tif"
    profile.update(
        driver="GTiff", count=3, tiled=True, blockxsize=256, blockysize=256, nodata=None,
        compress="jpeg", photometric="ycbcr", interleave="pixel",
    )  # fmt: skip
    shown = np.clip(later, 0, 255).astype(np.uint8)
    for path, values, quality in ((before, pixels, 90), (after, shown, JPEG_QUALITY)):
        with rasterio.open(path, "w", **{**profile, "jpeg_quality": quality}) as raster:
            raster.write(values)
    return before, after


def at_edge(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Whether an object comes near the image's edge."""
    near = MARGIN + 1
    low = min(box[0].start, box[1].start)
    return bool(low < near or box[0].stop > shape[0] - near or box[1].stop > shape[1] - near)


def around(
    numbers: NDArray[np.int32], index: int, box: tuple[slice, slice], rim: int
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Rows and columns around an object, and its mask there, both wider by a rim."""
    wide = (
        slice(box[0].start - MARGIN, box[0].stop + MARGIN),
        slice(box[1].start - MARGIN, box[1].stop + MARGIN),
    )
    return wide, ndimage.binary_dilation(numbers[wide] == index + 1, iterations=rim)


def free_place(
    numbers: NDArray[np.int32], height: int, width: int, random: np.random.Generator
) -> tuple[int, int] | None:
    """The corner of ground of a size without a building."""
    for _ in range(3000):
        row = int(random.integers(0, max(numbers.shape[0] - height, 1)))
        col = int(random.integers(0, max(numbers.shape[1] - width, 1)))
        part = numbers[row : row + height, col : col + width]
        if part.shape == (height, width) and not part.any():
            return row, col
    return None


def take_out(
    image: NDArray[np.uint8],
    numbers: NDArray[np.int32],
    index: int,
    box: tuple[slice, slice],
    random: np.random.Generator,
) -> bool:
    """Put ground in the place of a building; False where no ground is large enough."""
    target, mask = around(numbers, index, box, 6)
    place = free_place(numbers, mask.shape[0], mask.shape[1], random)
    if place is not None:
        blend(image, target, place, mask, image.copy())
    return place is not None


def put_in(
    image: NDArray[np.uint8],
    source: NDArray[np.uint8],
    numbers: NDArray[np.int32],
    index: int,
    box: tuple[slice, slice],
    random: np.random.Generator,
) -> tuple[int, int] | None:
    """Put a copy of a building on free ground; by how many rows and columns it moved."""
    (rows, cols), mask = around(numbers, index, box, 3)
    place = free_place(numbers, mask.shape[0], mask.shape[1], random)
    if place is None:
        return None
    target = (
        slice(place[0], place[0] + mask.shape[0]),
        slice(place[1], place[1] + mask.shape[1]),
    )
    blend(image, target, (rows.start, cols.start), mask, source)
    numbers[target] = np.where(mask, -1, numbers[target])
    return place[0] - rows.start, place[1] - cols.start


def blend(
    image: NDArray[np.uint8],
    target: tuple[slice, slice],
    corner: tuple[int, int],
    mask: NDArray[np.bool_],
    source: NDArray[np.uint8],
) -> None:
    """Copy a patch softly."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 2)
    height, width = mask.shape
    patch = source[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    held = image[:, target[0], target[1]]
    held[:] = (patch * soft + held * (1 - soft)).astype(np.uint8)


def careless(
    table: geopandas.GeoDataFrame, metres: float, random: np.random.Generator
) -> geopandas.GeoDataFrame:
    """Footprints as a hurried person draws them; `metres` of the ground are one unit of the CRS."""
    off = CARELESS / metres

    def draw(shape: Any) -> Any:
        corners = shapely.get_coordinates(shapely.get_parts(shape)[0].exterior)[:-1]
        return shapely.Polygon(corners + random.normal(0, off / 2, corners.shape)).buffer(0)

    table = table.explode(index_parts=False).reset_index(drop=True)
    table.geometry = [draw(shape) for shape in table.geometry]
    return table[~table.geometry.is_empty & table.geometry.is_valid]
