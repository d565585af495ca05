"""What overlap costs and what it is good for: windows, seam score, and objects found.

`python -m benchmarks.overlap` segments the sample scene with several overlaps and compares with
the outlines that come with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geopandas
import numpy as np
from rasterio.features import rasterize

from geohr.model import resolve_model
from geohr.mosaic import NODATA, classify
from geohr.options import SegmentOptions
from geohr.quality import SeamMeter
from geohr.run import prepare

DATA = Path(__file__).parents[1] / "examples" / "data"
OVERLAPS = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    args = parser.parse_args()
    model = resolve_model(args.model)
    outlines = geopandas.read_file(DATA / "kampala_buildings.gpkg").geometry
    print(f"{'overlap':>8}{'windows':>9}{'IoU':>8}{'seams':>8}{'changes':>9}{'jumps':>8}")
    for overlap in OVERLAPS:
        run = prepare(DATA / "kampala.tif", model, SegmentOptions(overlap=overlap))
        scene, meter, found = run.scene, SeamMeter(run.grid), []
        for rows in run.rows(None):
            classes = classify(rows.probabilities, run.options.threshold)
            meter.add(rows, classes)
            found.append(classes)
        mask = np.concatenate(found)
        shape = (scene.height, scene.width)
        truth = rasterize(outlines, out_shape=shape, transform=scene.transform) > 0
        objects, valid = mask == 1, mask != NODATA
        both, either = (objects & truth & valid).sum(), ((objects | truth) & valid).sum()
        seams = meter.score()
        values = (seams.score, seams.changes, seams.jumps)
        shown = "".join(f"{'-' if each is None else f'{each:.2f}':>8} " for each in values)
        print(f"{overlap:>8}{len(run.grid):>9}{both / either:>8.4f}{shown}", flush=True)


if __name__ == "__main__":
    main()
