"""How well changes are told whose truth is known: `python -m benchmarks.change DATA`.

Buildings are taken out of real scenes (ground from beside is put in their place) and put in from
elsewhere in the same scene; the later date is shifted, brightened, blurred and packed as JPEG.
`geohr change` is compared with the plain difference of both masks, once on what the bundled model
finds and once on good masks: the labels themselves, drawn with careless outlines. Numbers of
objects over 20 m2.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from scipy import ndimage

from geohr.options import SegmentOptions
from geohr.workflows.change.compare import Date, compare
from geohr.workflows.change.dates import change

SCENES = ("fair_kampala/kampala_a", "fair_banepa/banepa_se_b", "fair_zanzibar/zanzibar_b")
SHIFTS = (0.0, 1.0, 3.0)
LEAST_M2 = 20.0
CHANGED = 0.1
"""Share of the buildings that are taken out, and as many that are put in."""
MARGIN = 8
"""Pixels around a building that go with it."""
CARELESS = 0.4
"""Metres by which corners of careless outlines are off."""


@dataclass(frozen=True)
class Pair:
    """Two dates with their truth.

    Attributes:
        before: Image of the earlier date.
        after: Image of the later date, shifted.
        labels: Footprints of both dates, each where its own image shows them.
        changed: Footprints that were taken out or put in, where the earlier date shows them.
        shift: Metres east and north of the later date.
    """

    before: Path
    after: Path
    labels: tuple[Path, Path]
    changed: geopandas.GeoDataFrame
    shift: tuple[float, float]


def metres_of(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """The footprints in their UTM zone."""
    return frame.to_crs(frame.estimate_utm_crs())


def make_pair(image: Path, label: Path, folder: Path, metres: float, seed: int) -> Pair | None:
    """A scene with buildings taken out and put in, and moved by some metres."""
    random = np.random.default_rng(seed)
    with rasterio.open(image) as raster:
        pixels, profile = raster.read([1, 2, 3]), raster.profile
        transform, crs = raster.transform, raster.crs
    frame = geopandas.read_file(label).to_crs(crs)
    frame = frame[frame.geometry.type.isin(["Polygon", "MultiPolygon"])].reset_index(drop=True)
    frame.geometry = frame.geometry.make_valid()
    size = metres_of(frame).area.to_numpy()
    numbers = rasterize(
        [(shape, index + 1) for index, shape in enumerate(frame.geometry)],
        out_shape=pixels.shape[1:], transform=transform, dtype="int32",
    )  # fmt: skip
    boxes = ndimage.find_objects(numbers, len(frame))
    eligible = [
        index
        for index in np.flatnonzero((size >= LEAST_M2) & (size < 400))
        if boxes[index] is not None and not at_edge(boxes[index], numbers.shape)
    ]
    count = min(max(round(CHANGED * len(frame)), 4), len(eligible) // 2)
    if count == 0:
        return None
    gone = random.choice(eligible, count, replace=False)
    edited = pixels.copy()
    taken = [index for index in gone if take_out(edited, numbers, index, boxes[index], random)]
    added = []
    for index in random.choice(eligible, count, replace=False):
        place = put_in(edited, pixels, numbers, index, boxes[index], random)
        if place is not None:
            dx, dy = transform.a * place[1], transform.e * place[0]
            added.append(shapely.affinity.translate(frame.geometry[index], dx, dy))
    pixel = float(np.sqrt(size.sum() / max((numbers > 0).sum(), 1)))
    moved = metres / pixel / np.sqrt(2)
    later = ndimage.shift(edited.astype(np.float32), (0, moved, -moved), order=1, mode="nearest")
    later = ndimage.gaussian_filter((later / 255) ** 0.85 * 255, (0, 0.7, 0.7))
    folder.mkdir(parents=True, exist_ok=True)
    before, after = folder / "before.tif", folder / "after.tif"
    profile.update(
        driver="GTiff", count=3, tiled=True, blockxsize=256, blockysize=256, nodata=None,
        compress="jpeg", photometric="ycbcr", interleave="pixel",
    )  # fmt: skip
    for path, values in ((before, pixels), (after, np.clip(later, 0, 255).astype(np.uint8))):
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(values)
    step = (-moved * transform.a, moved * transform.e)
    kept = frame.geometry.drop(index=taken)
    old = geopandas.GeoDataFrame(geometry=frame.geometry, crs=crs)
    new = geopandas.GeoDataFrame(geometry=[*kept, *added], crs=crs)
    new.geometry = new.translate(*step)
    truth = geopandas.GeoDataFrame(geometry=[*frame.geometry[taken], *added], crs=crs)
    labels = folder / "old.gpkg", folder / "new.gpkg"
    for path, table in zip(labels, (old, new), strict=True):
        careless(table, pixel / abs(transform.a), random).to_file(path)
    return Pair(before, after, labels, truth, step)


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
    place = free_place(numbers, *mask.shape, random)
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
    place = free_place(numbers, *mask.shape, random)
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


def difference(old: Path, new: Path, image: Path) -> geopandas.GeoDataFrame:
    """What a plain difference of two masks reports."""
    with rasterio.open(image) as raster:
        shape, transform, crs = raster.shape, raster.transform, raster.crs
    drawn = [
        rasterize(
            [(each, 1) for each in geopandas.read_file(path).to_crs(crs).geometry],
            out_shape=shape,
            transform=transform,
            dtype="uint8",
        )
        for path in (old, new)
    ]
    differs = drawn[0] != drawn[1]
    found = shapes(differs.astype(np.uint8), mask=differs, transform=transform)
    made = geopandas.GeoDataFrame(
        geometry=[shapely.geometry.shape(each) for each, _ in found], crs=crs
    )
    return made[metres_of(made).area >= LEAST_M2] if len(made) else made


def score(reported: geopandas.GeoDataFrame, pair: Pair) -> tuple[int, int, int]:
    """How many reports are true, how many there are, and how many true changes are reported."""
    truth = pair.changed.geometry
    if len(reported) == 0:
        return 0, 0, 0
    here = reported.to_crs(pair.changed.crs).geometry
    # A change may be reported where either date shows it.
    both = [truth.buffer(0), truth.translate(*pair.shift).buffer(0)]
    true = np.zeros(len(here), bool)
    told = np.zeros(len(truth), bool)
    for shown in both:
        one, other = shapely.STRtree(shown.to_numpy()).query(here.to_numpy(), "intersects")
        shared = shapely.area(shapely.intersection(here.to_numpy()[one], shown.to_numpy()[other]))
        enough = shared >= 0.3 * np.minimum(
            shapely.area(here.to_numpy()[one]), shapely.area(shown.to_numpy()[other])
        )
        true[one[enough]] = True
        told[other[enough]] = True
    return int(true.sum()), len(here), int(told.sum())


def changes_of(path: Path) -> geopandas.GeoDataFrame:
    """What `geohr change` reports with certainty."""
    found = geopandas.read_file(path, layer="changes")
    found = found[~found["change"].isin(["same", "unsure"])]
    size = np.maximum(found["area_before_m2"], found["area_after_m2"])
    return found[size >= LEAST_M2]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--good-masks-only", action="store_true")
    arguments = parser.parse_args()
    totals: dict[tuple[str, str, float], list[int]] = {}
    for metres in SHIFTS:
        for seed, name in enumerate(SCENES):
            dataset, stem = name.split("/")
            image = next((arguments.data / dataset / "images").glob(f"{stem}*.tif"))
            label = arguments.data / dataset / "labels" / f"{image.stem}.geojson"
            with tempfile.TemporaryDirectory() as folder:
                pair = make_pair(image, label, Path(folder), metres, seed)
                if pair is None:
                    continue
                out = Path(folder) / "changes.gpkg"
                compare(*(Date(str(each)) for each in pair.labels), out)
                found = {("good masks", "geohr change"): changes_of(out)}
                found["good masks", "difference"] = difference(*pair.labels, image)
                if not arguments.good_masks_only:
                    options = SegmentOptions(regularize=True)
                    change(pair.before, pair.after, out, segment_options=options, overwrite=True)
                    found["bundled model", "geohr change"] = changes_of(out)
                    made = [out.with_name(f"changes_{each}.gpkg") for each in ("before", "after")]
                    found["bundled model", "difference"] = difference(made[0], made[1], image)
                for (masks, method), reported in found.items():
                    true, number, told = score(reported, pair)
                    total = totals.setdefault((masks, method, metres), [0, 0, 0, 0])
                    for place, value in enumerate((true, number, told, len(pair.changed))):
                        total[place] += value
    print("| masks | method | shift | reports | false | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for (masks, method, metres), (true, number, told, there) in sorted(totals.items()):
        print(
            f"| {masks} | {method} | {metres:g} m | {number} | {number - true} | "
            f"{true / max(number, 1):.2f} | {told / there:.2f} |"
        )


if __name__ == "__main__":
    main()
