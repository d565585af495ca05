"""Files that appear under their name only when they are whole, and the folder of caches."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from geohr.errors import OutputError, UsageError

ROOM_BYTES = 1 << 20
"""A disk with less free than this counts as full when something cannot be written to it."""

UNWRITABLE = frozenset("!\n\r\t")
"""Characters of names that GDAL's formats cannot be written to: `!` parts an archive from its
member, the others end lines in text files."""

CACHE_VARIABLE = "GEOHR_CACHE"
"""The environment variable that names the cache folder."""

SHAPEFILE_COMPANIONS = (".cpg", ".prj", ".qix", ".sbn", ".sbx")
"""Extensions of files beside a Shapefile that would be wrong for another one of the same name."""

STYLE_SUFFIXES = (".qml", ".sld")
"""Extensions of the files beside a vector file that say how it is drawn."""

STYLE_MARK = "A style of geohr, which replaces it with its next result of this name."
"""What the style files of geohr say, in a comment at their end."""


def is_kept_style(path: Path) -> bool:
    """Whether a file is a style that is not geohr's own, and that no result replaces."""
    if path.suffix not in STYLE_SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 2 * len(STYLE_MARK)), os.SEEK_END)
        return STYLE_MARK.encode() not in file.read()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends without an error.

    The temporary file keeps the suffix, because drivers choose by it. After an error nothing is
    left behind and a file that was there before is untouched.

    Raises:
        OutputError: When the folder is missing or not writable, or the disk is full.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            to_disk(file)
        os.replace(part, path)  # noqa: PTH105  the one call that is atomic on every system
    except OSError as error:
        raise as_output_error(error, path) from error
    finally:
        for leftover in part.parent.glob(f"{glob.escape(part.name)}*"):
            with suppress(OSError):
                leftover.unlink()


def to_disk(file: IO[Any]) -> None:
    """Bring what was written to the disk itself, so that it outlives a power cut.

    Raises:
        OSError: When the disk is full or went away.
    """
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def staged(paths: Sequence[Path], folder: str) -> Iterator[dict[Path, Path]]:
    """Temporary names for `paths`; the files get their final names together, when all are complete.

    After an error nothing is left behind and files that were there before are untouched.

    Args:
        paths: The final names, in any folders.
        folder: The folder of temporary names, inside the folder of each final name. Whatever lies
            in
            it is removed.

    Raises:
        OutputError: When a folder is not writable, or the disk is full.
    """
    folders = {path.parent: path.parent / folder for path in paths}
    names = {path: folders[path.parent] / path.name for path in paths}
    try:
        for each in folders.values():
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir(parents=True)
        yield names
        for parent, each in folders.items():
            publish(sorted(each.iterdir()), parent)
    except OSError as error:
        raise under_final_names(error, names) from error
    finally:
        for parent, each in folders.items():
            shutil.rmtree(each, ignore_errors=True)
            remove_empty(*list(each.parents)[: len(each.relative_to(parent).parts) - 1])


def publish(files: Sequence[Path], folder: Path) -> None:
    """Move whole files to a folder; those of a Shapefile that was there before go with it.

    Styles that somebody else made stay as they are.
    """
    # The .shp comes last: whoever sees it finds its companions.
    for file in sorted(files, key=lambda each: each.suffix == ".shp"):
        if file.suffix == ".shp":
            for suffix in SHAPEFILE_COMPANIONS:
                if file.with_suffix(suffix) not in files:
                    (folder / file.name).with_suffix(suffix).unlink(missing_ok=True)
        if not is_kept_style(folder / file.name):
            os.replace(file, folder / file.name)  # noqa: PTH105


def under_final_names(error: OSError, names: Mapping[Path, Path]) -> OSError:
    """`error`, in words that name the files as they were asked for."""
    if not isinstance(error, OutputError):
        return as_output_error(error, next(iter(names)))
    text = str(error)
    for path, name in names.items():
        text = text.replace(str(name), str(path))
    return OutputError(text)


def remove_empty(*folders: Path) -> None:
    """Remove folders, the inner ones first, as far as they have nothing in them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def as_output_error(error: Exception, path: Path) -> OSError:
    """`error` as one about writing `path`; an error of geohr's own stays as it is."""
    if isinstance(error, OutputError):
        return error
    if getattr(error, "errno", None) == errno.ENOSPC or is_full(path.parent):
        return OutputError(f"{path}: no space left on the device; make room and run again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return OutputError(f"{path}: cannot be written ({reason})")


def is_full(folder: Path) -> bool:
    """Whether a folder's disk has no room to speak of: GDAL's errors seldom say that it has not."""
    try:
        return shutil.disk_usage(folder).free < ROOM_BYTES
    except OSError:
        return False


def local_part(name: str) -> Path | None:
    """The file on disk that a name of GDAL's leads to, such as the archive of /vsizip/."""
    plain = name.partition("://")[2] or name
    plain = plain.replace("!", "/")
    while plain.startswith("/vsi"):
        plain = plain[1:].partition("/")[2]
    path = Path(plain)
    candidates = (path, *path.parents) if plain != name else (path,)
    return next((each for each in candidates if each.is_file()), None)


def check_writable(
    path: Path, *, overwrite: bool, inputs: Iterable[str | Path | None] = ()
) -> None:
    """Refuse an output before any work is done for it.

    Args:
        path: The output.
        overwrite: Whether it may replace what is there.
        inputs: What it is made of: paths, addresses and names of GDAL's; None is none.

    Raises:
        UsageError: When it exists and `overwrite` is not set, is one of the inputs, or has a name
            that file formats cannot have.
        OutputError: When its folder is missing or not writable, or its name leads nowhere.
    """
    if any("\ud800" <= each <= "\udfff" for each in str(path.absolute())):
        raise UsageError(f"{path}: the name is not in UTF-8; choose another name or folder")
    forbidden = UNWRITABLE & set(str(path.absolute()))
    if forbidden and path.suffix.lower() in (".gpkg", ".fgb", ".shp"):
        raise UsageError(
            f"{path}: {path.suffix} cannot be written where a name has {min(forbidden)!a}; "
            "choose another name or folder"
        )
    try:
        path.resolve()
        path.lstat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise OutputError(f"{str(path)[:200]}: cannot be written ({reason})") from error
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    for name in inputs:
        source = None if name is None else local_part(str(name))
        if source is not None and path.exists() and path.samefile(source):
            which = "" if str(name) == str(path) else f", {name}"
            raise UsageError(f"{path}: is an input{which}; name another file for the output")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists; choose another name or pass --overwrite")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: folder {folder} is not writable")


def cache_folder() -> Path:
    """The folder of what can be made or fetched again: $GEOHR_CACHE, else in the user's caches."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "geohr"
