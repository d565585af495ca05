"""At which resolution a model is best read: scores by scene and pixel size.

    python -m recipes.resolutions DATA MODEL [--work FOLDER]

DATA is a folder with the data sets' `manifest.json`, MODEL a bundled name or a model file. Kampala
a is read as it is and made coarser; Lyon and Geneva as they are. A row is a scene, a column the
metres a pixel that it is brought to before it is predicted; a cell is the intersection over union
and the F1 of objects at 0.5.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from recipes.buildings import Place, geneva, kampala, lyon, scores

READ_AT = ("native", "0.1", "0.125", "0.15", "0.2")
COARSER = (0.15, 0.3, 0.6)
"""Metres to which Kampala is resampled."""


def cell(model: Model, place: Place, gsd: str) -> str:
    """Both scores of a place read at one resolution."""
    found = scores(model, place, SegmentOptions(gsd=gsd))
    return f"{found['iou']:.3f} {found['object_f1']:.3f}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    arguments = parser.parse_args()
    data, folder = arguments.data, arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    model = resolve_model(arguments.model)
    scenes = {
        "Kampala a": kampala(data, folder, "a"),
        **{f"resampled to {gsd} m": kampala(data, folder, "a", gsd) for gsd in COARSER},
        "Lyon": lyon(data, folder),
        "Geneva": geneva(data, folder),
    }
    print(f"| scene | {' | '.join(READ_AT)} |")
    print("|---" * (len(READ_AT) + 1) + "|")
    for name, place in scenes.items():
        cells = [cell(model, place, gsd) for gsd in READ_AT]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
