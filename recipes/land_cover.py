"""The bundled land-cover model: its training manifest.

    python -m recipes.land_cover DATA data.json
    geohr train --data data.json --card recipes/land_cover.json --out land_cover.safetensors ...

DATA is a folder with the data sets' `manifest.json`. Two of Dubai's eight groups of images, which
together hold every class, are held out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELD_OUT = ("2", "6")
"""Groups of images that are not learnt from."""


def write_manifest(data: Path, out: Path) -> None:
    """Dubai's images with the labels of all classes; each group is a place."""
    entries = []
    for entry in json.loads((data / "manifest.json").read_text("utf-8")):
        if "label_multiclass" not in entry:
            continue
        group = Path(entry["image"]).stem.split("_")[1].removeprefix("t")
        entries.append(
            {
                "image": str(data / entry["image"]),
                "label": str(data / entry["label_multiclass"]),
                "place": f"Dubai {group}",
                "split": "validation" if group in HELD_OUT else "train",
                "gsd": entry["gsd"],
            }
        )
    out.write_text(json.dumps(entries, indent=1), "utf-8")


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    write_manifest(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
