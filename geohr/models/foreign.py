"""Networks of other formats inside a model file: ONNX, TorchScript, OpenVINO's IR.

Such a model file holds the foreign file's bytes as tensors of uint8, beside the card. Nothing of
it is read before an engine opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from geohr.errors import InputError
from geohr.models.card import METADATA_KEY, Card

FOREIGN: dict[str, tuple[str, ...]] = {
    "onnx": ("network.onnx",),
    "torchscript": ("network.pt",),
    "openvino": ("network.xml", "network.bin"),
}
"""What a card calls the formats, and the files of each."""


def pack(files: Mapping[str, bytes], card: Card) -> bytes:
    """The bytes of a model file, from the files of its architecture by name; see `FOREIGN`."""
    tensors = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
    packed: bytes = save(tensors, {METADATA_KEY: card.to_json()})
    return packed


def unpack(path: Path, card: Card, folder: Path) -> Path:
    """Write the foreign files of a model file into a folder, and give the network's.

    Raises:
        InputError: When the model file is damaged or has others than its card says.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: the model file is damaged ({error})") from error
    names = FOREIGN[card.architecture]
    if set(tensors) != set(names):
        raise InputError(f"{path}: holds no network of format {card.architecture}")
    for name in names:
        (folder / name).write_bytes(tensors[name].tobytes())
    return folder / names[0]
