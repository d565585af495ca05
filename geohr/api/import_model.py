"""Other people's models: a file of any format in, a geohr model file with its card out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from geohr._runtime.files import check_writable, written_whole
from geohr._runtime.messages import amount
from geohr.api.import_options import ImportOptions
from geohr.encoding import Batch
from geohr.engines import open_predictor
from geohr.engines.foreign import ENGINES, ForeignNetwork, open_file
from geohr.errors import InputError, UsageError
from geohr.models.card import Card, ClassLabel, Source
from geohr.models.foreign import FOREIGN, pack
from geohr.models.hub import SCHEME, HubAddress, digest_of
from geohr.models.metadata import labels_of, read_deepness, read_item
from geohr.models.model import Model
from geohr.options import EngineOptions

TILE = 512
"""Side of a window where neither file nor options say one."""
SUM_TOLERANCE = 1e-3
"""How far scores of all channels may be from 1 and still be a softmax's."""
PLAIN = (0.0, 1.0)
"""Mean and standard deviation of values that are divided by their range alone."""


@dataclass(frozen=True)
class ImportResult:
    """A model that was imported, and what a test window showed.

    Attributes:
        model: As it was written.
        path: Where.
        format: What the file was.
        assumed: Entries of the card that neither file nor options said.
        seen: What the test window gave.
    """

    model: Model
    path: Path
    format: str
    assumed: tuple[str, ...]
    seen: str

    def describe(self) -> str:
        """What was written and seen, for a person."""
        card = self.model.card
        assumed = ", ".join(f"{name} {getattr(card, name)}" for name in self.assumed)
        return (
            f"{self.path}: {self.format}, {amount(len(card.bands), 'band')}, "
            f"{amount(len(card.classes), 'class')}; "
            f"{self.seen}" + (f"; assumed: {assumed}" if assumed else "")
        )


def import_model(
    source: str | Path,
    out: Path,
    *,
    options: ImportOptions | None = None,
    card: Path | None = None,
    name: str | None = None,
    notes: str = "",
    overwrite: bool = False,
) -> ImportResult:
    """Make a geohr model file of someone else's, after it has predicted a test window.

    What the file says of itself is taken, then what `card` says, then what the options say. No
    pickle is executed.

    Args:
        source: A checkpoint of SMP (the folder of `save_pretrained`, a plain state dict, or
            Lightning's), an ONNX file, a TorchScript file, an OpenVINO IR, or `hf://owner/name`.
        out: The model file, `*.safetensors`.
        options: What the file cannot say.
        card: A STAC Item of the MLM extension, or a card as JSON.
        name: The model's; by default the file's.
        notes: On its training and its quality.
        overwrite: Replace a file that exists.

    Raises:
        UsageError: When something must be said that was not.
        InputError: When the file cannot be read, is refused, or does not fit what is said.
        EngineError: When the engine that its format needs is not installed.
        OutputError: When `out` cannot be written.
    """
    options = options or ImportOptions()
    if out.suffix != ".safetensors":
        raise UsageError(f"a model file is named *.safetensors; got {out}")
    check_writable(out, overwrite=overwrite, inputs=[source, card])
    path, entries = locate(source)
    kind = format_of(path)
    entries |= {"name": name or out.stem, "notes": notes}
    entries |= read_item(card) if card is not None else {}
    digest, entries = entries.get("sources", ()), {**entries, **said(options)}
    entries["sources"] = tuple(dict.fromkeys((*entries["sources"], *digest)))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.safetensors"
        reader = read_checkpoint if kind == "checkpoint" else read_foreign
        assumed = reader(path, kind, entries, made)
        seen = predict_noise(Model.load(made))
        with written_whole(out) as part:
            part.write_bytes(made.read_bytes())
    return ImportResult(Model.load(out), out, kind, assumed, seen)


def locate(source: str | Path) -> tuple[Path, dict[str, Any]]:
    """The file that is meant, and what its place says of it."""
    if str(source).startswith(SCHEME):
        address = HubAddress.parse(str(source))
        path = address.fetch()
        address.optional("config.json")
        origin, licence = str(source), address.licence()
    else:
        path = Path(source)
        if path.is_dir():
            path = next((path / each for each in IN_FOLDER if (path / each).is_file()), path)
        if not path.is_file():
            raise InputError(f"{source}: no such model file")
        origin, licence = path.name, ""
    made_from = Source(f"imported from {origin} (sha256 {digest_of(path)})", licence, origin)
    return path, {"sources": (made_from,), **({"licence": licence} if licence else {})}


