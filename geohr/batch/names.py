"""Names of a scene's outputs, made from templates; they cannot leave the output folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from string import Formatter
from urllib.parse import unquote, urlsplit

from geohr.errors import InputError, UsageError

FIELDS = ("stem", "parent", "suffix")
"""What a template may use: the file's name without its extension, its folder's name, extension."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


def check_template(template: str) -> None:
    """Refuse a template before any scene is looked at.

    Raises:
        UsageError: When it names a field that there is not, or leads out of the output folder.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"name {template!r}: {error}; write {{stem}}.gpkg") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in FIELDS or form or conversion):
            raise UsageError(
                f"name {template!r}: unknown field {{{name}}}; known: "
                f"{', '.join(f'{{{field}}}' for field in FIELDS)}"
            )
    path = PurePosixPath(template)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"name {template!r}: outputs stay in the output folder; leave out / and .."
        )


def output_path(folder: Path, template: str, scene: str) -> Path:
    """The output of a scene.

    Args:
        folder: All outputs lie in it.
        template: See `check_template`.
        scene: The scene's path or address.

    Raises:
        InputError: When the scene's name leads out of the folder.
    """
    path = PurePosixPath(
        unquote(urlsplit(scene).path) if "://" in scene else Path(scene).as_posix()
    )
    fields = {
        "stem": plain(path.stem) or "scene",
        "parent": plain(path.parent.name) or "scenes",
        "suffix": plain(path.suffix.removeprefix(".")),
    }
    target = folder / template.format(**fields)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{scene}: its output {target} would lie outside {folder}; rename the scene"
        )
    return target


def output_paths(folder: Path, templates: Sequence[str], scene: str) -> list[Path]:
    """All outputs of a scene; see `output_path`."""
    return [output_path(folder, template, scene) for template in templates]


def plain(name: str) -> str:
    """A name without what no file name may hold, and not hidden."""
    return _UNSAFE.sub("_", name).lstrip(".")
