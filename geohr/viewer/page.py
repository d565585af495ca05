"""The page itself: served in parts, or as one file that needs nothing else."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rasterio.warp import transform_bounds

from geohr._runtime.files import written_whole
from geohr.outputs.layers import CONFIDENCE_COLOURS
from geohr.scene import Scene
from geohr.scene.vectors import LABELLED, LABELS
from geohr.viewer.objects import CHANGE, ObjectTable
from geohr.viewer.pictures import to_webp
from geohr.workflows.change.output import COLOURS as CHANGE_COLOURS

if TYPE_CHECKING:
    from geohr.viewer.edits import Workbench
    from geohr.viewer.images import Images

# The files of the page and their types.
STYLES = ("maplibre-gl.css", "page.css")
SHOWING = ("maplibre-gl.js", "page.js", "swipe.js")
# The scripts by which a page that is served writes.
WRITING = ("terra-draw.js", "terra-draw-maplibre-gl-adapter.js", "draw.js", "label.js", "check.js")
STATIC = {
    **dict.fromkeys(STYLES, "text/css; charset=utf-8"),
    **dict.fromkeys((*SHOWING, *WRITING), "text/javascript; charset=utf-8"),
}
# Longest side of the scene in a page that is one file.
PICTURE_SIDE = 4096


def static(name: str) -> str:
    """The text of one of the page's files."""
    return (resources.files("geohr.viewer") / "static" / name).read_text("utf-8")


def served_page(images: Images, bench: Workbench, before: Images | None) -> str:
    """The page whose parts a server gives."""
    links = "\n".join(f'<link rel="stylesheet" href="{name}">' for name in STYLES)
    scripts = "\n".join(f'<script src="{name}"></script>' for name in (*SHOWING, *WRITING))
    labels, labelled = bench.layer(LABELS), bench.layer(LABELLED)
    config = {
        **about(images.scene, bench.objects),
        "bounds": images.bounds,
        "zoom": images.zoom,
        "served": True,
        "before": before
        and {
            "scene": Path(before.scene.path).name,
            "zoom": before.zoom,
            "bounds": before.bounds,
        },
        "labels": {
            "file": labels.path.name,
            "classes": list(labels.classes()),
            "count": labels.count(),
            "areas": labelled.count(),
        },
        "check": bench.tasks and bench.tasks.path.name,
    }
    return fill(config, links, scripts)


def write_page(scene: Scene, objects: ObjectTable, out: Path) -> None:
    """Write one HTML file with the scene, the objects and all code that shows them.

    The scene is shrunk to `PICTURE_SIDE` pixels; reviews are shown, and cannot be made.

    Raises:
        InputError: When the scene, which needs a CRS, or the objects cannot be read.
        OutputError: When the file cannot be written.
    """
    # Here, because a report takes its template from this module and needs no extra.
    from geohr.viewer.images import Images

    images = Images.of(scene)
    picture = images.overview(PICTURE_SIDE)
    image = base64.b64encode(to_webp(picture.pixels)).decode()
    config = {
        **about(scene, objects),
        "bounds": transform_bounds("EPSG:3857", "OGC:CRS84", *picture.bounds),
        "zoom": images.zoom,
        "served": False,
        "image": f"data:image/webp;base64,{image}",
        "index": objects.index(),
        "objects": objects.geojson(),
    }
    links = "\n".join(f"<style>\n{static(name)}\n</style>" for name in STYLES)
    scripts = "\n".join(f"<script>\n{static(name)}\n</script>" for name in SHOWING)
    with written_whole(out) as part:
        part.write_text(fill(config, links, scripts), "utf-8")


def about(scene: Scene, objects: ObjectTable) -> dict[str, Any]:
    """The facts that both kinds of page need."""
    return {
        "scene": Path(scene.path).name,
        "file": objects.path.name,
        "colours": CONFIDENCE_COLOURS,
        "confidence": "confidence" in objects.columns(),
        "kind": objects.kind,
        "kinds": objects.classes(),
        "kindColours": CHANGE_COLOURS if objects.kind == CHANGE else {},
    }


def fill(config: dict[str, Any], links: str, scripts: str) -> str:
    """The page with its parts in place."""
    # A closing tag inside a string would end the script that holds it.
    told = json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
    page = static("page.html")
    for name, text in (("LINKS", links), ("CONFIG", told), ("SCRIPTS", scripts)):
        page = page.replace(f"<!--{name}-->", text, 1)
    return page
