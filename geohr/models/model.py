"""A network and its card in one safetensors file."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from geohr._runtime.files import written_whole
from geohr._runtime.html import table
from geohr.errors import InputError, UsageError
from geohr.models.card import METADATA_KEY, Card, read_card

if TYPE_CHECKING:
    from torch import nn

# The bundled model that is used where none is named.
DEFAULT_MODEL = "buildings"
# Scores that a notebook shows of each place; the card has all.
SHOWN = {"iou": "IoU", "object_f1": "object F1", "false_area": "false area"}


class Model:
    """A trained network with its card.

    The weights of a model file are read when `network` is first asked for.

    Args:
        network: Normalised float `(n, band, row, col)` to logits `(n, channel, row, col)`.
        card: The card: what the network is, and what it expects.

    Attributes:
        card: The card.
        path: The file it was loaded from, or None.
    """

    card: Card
    path: Path | None

    def __init__(self, network: nn.Module, card: Card) -> None:
        self.card = card
        self.path = None
        self.network = network

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Load the model in a file.

        Raises:
            InputError: When the file is missing, is no safetensors file or carries no card.
        """
        # The weights are read when they are first used: many callers only need the card.
        model = cls.__new__(cls)
        model.card = read_card(path)
        model.path = Path(path)
        return model

    @classmethod
    def bundled(cls, name: str = DEFAULT_MODEL) -> Model:
        """A model that comes with geohr.

        Raises:
            UsageError: When there is none of that name; the known ones are listed.
        """
        known = bundled_models()
        if name not in known:
            raise UsageError(
                f"no bundled model {name!r}; bundled: {', '.join(sorted(known)) or 'none'}"
            )
        return cls.load(known[name])

    def __repr__(self) -> str:
        """The model's name and network."""
        return f"Model({self.card.name!r}, {self.card.architecture} on {self.card.encoder})"

    def _repr_html_(self) -> str:
        """The model in a notebook: what it finds, in which scenes, and how well."""
        card = self.card
        scores = {
            place: ", ".join(f"{SHOWN[name]} {each[name]:.2g}" for name in SHOWN if name in each)
            for place, each in card.metrics.items()
        }
        rows: dict[str, object] = {
            "classes": ", ".join(label.name for label in card.classes),
            "network": f"{card.architecture} on {card.encoder}",
            "bands": f"{', '.join(card.bands)} ({card.dtype})",
            "metres a pixel": f"{card.gsd[0]:g} to {card.gsd[1]:g}",
            "licence": card.licence,
            "file": self.path,
        }
        return table(f"Model {card.name}", rows | scores)

    @cached_property
    def network(self) -> nn.Module:
        """The plain network in evaluation mode, float32.

        Raises:
            InputError: When the weights do not fit the card.
        """
        from geohr.models.networks import load_weights

        if self.path is None:
            raise InputError("a model without a file has no weights to load")
        return load_weights(self.path, self.card)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model file, or of what `save` would write; hexadecimal."""
        if self.path is not None:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(self.content()).hexdigest()

    def content(self) -> bytes:
        """The bytes of the model file, or of what `save` would write."""
        return self._serialised(half=False) if self.path is None else self.path.read_bytes()

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write the model to `path`, whole or not at all.

        Args:
            path: A file name that ends in `.safetensors`.
            half: Store weights as float16: half the size, rounded to 11 bits.

        Raises:
            UsageError: When the name ends otherwise.
            OutputError: When it cannot be written.
        """
        if Path(path).suffix != ".safetensors":
            raise UsageError(f"a model file is named *.safetensors; got {path}")
        with written_whole(Path(path)) as part:
            part.write_bytes(self._serialised(half=half))

    def _serialised(self, *, half: bool) -> bytes:
        """The bytes of the model file."""
        from geohr.models.networks import serialise

        return serialise(self.network, {METADATA_KEY: self.card.to_json()}, half=half)


def bundled_models() -> dict[str, Path]:
    """The names and files of the models that come with geohr."""
    folder = Path(str(resources.files("geohr.models"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def resolve_model(name: str | Path | Model | None) -> Model:
    """The model meant by a bundled name, a file, a model itself, or nothing.

    Raises:
        UsageError: For a name that is neither bundled nor a file.
        InputError: For a file that is no model.
    """
    if isinstance(name, Model):
        return name
    if name is None:
        return Model.bundled()
    if Path(name).suffix or Path(name).exists():
        return Model.load(name)
    return Model.bundled(str(name))
