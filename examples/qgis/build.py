"""Pack the plugin for QGIS's "Install from ZIP": `python examples/qgis/build.py [FILE.zip]`."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

HERE = Path(__file__).parent
DEFAULT = HERE.parents[1] / "build" / "geohr_qgis.zip"


def build(out: Path) -> None:
    """Write the plugin's files, and the licence, in an order and with times that repeat."""
    out.parent.mkdir(parents=True, exist_ok=True)
    files = {path.relative_to(HERE): path for path in sorted(HERE.glob("geohr_qgis/*.*"))}
    files[Path("geohr_qgis/LICENSE")] = HERE.parents[1] / "LICENSE"
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(ZipInfo(name.as_posix()), path.read_bytes(), ZIP_DEFLATED)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    build(target)
    print(target)
