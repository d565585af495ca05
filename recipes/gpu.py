"""Teacher and student in minutes on one GPU, everything resident there.

    python -m recipes.gpu pack DATA pack.zip
    python -m recipes.gpu train pack.zip FOLDER --init imagenet.safetensors --minutes 5
    python -m recipes.gpu train pack.zip FOLDER --teacher FOLDER/unet.safetensors --minutes 6

DATA is a folder with the data sets' `manifest.json`. `pack` writes the imagery of the splits train
and unlabelled as JPEG and its labels as PNG into one file, as much of each data set as its share of
`MEGABYTES` holds; small images are laid side by side on sheets. `train` holds all of it on the
device and draws, scales, turns and augments windows there, in batches. Without a teacher it learns
from the labels; with one it learns what the teacher says of the same view, too, labels or none.

The learning rate falls with the minutes that have passed. The averaged weights are written each
minute, as float16, to FOLDER under the name of the architecture. Nothing is chosen here: threshold,
calibration and scores are those of `recipes.soup`, `recipes.readings` and `recipes.buildings`.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from geohr.encoding import IGNORE
from geohr.models.model import Model, resolve_model
from geohr.training.features import FeatureDistillation
from geohr.training.losses import cross_entropy, dice, distillation
from geohr.training.options import TrainOptions
from geohr.training.places import pose
from geohr.training.state import State

MEGABYTES = {
    "nz_christchurch": 6.0,
    "fair_banepa": 4.0,
    "fair_zanzibar": 3.0,
    "geneva_roofs": 2.0,
    "dubai_mbrsc": 5.0,
    "accra_opencities": 9.0,
    "czech_orthophoto": 8.0,
    "naip_california": 4.0,
    "neon_negatives": 3.0,
}
"""Of each data set in the pack, at most: 44 in all."""
WEIGHTS = {
    "nz_christchurch": 2.0,
    "fair_banepa": 2.0,
    "fair_zanzibar": 2.0,
    "geneva_roofs": 1.0,
    "dubai_mbrsc": 0.8,
    "accra_opencities": 2.0,
    "czech_orthophoto": 4.0,
    "naip_california": 2.0,
    "neon_negatives": 1.0,
}
"""How often windows are drawn from a data set, against each other."""
QUALITY = 75
SHEET = 1024
"""Side of the sheets that smaller images are laid on, in pixels."""
SPAN = (0.06, 0.8)
"""Metres a pixel that windows are drawn at."""
FINER, COARSER = 4.0, 8.0
"""No image is drawn at pixels more times smaller, or larger, than its own."""
LEVELS = 4
"""Each image is held at its own pixels and at pixels 2, 4 and 8 times as large."""
SAVE_EVERY = 60.0
"""Seconds."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """An image on the device.

    Attributes:
        levels: `(5, row, col)`, uint8, finest first: red, green, blue, and the shares of a pixel
            that are building and that are annotated, of 255.
        gsd: Metres a pixel of the finest.
    """

    levels: tuple[Tensor, ...]
    gsd: float


def pack(data: Path, out: Path) -> None:
    """Write images, labels and their index."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads((data / "manifest.json").read_text("utf-8")):
        if entry["split"] in ("train", "unlabelled"):
            groups.setdefault(entry["dataset"], []).append(entry)
    index: list[dict[str, object]] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for dataset, entries in groups.items():
            spent = 0.0
            for image, labels, gsd in sheets(data, entries, rng):
                coded = code(image, "JPEG", quality=QUALITY), code(labels, "PNG")
                spent += sum(len(each) for each in coded) / 1e6
                if spent > MEGABYTES[dataset]:
                    break
                for suffix, content in zip(("jpg", "png"), coded, strict=True):
                    file.writestr(f"{len(index)}.{suffix}", content)
                index.append({"dataset": dataset, "gsd": gsd})
        file.writestr("index.json", json.dumps(index))
    print(f"{out}: {len(index)} images, {out.stat().st_size / 1e6:.1f} MB")