IN_FOLDER = ("model.safetensors", "pytorch_model.bin", "model.onnx", "model.xml")


def format_of(path: Path) -> str:
    """`checkpoint`, or a format of `FOREIGN`, by what the file holds.

    Raises:
        InputError: When it holds nothing of the kind.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{path}: an HTML page, not a model; download the file that it shows")
    if path.suffix == ".xml" or b"<net " in start:
        return "openvino"
    if start.startswith(b"PK"):
        try:
            with ZipFile(path) as archive:
                names = archive.namelist()
        except BadZipFile as error:
            raise InputError(f"{path}: damaged or cut short ({error})") from error
        scripted = any("/code/" in name for name in names)
        return "torchscript" if scripted else "checkpoint"
    return "onnx" if path.suffix == ".onnx" else "checkpoint"


def said(options: ImportOptions) -> dict[str, Any]:
    """Entries of a card from options that were given."""
    given = {
        each.name: getattr(options, each.name)
        for each in dataclasses.fields(options)
        if getattr(options, each.name) is not None
    }
    if "classes" in given:
        given |= labels_of(given["classes"])
    attribution = given.pop("attribution", None)
    if attribution is not None:
        licence = given.get("licence", "")
        given["sources"] = (Source("imported model", licence, attribution),)
    return given


def complete(
    entries: Mapping[str, Any], *, channels: int, path: Path
) -> tuple[Card, tuple[str, ...]]:
    """A card from known entries, and the names of those that were assumed.

    `channels` is 0 for a network that gives class ids; error messages name `path`.

    Raises:
        UsageError: For what must be said.
        InputError: For entries that contradict the network or one another.
    """
    known = dict(entries)
    assumed = [each for each in ("bands", "range", "mean", "std", "tile") if each not in known]
    if "classes" not in known:
        if channels != 1:
            what = f"{channels} channels" if channels else "class ids"
            raise UsageError(f"{path}: it gives {what}; name the classes with --classes")
        known |= {"classes": (ClassLabel("object", "#e4572e"),), "background": False}
        assumed.append("classes")
    if "gsd" not in known:
        raise UsageError(f"{path}: say which resolutions suit it, in metres: --gsd MIN,MAX")
    count = len(known["classes"])
    background = bool(known.get("background", False))
    if channels == count + 1 and not background:
        known["background"] = background = True
    if channels and channels != count + background:
        raise InputError(
            f"{path}: it gives {amount(channels, 'channel')}, but {amount(count, 'class')}"
            + (" and a background" if background else "")
            + " are named; name them all with --classes, in the order of the channels"
        )
    known.setdefault("threshold", 0.5 if count == 1 else None)
    known.setdefault("tile", TILE)
    try:
        return Card(**known), tuple(assumed)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its card cannot be ({error})") from error


def read_checkpoint(path: Path, kind: str, entries: dict[str, Any], made: Path) -> tuple[str, ...]:
    """Write a model file from a checkpoint of SMP."""
    from geohr.models.checkpoint import bands_of, channels_of, load_network, read_config

    channels = channels_of(path)
    entries = {**read_config(path), **entries}
    if "architecture" not in entries or "encoder" not in entries:
        raise UsageError(
            f"{path}: a state dict names no network; add --architecture and --encoder, as in SMP"
        )
    card, assumed = complete(entries, channels=channels, path=path)
    bands = bands_of(path, card)
    if bands != len(card.bands):
        raise InputError(
            f"{path}: reads {amount(bands, 'band')}, but {len(card.bands)} are named; name them "
            "with --bands, and their --mean and --std"
        )
    Model(load_network(path, card), card).save(made)
    return assumed


def read_foreign(path: Path, kind: str, entries: dict[str, Any], made: Path) -> tuple[str, ...]:
    """Write a model file around a network of another format."""
    files = {FOREIGN[kind][0]: path.read_bytes()}
    if kind == "openvino":
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise InputError(f"{path}: its weights, {weights.name}, are not beside it")
        files[FOREIGN[kind][1]] = weights.read_bytes()
    opened = open_file(path, ENGINES[kind][0], "cpu")
    if opened.inputs != 1:
        raise InputError(f"{path}: has {opened.inputs} inputs; a model here has one, the pixels")
    entries = {**(deepness_of(path) if kind == "onnx" else {}), **entries}
    bands = tuple(entries.get("bands", ("red", "green", "blue")))
    rows, cols = opened.sides(len(bands))
    if rows != cols:
        raise InputError(f"{path}: takes windows of {rows} x {cols} pixels; they must be square")
    if rows is not None and entries.get("tile", rows) != rows:
        raise InputError(f"{path}: takes windows of {rows} pixels; got --tile {entries['tile']}")
    if rows is not None:
        entries["tile"] = rows
    channels, output = look(opened, len(bands), entries.get("tile", TILE), path)
    entries.setdefault("output", output)
    entries |= {"architecture": kind, "encoder": "none"}
    assumed_scale = [each for each in ("mean", "std") if each not in entries]
    entries.setdefault("mean", (PLAIN[0],) * len(bands))
    entries.setdefault("std", (PLAIN[1],) * len(bands))
    if entries["output"] == "classes":
        channels = 0
        # Without other word 0 is the background's in a map of classes.
        entries.setdefault("background", True)
    card, assumed = complete(entries, channels=channels, path=path)
    made.write_bytes(pack(files, card))
    return (*assumed, *assumed_scale)


def look(opened: ForeignNetwork, bands: int, tile: int, path: Path) -> tuple[int, str]:
    """How many channels a foreign network gives, and what they seem to be.

    Raises:
        InputError: When it cannot predict, gives another size than the window's, or not always
            the same number of channels.
    """
    batch = opened.shape[0] or 1
    shape = (batch, bands, tile, tile)
    counts, low, high, total = set(), np.inf, -np.inf, 0.0
    for window in (np.zeros(shape, np.float32), noise(shape)):
        given = window.transpose(0, 2, 3, 1) if opened.bands_last(bands) else window
        try:
            raw = np.asarray(opened.run(np.ascontiguousarray(given)))
        except Exception as error:
            line = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path}: cannot predict {' x '.join(map(str, shape))} ({line})"
            ) from error
        if raw.size == batch * tile * tile and (
            raw.ndim == 3 or np.issubdtype(raw.dtype, np.integer)
        ):
            whole = bool((raw == np.round(raw)).all())
            counts.add(0 if whole else 1)
        elif raw.ndim == 4 and raw.shape[2:] == (tile, tile):
            counts.add(raw.shape[1])
            total = float(np.abs(raw.sum(axis=1) - 1).max())
        elif raw.ndim == 4 and raw.shape[1:3] == (tile, tile):
            counts.add(raw.shape[3])
            total = float(np.abs(raw.sum(axis=3) - 1).max())
        else:
            raise InputError(
                f"{path}: gives {' x '.join(map(str, raw.shape))} for windows of {tile} x {tile} "
                "pixels; a model here gives a value a class and pixel, or a class a pixel"
            )
        low, high = min(low, float(raw.min())), max(high, float(raw.max()))
    if len(counts) != 1:
        raise InputError(f"{path}: gives now {counts}, then another number of classes")
    channels = counts.pop()
    if channels == 0:
        return 0, "classes"
    bounded = low >= 0 and high <= 1
    scores = bounded and (channels == 1 or total < SUM_TOLERANCE)
    return channels, "scores" if scores else "logits"


def noise(shape: tuple[int, ...]) -> Batch:
    """Normalised pixels of no scene, always the same."""
    drawn: Batch = np.random.default_rng(0).standard_normal(shape, np.float32)
    return drawn


def deepness_of(path: Path) -> dict[str, Any]:
    """What an ONNX file's metadata says, where it is Deepness's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return read_deepness(session.get_modelmeta().custom_metadata_map, path=path)


def predict_noise(model: Model) -> str:
    """Predict a window of noise and say what was seen.

    Raises:
        InputError: When it gives nothing that can be a score.
    """
    card = model.card
    predictor = open_predictor(model, card.tile, EngineOptions(backend="auto", device="cpu"))
    shape = (predictor.batch, len(card.bands), card.tile, card.tile)
    scores = predictor.predict(noise(shape))
    if not np.isfinite(scores).all():
        raise InputError(f"model {card.name!r}: gives values that are no numbers on a test window")
    means = scores.mean(axis=(0, 2, 3))
    best = int(means.argmax())
    return (
        f"a window of noise gives scores from {scores.min():.3g} to {scores.max():.3g}, most to "
        f"{card.classes[best].name} ({means[best]:.3g}), on {predictor.engine}"
    )
