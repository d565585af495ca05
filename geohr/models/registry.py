"""Openly licensed models that others publish and that `geohr models pull` brings.

Weights whose licence forbids commercial use, or is the AGPL, are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from geohr._runtime.files import written_whole
from geohr._runtime.messages import amount
from geohr.errors import InputError, UsageError
from geohr.models.hub import HubAddress, digest_of

PINS = "digests.json"
"""In the cache folder of geohr: SHA-256 of what was fetched first, by row."""


@dataclass(frozen=True)
class Remote:
    """One row of the registry.

    Attributes:
        name: What `pull` calls it.
        address: Repository and file on the hub.
        digest: SHA-256 of the file, or how it begins; empty where it is not known, and that of the
            first file that comes is remembered.
        licence: As its publisher states it.
        attribution: The words that the licence asks for.
        gsd: Smallest and largest ground sampling distance, in metres.
        architecture: As a card names it.
        encoder: As a card names it.
        classes: In the order of the channels.
        bands: In the order expected.
        range: Scene values that span [0, 1].
        mean: By band.
        std: By band.
        tile: Side of a window in pixels.
        note: What is known of its quality, and by whom it was measured.
    """

    name: str
    address: HubAddress
    digest: str
    licence: str
    attribution: str
    gsd: tuple[float, float]
    architecture: str
    encoder: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tile: int
    note: str

    def describe(self) -> str:
        """One line for a person."""
        return (
            f"{self.name}: {amount(len(self.classes), 'class')}, {', '.join(self.classes[:4])}"
            f"{', ...' if len(self.classes) > 4 else ''}; {self.architecture} on {self.encoder}; "
            f"{', '.join(self.bands)}; {self.gsd[0]:g} to {self.gsd[1]:g} m a pixel; "
            f"{self.licence}; hf://{self.address.repo}"
        )

    def fetch(self, pins: Path) -> Path:
        """The file, checked against its digest; those of first fetches are remembered in `pins`.

        Raises:
            InputError: When it cannot be fetched, or is not what it was.
        """
        path = self.address.fetch()
        found, known = digest_of(path), self.digest or pinned(pins, self.name)
        if not found.startswith(known):
            raise InputError(
                f"{self.name}: hf://{self.address.repo} now has another file, sha256 {found}, not "
                f"{known}; if it is meant to be, take the name out of {pins}"
            )
        if not known:
            pin(pins, self.name, found)
        return path


def remote_models() -> dict[str, Remote]:
    """The registry, by name."""
    text = (resources.files("geohr.models") / "registry.json").read_text("utf-8")
    return {row["name"]: row_of(row) for row in json.loads(text)}


def row_of(row: Mapping[str, Any]) -> Remote:
    """One row from JSON."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    address = HubAddress(values.pop("repo"), values.pop("revision"), values.pop("file"))
    return Remote(address=address, **values)


def find_remote(name: str) -> Remote:
    """A row by its name.

    Raises:
        UsageError: When there is none; the known ones are listed.
    """
    known = remote_models()
    if name not in known:
        raise UsageError(f"no model {name!r} in the registry; known: {', '.join(sorted(known))}")
    return known[name]


def pinned(pins: Path, name: str) -> str:
    """The digest of a row that was fetched before, or nothing."""
    try:
        return str(json.loads(pins.read_text("utf-8")).get(name, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def pin(pins: Path, name: str, digest: str) -> None:
    """Remember the digest of a row's first fetch."""
    pins.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = dict(json.loads(pins.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        held = {}
    with written_whole(pins) as part:
        part.write_text(json.dumps({**held, name: digest}, indent=1) + "\n", "utf-8")
