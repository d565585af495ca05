"""What a model's card should say: resolutions, threshold and smallest object, by polygons' scores.

    python -m recipes.choices DATA MODEL... [--ways WAY,...] [--thresholds P,...] [--work FOLDER]

DATA is a folder with the data sets' `manifest.json`, a MODEL a bundled name or a model file. A WAY
is a range of resolutions that suit the model and, after a plus sign, a coarser reading and how it
is joined: `0.1-0.25+0.3mean`. Each place is predicted once a way; objects are traced and scored at
each threshold and smallest object, as `segment` does.

Four places choose, each counting the same: Kampala a (as it is, and resampled to 0.3 and 0.5 m),
Lyon (as it is, and resampled to 0.3 m), the validation tiles of Geneva, and nine images of Accra. A
row has the mean of their intersection over union, the lowest of the four, the mean F1 of objects,
both scores of each place, and the share of the ground of the forest of San Joaquin that lies in
objects.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import Job
from geohr.inference.postprocess import postprocess
from geohr.inference.prepare import prepare
from geohr.inference.readings import predict_readings
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.polygons import concatenate
from geohr.stitching.mosaic import ProbabilityRows
from recipes.buildings import Place, accra, forests, geneva, kampala, lyon

WAYS = "0.1-0.15,0.1-0.15+0.3mean,0.1-0.15+0.3larger,0.1-0.25,0.1-0.25+0.3mean"
THRESHOLDS = "0.4,0.5,0.6,0.7"
MIN_AREAS = (12.0, 20.0)
FOREST = "forest SJER"
"""The forest in which models find most."""

Levels = NDArray[np.uint8]
Read = tuple[Job, Levels]


def way_of(model: Model, way: str) -> Model:
    """The model with the readings of a way in its card."""
    found = re.fullmatch(r"([\d.]+)-([\d.]+)(?:\+([\d.]+)(mean|larger))?", way)
    if found is None:
        raise SystemExit(f"a way is such as 0.1-0.25+0.3mean; got {way}")
    low, high, coarse, join = found.groups()
    card = dataclasses.replace(
        model.card,
        gsd_best=(float(low), float(high)),
        readings=(float(coarse),) if coarse else (),
        join="larger" if join == "larger" else "mean",
    )
    return Model(model.network, card)


def read(model: Model, scene: Path, options: SegmentOptions) -> Read:
    """A scene's job, and its probabilities `(class, row, col)` on the grid that it is read on."""
    executor = LocalExecutor()
    job = prepare(scene, model, options, executor)
    with TemporaryDirectory() as folder:
        joined = predict_readings(job, executor, Path(folder)).job
        with closing(executor.chunks(dataclasses.replace(joined, polygons=False))) as chunks:
            levels = np.concatenate([chunk.probabilities for chunk in chunks], axis=1)
    return job, levels


def write_objects(told: Read, threshold: float, min_area: float, out: Path) -> float:
    """Trace and write the objects of a scene; their area in square metres."""
    job, levels = told
    options = dataclasses.replace(job.options, threshold=threshold, min_area=min_area)
    if options.instances is not None and options.instances <= threshold:
        options = dataclasses.replace(options, instances=None)
    made = dataclasses.replace(job, options=options)

    def rows() -> Iterator[ProbabilityRows]:
        yield ProbabilityRows(0, levels, 0)

    polygons = concatenate([chunk.polygons for chunk in postprocess(made, rows())])  # type: ignore[arg-type]
    frame = made.to_crs(polygons).to_geodataframe(made.crs)
    if not len(frame):
        out.unlink(missing_ok=True)
        return 0.0
    frame.to_file(out)
    return float(frame["area_m2"].sum())


def score(told: Read, place: Place, threshold: float, min_area: float) -> tuple[float, float]:
    """Intersection over union, and F1 of objects, at a place."""
    if not write_objects(told, threshold, min_area, place.found):
        return 0.0, 0.0
    options = EvaluateOptions(aoi=str(place.labels), replicates=0)
    found = evaluate(place.found, place.truth, options=options).scores
    return found["iou"], found["object_f1"]


def chosen_on(data: Path, folder: Path) -> dict[str, list[Place]]:
    """The places that choose, each in one or several resolutions."""
    return {
        "Kampala a": [kampala(data, folder, "a", gsd) for gsd in (None, 0.3, 0.5)],
        "Lyon": [lyon(data, folder, gsd) for gsd in (None, 0.3)],
        "Geneva": [geneva(data, folder)],
        "Accra": [accra(data, folder)],
    }


def tell(model: Model, places: dict[str, list[Place]], forest: Sequence[Path], way: str, *,
         thresholds: Sequence[float], options: SegmentOptions, folder: Path) -> None:  # fmt: skip
    """Print the rows of one way."""
    model = way_of(model, way)
    scenes = [place.scene for each in places.values() for place in each]
    told = {scene: read(model, scene, options) for scene in scenes}
    woods = [read(model, path, options) for path in forest]
    ground = sum(
        levels.shape[1] * levels.shape[2] * (job.scene.gsd or 0.0) ** 2 for job, levels in woods
    )
    for threshold in thresholds:
        for min_area in MIN_AREAS:
            scores = {
                name: np.mean(
                    [score(told[each.scene], each, threshold, min_area) for each in several], axis=0
                )
                for name, several in places.items()
            }
            pixels, objects = np.transpose(list(scores.values()))
            false = sum(
                write_objects(each, threshold, min_area, folder / "forest.gpkg") for each in woods
            )
            cells = " | ".join(f"{iou:.3f} {f1:.3f}" for iou, f1 in scores.values())
            print(
                f"| {way} | {threshold:g} | {min_area:g} | {pixels.mean():.4f} | "
                f"{pixels.min():.3f} | {objects.mean():.4f} | {cells} | {false / ground:.3%} |",
                flush=True,
            )


def main() -> None:
    """Print the table of each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--ways", default=WAYS)
    parser.add_argument("--thresholds", default=THRESHOLDS)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    arguments = parser.parse_args()
    folder = arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    places = chosen_on(arguments.data, folder)
    forest = forests(arguments.data)[FOREST]
    thresholds = [float(each) for each in arguments.thresholds.split(",")]
    for name in arguments.models:
        print(f"\n{name}\n")
        print(
            "| way | threshold | smallest | mean IoU | lowest | mean F1 | "
            f"{' | '.join(places)} | {FOREST} |"
        )
        print("|---" * (7 + len(places)) + "|", flush=True)
        for way in arguments.ways.split(","):
            tell(
                resolve_model(name),
                places,
                forest,
                way,
                thresholds=thresholds,
                options=SegmentOptions(precision=arguments.precision),
                folder=folder,
            )


if __name__ == "__main__":
    main()
