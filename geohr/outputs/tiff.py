"""The tags of TIFF files: read from memory, and laid out again for a file of another size."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geohr.encoding import Ints

# Numbers of tags.
SUBFILE, WIDTH, HEIGHT, PLANAR = 254, 256, 257, 284
TILE_OFFSETS, TILE_SIZES = 324, 325
# Types of values: their bytes, and how numpy reads those that are whole numbers.
_SHORT, _LONG, _LONG8 = 3, 4, 16
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_NUMBERS = {_SHORT: "<u2", _LONG: "<u4", _LONG8: "<u8"}


@dataclass(frozen=True)
class Tag:
    """The value of a tag.

    Attributes:
        kind: The type's number in TIFF.
        count: The number of values.
        content: The values, little-endian.
    """

    kind: int
    count: int
    content: bytes

    @classmethod
    def of(cls, numbers: Ints, *, large: bool = False) -> Tag:
        """Whole numbers as 32 bits, or 64 where they may be large."""
        kind = _LONG8 if large else _LONG
        return cls(kind, len(numbers), numbers.astype(_NUMBERS[kind]).tobytes())

    @property
    def numbers(self) -> Ints:
        """The values, whole numbers."""
        return np.frombuffer(self.content, _NUMBERS[self.kind]).astype(np.int64)


# The tags of one image, by number.
Directory = dict[int, Tag]


@dataclass(frozen=True)
class _Layout:
    """How numbers are written: in classic TIFF, or in BigTIFF for files beyond 4 GB."""

    big: bool

    @property
    def count(self) -> str:
        """How many tags a directory has."""
        return "<Q" if self.big else "<H"

    @property
    def place(self) -> str:
        """A place in the file."""
        return "<Q" if self.big else "<I"

    @property
    def entry(self) -> str:
        """A tag, its type, and how many values it has; what follows is a place or the values."""
        return "<HHQ" if self.big else "<HHI"

    @property
    def start(self) -> bytes:
        """What a file begins with, before the place of the first directory."""
        return (
            struct.pack("<2sHHH", b"II", 43, 8, 0) if self.big else struct.pack("<2sH", b"II", 42)
        )


def read_tags(content: bytes) -> tuple[bytes, list[Directory]]:
    """What lies between a little-endian TIFF's header and its first directory, and directories.

    Pixels are not looked at.
    """
    layout = _Layout(content[2] == 43)
    begin, wide = len(layout.start), struct.calcsize(layout.place)
    (first,) = (place,) = struct.unpack_from(layout.place, content, begin)
    directories = []
    while place:
        (count,) = struct.unpack_from(layout.count, content, place)
        place += struct.calcsize(layout.count)
        directory = {}
        for _ in range(count):
            number, kind, length = struct.unpack_from(layout.entry, content, place)
            at, size = place + struct.calcsize(layout.entry), length * _BYTES[kind]
            place = at + wide
            if size > wide:
                (at,) = struct.unpack_from(layout.place, content, at)
            directory[number] = Tag(kind, length, content[at : at + size])
        directories.append(directory)
        (place,) = struct.unpack_from(layout.place, content, place)
    return content[begin + wide : first], directories


def header(between: bytes, directories: Sequence[Mapping[int, Tag]], *, big: bool) -> bytes:
    """A little-endian TIFF up to its pixels.

    Args:
        between: What is to lie before the first directory.
        directories: The tags of each image. Its tiles are where they say, so that the length of
            the result must not depend on the places.
        big: Whether to write a BigTIFF.
    """
    layout = _Layout(big)
    wide = struct.calcsize(layout.place)
    made = bytearray(layout.start + bytes(wide) + between)
    link = len(layout.start)
    for directory in directories:
        made += bytes(-len(made) % wide)
        struct.pack_into(layout.place, made, link, len(made))
        made += struct.pack(layout.count, len(directory))
        values = len(made) + len(directory) * (struct.calcsize(layout.entry) + wide) + wide
        behind = bytearray()
        for number, tag in sorted(directory.items()):
            made += struct.pack(layout.entry, number, tag.kind, tag.count)
            if len(tag.content) <= wide:
                made += tag.content.ljust(wide, b"\0")
            else:
                behind += bytes(-(values + len(behind)) % wide)
                made += struct.pack(layout.place, values + len(behind))
                behind += tag.content
        link = len(made)
        made += bytes(wide) + behind
    return bytes(made)