def code(pixels: Bytes, form: str, **options: int) -> bytes:
    """An image file of `(row, col)` or `(row, col, 3)`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def sheets(
    data: Path, entries: Sequence[dict[str, Any]], rng: np.random.Generator
) -> Iterator[tuple[Bytes, Bytes, float]]:
    """Images `(row, col, 3)` and labels `(row, col)` of a data set in random order, and their gsd.

    Images larger than a sheet are cut, smaller ones laid side by side, turned at random.
    """
    waiting: dict[tuple[float, int], list[Bytes]] = {}
    for number in rng.permutation(len(entries)):
        entry = entries[number]
        both = load(data, entry)
        gsd, (_, height, width) = entry["gsd"], both.shape
        if min(height, width) >= SHEET // 2:
            for row in range(0, height, SHEET):
                for col in range(0, width, SHEET):
                    part = both[:, row : row + SHEET, col : col + SHEET]
                    if min(part.shape[1:]) >= SHEET // 2:
                        yield part[:3].transpose(1, 2, 0), part[3], gsd
            continue
        side = min(height, width)
        cells = waiting.setdefault((gsd, side), [])
        cells.append(
            pose(both[:, :side, :side], int(rng.integers(4)), mirrored=bool(rng.integers(2)))
        )
        count = SHEET // side
        if len(cells) == count**2:
            rows = [
                np.concatenate(cells[at : at + count], axis=2) for at in range(0, count**2, count)
            ]
            sheet = np.concatenate(rows, axis=1)
            cells.clear()
            yield np.ascontiguousarray(sheet[:3].transpose(1, 2, 0)), sheet[3], gsd


def load(data: Path, entry: dict[str, Any]) -> Bytes:
    """`(4, row, col)` of an entry of the manifest: red, green, blue and labels."""
    with rasterio.open(data / entry["image"]) as image:
        pixels = image.read([1, 2, 3])
    labels = np.full((1, *pixels.shape[1:]), IGNORE, np.uint8)
    if entry["label"] is not None:
        with rasterio.open(data / entry["label"]) as raster:
            labels = raster.read([1])
    both: Bytes = np.concatenate([pixels, labels])
    return both


def unpack(path: Path, device: str) -> dict[str, list[Picture]]:
    """The pictures of a pack on the device, by data set."""
    pictures: dict[str, list[Picture]] = {}
    with zipfile.ZipFile(path) as file:
        for number, entry in enumerate(json.loads(file.read("index.json"))):
            parts = [
                np.asarray(Image.open(io.BytesIO(file.read(f"{number}.{suffix}"))))
                for suffix in ("jpg", "png")
            ]
            labels = torch.tensor(parts[1])[None]
            shares = torch.cat([labels == 1, labels != IGNORE]).to(torch.uint8) * 255
            level = torch.cat([torch.tensor(parts[0]).permute(2, 0, 1), shares]).to(device)
            levels = [level]
            for _ in range(LEVELS - 1):
                level = F.avg_pool2d(level.float(), 2).round().to(torch.uint8)
                levels.append(level)
            pictures.setdefault(entry["dataset"], []).append(Picture(tuple(levels), entry["gsd"]))
    return pictures


def draw(picture: Picture, count: int, tile: int, rng: np.random.Generator) -> Tensor:
    """`(count, 5, tile, tile)` in [0, 1]: windows of one picture, scaled and turned at random."""
    low = max(SPAN[0], picture.gsd / FINER)
    high = max(min(SPAN[1], picture.gsd * COARSER), low)
    gsd = math.exp(rng.uniform(math.log(low), math.log(high)))
    level = min(max(int(math.log2(gsd / picture.gsd)), 0), LEVELS - 1)
    source = picture.levels[level].float()[None] / 255
    sides = np.array(source.shape[:1:-1])
    factors = gsd / picture.gsd / 2**level * rng.uniform(0.8, 1.25, count)
    angles = rng.uniform(0, 2 * np.pi, count)
    half = factors[:, None] * tile / sides
    centres = rng.uniform(-1, 1, (count, 2)) * np.clip(1 - half, 0, 1)
    mirror = rng.choice([-1.0, 1.0], count)
    cosine, sine = np.cos(angles), np.sin(angles)
    # Coordinates go from -1 to 1 over the picture, whose sides may differ.
    matrices = np.stack(
        [
            np.stack([half[:, 0] * cosine * mirror, -half[:, 0] * sine, centres[:, 0]], 1),
            np.stack([half[:, 1] * sine * mirror, half[:, 1] * cosine, centres[:, 1]], 1),
        ],
        axis=1,
    )
    where = F.affine_grid(
        torch.tensor(matrices, dtype=torch.float32, device=source.device),
        [count, 1, tile, tile],
        align_corners=False,
    )
    return F.grid_sample(
        source.expand(count, -1, -1, -1), where, padding_mode="reflection", align_corners=False
    )


def uniform(low: float, high: float, like: Tensor, bands: int = 1) -> Tensor:
    """`(n, bands, 1, 1)` random numbers for the images `like`."""
    return torch.empty(len(like), bands, 1, 1, device=like.device).uniform_(low, high)


def chance(share: float, like: Tensor) -> Tensor:
    """`(n, 1, 1, 1)`, True for that share of the images."""
    return uniform(0, 1, like) < share


def augment(images: Tensor) -> Tensor:
    """Images `(n, 3, row, col)` in [0, 1] in other light, through another lens."""
    middle = images.mean((1, 2, 3), keepdim=True)
    gain = uniform(0.5, 1.4, images) * uniform(0.8, 1.25, images, 3)
    offset = uniform(-0.12, 0.12, images) + uniform(-0.08, 0.08, images, 3)
    coloured = (images - middle) * gain + middle + offset
    brightness = coloured.mean(1, keepdim=True)
    coloured = brightness + (coloured - brightness) * uniform(0.0, 1.6, images)
    images = torch.where(chance(0.8, images), coloured, images)
    images = torch.where(chance(0.12, images), images.mean(1, keepdim=True), images)
    images = images[:, torch.randperm(3)] if np.random.default_rng().random() < 0.12 else images
    curved = images.clamp(1e-3, 1) ** (2 ** uniform(-0.9, 0.9, images))
    images = torch.where(chance(0.4, images), curved, images)
    field = F.interpolate(torch.rand_like(images[:, :1, :4, :4]), images.shape[2:], mode="bilinear")
    veil = field * uniform(0.1, 0.6, images)
    veiled = images * (1 - veil) + uniform(0.6, 1.0, images, 3) * veil
    images = torch.where(chance(0.25, images), veiled, images)
    factor = float(2 ** np.random.default_rng().uniform(0.3, 2))
    small = F.interpolate(images, scale_factor=1 / factor, mode="bilinear", antialias=True)
    soft = F.interpolate(small, images.shape[2:], mode="bicubic")
    images = torch.where(chance(0.35, images), soft, images)
    return (images + torch.randn_like(images) * uniform(0, 0.03, images)).clamp(0, 1)


def batches(
    pictures: dict[str, list[Picture]], options: TrainOptions, *, labelled: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches: images `(n, 3, row, col)` in [0, 1] and class ids `(n, row, col)`."""
    rng = np.random.default_rng(options.seed)
    names = [
        name
        for name, group in pictures.items()
        if not labelled or any(bool(each.levels[-1][4].any()) for each in group)
    ]
    shares = np.array([WEIGHTS[name] for name in names])
    alike = max(options.batch // 16, 1)
    while True:
        drawn = []
        for name in rng.choice(names, options.batch // alike, p=shares / shares.sum()):
            group = pictures[name]
            drawn.append(draw(group[rng.integers(len(group))], alike, options.tile, rng))
        windows = torch.cat(drawn)
        target = (windows[:, 3] > 0.5).to(torch.uint8)
        target[windows[:, 4] < 0.99] = IGNORE
        yield augment(windows[:, :3]), target


def train(
    path: Path, folder: Path, *, init: str, teacher: str | None, minutes: float, options: Any
) -> None:
    """Train for some minutes, writing the averaged weights each minute."""
    device = options.device
    model = resolve_model(init)
    network = model.network.to(device).to(memory_format=torch.channels_last)
    taught_by = None
    if teacher is not None:
        taught_by = resolve_model(teacher).network.to(device).requires_grad_(False).eval()
        taught_by = taught_by.to(memory_format=torch.channels_last)
    hints = FeatureDistillation(network, taught_by).to(device) if taught_by is not None else None
    state = State.start(network, hints, options)
    pictures = unpack(path, device)
    mean, std = (
        torch.tensor(each, device=device)[:, None, None]
        for each in (model.card.mean, model.card.std)
    )
    folder.mkdir(exist_ok=True)
    out = folder / f"{model.card.architecture}.safetensors"
    began = saved = time.monotonic()
    for images, target in batches(pictures, options, labelled=teacher is None):
        done = (time.monotonic() - began) / 60 / minutes
        rate = options.learning_rate * min((state.step + 1) / options.warmup, 1)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * min(done, 1))) / 2
        pixels = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        network.train()
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            logits = network(pixels)
            if taught_by is not None and hints is not None:
                with torch.no_grad():
                    said = taught_by(pixels)
                seen = hints()
        loss = cross_entropy(logits.float(), target) + dice(logits.float(), target)
        if taught_by is not None:
            loss = loss + 2 * distillation(logits.float(), said.float()) + seen
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        state.update_average(options.ema)
        if time.monotonic() - saved > SAVE_EVERY or done >= 1:
            saved = time.monotonic()
            average = copy.deepcopy(state.average).to("cpu")
            average = average.to(memory_format=torch.contiguous_format)
            Model(average, model.card).save(out, half=True)
            print(
                f"{done * minutes:.1f} min, {state.step * options.batch} windows, "
                f"loss {float(loss.detach()):.4f}",
                flush=True,
            )
        if done >= 1:
            return


def main() -> None:
    """Run the command that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["pack", "train"])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", default="buildings")
    parser.add_argument("--teacher")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.command == "pack":
        pack(arguments.source, arguments.out)
        return
    options = TrainOptions(
        batch=arguments.batch,
        tile=arguments.tile,
        learning_rate=arguments.learning_rate,
        warmup=100,
        ema=arguments.ema,
        seed=arguments.seed,
        device=arguments.device,
    )
    train(
        arguments.source,
        arguments.out,
        init=arguments.init,
        teacher=arguments.teacher,
        minutes=arguments.minutes,
        options=options,
    )


if __name__ == "__main__":
    main()
