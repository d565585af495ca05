"""The scenes that a batch is given, and what their outputs are called.

Scenes are files, folders, globs, lists, CSV tables, STAC items. Names of outputs are made from
templates and cannot leave the output folder.
"""

from __future__ import annotations

import csv
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from string import Formatter
from urllib.parse import unquote, urlsplit

from geohr.errors import InputError, UsageError
from geohr.scene.stac import RASTERS, hrefs

# Kinds of addresses that a scene may have.
SCHEMES = ("http", "https", "s3", "gs", "az", "file")
# Columns of a CSV table that may hold the scenes; the first that is there does.
COLUMNS = ("scene", "path", "url", "href", "file")
# A larger list is refused unread.
LIST_BYTES_MAX = 200_000_000
# The fields of a template: name of the file without extension, name of its folder, extension.
FIELDS = ("stem", "parent", "suffix")
# What no file name may hold, or not all formats can: single surrogates stand for bytes that are no
# UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]")


@dataclass(frozen=True)
class BatchInput:
    """A scene of a batch, before it is segmented.

    Attributes:
        name: A path or an address.
        folder: The folder in which it was found, out of which it must not lead; or None where it
            was named.
    """

    name: str
    folder: Path | None = None

    @property
    def remote(self) -> bool:
        """Whether it is read over a network."""
        return "://" in self.name


def find_sources(
    named: Sequence[str], *, pattern: str | None = None, asset: str | None = None
) -> list[BatchInput]:
    """Find all scenes, each once, in the order of the arguments; those of a folder by name.

    Args:
        named: Files, addresses, folders, globs, lists.
        pattern: Which files of a folder are scenes; by default all rasters.
        asset: Which asset of a STAC item is the scene; by default the first raster.

    Raises:
        InputError: For a name under which there is nothing, or a list that cannot be read.
    """
    found = {source.name: source for name in named for source in expand(name, pattern, asset)}
    return list(found.values())


def expand(name: str, pattern: str | None, asset: str | None) -> Iterator[BatchInput]:
    """The scenes that one name stands for."""
    path = Path(name)
    if "://" in name:
        yield BatchInput(checked_address(name, name))
    elif path.is_dir():
        yield from in_folder(path, pattern)
    # Lists before rasters: .json is a STAC item, and no raster has these endings.
    elif path.suffix.lower() in LISTS and path.exists():
        check_size(path)
        yield from (BatchInput(each) for each in LISTS[path.suffix.lower()](path, asset))
    elif path.exists():
        yield BatchInput(name)
    elif has_magic(name):
        matches = sorted(glob(name, recursive=True))  # noqa: PTH207  it may be absolute
        yield from (BatchInput(each, Path(each).parent) for each in matches if Path(each).is_file())
    else:
        raise InputError(f"{name}: no such file, folder or list; check the path")


def in_folder(folder: Path, pattern: str | None) -> Iterator[BatchInput]:
    """The rasters of a folder, by name; hidden files are left out."""
    try:
        paths = sorted(folder.glob(pattern or "*"))
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"pattern {pattern!r}: {error}; give one such as '**/*.tif'") from error
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        taken = pattern is not None or path.suffix.lower() in RASTERS
        if taken and not hidden and path.is_file():
            yield BatchInput(str(path), folder)


def from_text(path: Path, _: str | None) -> Iterator[str]:
    """A scene a line; empty lines and lines that begin with # are left out."""
    for line in read_text(path).splitlines():
        if line.strip() and not line.startswith("#"):
            yield beside(path, line.strip())


def from_table(path: Path, _: str | None) -> Iterator[str]:
    """The scenes of a CSV table with a header."""
    rows = csv.DictReader(read_text(path).splitlines())
    columns = rows.fieldnames or []
    column = next((each for each in COLUMNS if each in columns), None)
    if column is None:
        raise InputError(
            f"{path}: has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}; "
            f"its columns are {', '.join(columns) or 'none'}"
        )
    yield from (beside(path, row[column].strip()) for row in rows if (row[column] or "").strip())


def from_stac(path: Path, asset: str | None) -> Iterator[str]:
    """The scenes of a STAC Item or ItemCollection."""
    yield from (beside(path, href) for href in hrefs(read_text(path), str(path), asset))


# Readers of lists, by extension.
LISTS: dict[str, Callable[[Path, str | None], Iterator[str]]] = {
    ".txt": from_text,
    ".csv": from_table,
    ".json": from_stac,
    ".geojson": from_stac,
}


def check_size(path: Path) -> None:
    """Refuse a list that is too large to be one."""
    if path.stat().st_size > LIST_BYTES_MAX:
        raise InputError(f"{path}: a list of {path.stat().st_size} bytes is not read")


def read_text(path: Path) -> str:
    """Read the text of a list.

    Raises:
        InputError: When it cannot be read as UTF-8.
    """
    try:
        # Excel begins its CSV files with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of scenes ({error})") from error


def beside(path: Path, name: str) -> str:
    """A name in a list: an address, or a path from the list's folder on."""
    if "://" in name:
        return checked_address(name, str(path))
    return name if Path(name).is_absolute() else os.path.normpath(path.parent / name)


def checked_address(name: str, where: str) -> str:
    """An address of a kind that is read.

    Raises:
        InputError: For any other.
    """
    scheme = name.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InputError(
            f"{where}: URLs of kind {scheme}:// are not read; allowed are "
            f"{', '.join(f'{each}://' for each in SCHEMES)}"
        )
    return name


def check_source(source: BatchInput, *, allow_vrt: bool) -> None:
    """Refuse a scene that could make geohr read other files.

    Raises:
        InputError: For a link out of the folder where it was found, something that is no file,
            and a VRT where none is allowed.
    """
    if source.remote:
        return
    path = Path(source.name)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    if source.folder is not None and not path.resolve().is_relative_to(source.folder.resolve()):
        raise InputError(f"{path}: is a link out of {source.folder}; name its target instead")
    try:
        with path.open("rb") as file:
            # GDAL, too, knows a VRT by its first bytes, whatever its name.
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not allow_vrt and (b"<VRTDataset" in head or path.suffix.lower() == ".vrt"):
        raise InputError(f"{path}: is a VRT, which can read other files; allow it with --allow-vrt")


def is_growing(source: BatchInput, seconds: float) -> bool:
    """Whether a file changed within the last `seconds`, so that more of it may come."""
    if source.remote or seconds == 0:
        return False
    try:
        age = time.time() - Path(source.name).stat().st_mtime
    except OSError:
        return False
    # A clock that is ahead, here or on a file server, must not make a file wait for ever.
    return -seconds < age < seconds


def check_template(template: str) -> None:
    """Refuse a template before any scene is looked at.

    Raises:
        UsageError: When it names a field that there is not, or leads out of the output folder.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"name {template!r}: {error}; write {{stem}}.gpkg") from error
    # Attributes, conversions and widths of a format could read objects or fill the memory.
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
    """The path in `folder` of an output of a scene, by a template; see `check_template`.

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


def plain(name: str) -> str:
    """A name without what no file name may hold, and not hidden."""
    return _UNSAFE.sub("_", name).lstrip(".")
