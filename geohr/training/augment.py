"""Augmentations of training windows: light, lens and file.

Every function takes a random generator and an image `(band, row, col)`, float32 in [0, 1], and
returns a new image of the same shape. Values may leave [0, 1]; `augment` clips them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from geohr.encoding import Floats32
from geohr.errors import UsageError

Augmentation = Callable[[np.random.Generator, Floats32], Floats32]

RGB = 3
# The weights of red, green and blue in brightness (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114], np.float32)


def colour(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Change gain and offset, of the image and of each band, and saturation."""
    bands = len(image)
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.8, 1.25, (bands, 1, 1))
    offset = rng.uniform(-0.1, 0.1) + rng.uniform(-0.08, 0.08, (bands, 1, 1))
    middle = image.mean(dtype=np.float64)
    # About the mean, so that a gain changes contrast and leaves brightness to the offset.
    image = (image - middle) * np.float32(gain) + np.float32(middle + offset)
    brightness = image.mean(axis=0, keepdims=True)
    saturated: Floats32 = brightness + (image - brightness) * np.float32(rng.uniform(0.0, 1.6))
    return saturated


def gamma(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Raise the values to a power between about half and two."""
    power = np.float32(2 ** rng.uniform(-0.8, 0.8))
    curved: Floats32 = np.clip(image, 0, 1, dtype=np.float32) ** power
    return curved


def grey(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Replace colours by brightness, or shuffle the bands."""
    # Other than red, green, blue has no brightness that all bands could show.
    if len(image) != RGB or rng.random() < 0.5:
        return image[rng.permutation(len(image))]
    return np.repeat(np.tensordot(GREY, image, axes=1)[None], RGB, axis=0)


def haze(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Add a veil of light whose thickness varies over the image."""
    thickness = np.float32(rng.uniform(0.1, 0.5)) * smooth_field(rng, image.shape[1:])
    light = np.float32(rng.uniform(0.7, 1.0, (len(image), 1, 1)))
    veiled: Floats32 = image * (1 - thickness) + light * thickness
    return veiled


def shadow(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Darken a half plane or a stripe, with a soft edge."""
    rows, cols = np.ogrid[: image.shape[1], : image.shape[2]]
    angle, side = rng.uniform(0, 2 * np.pi), max(image.shape[1:])
    across = (
        (rows - rng.uniform(0, image.shape[1])) * np.cos(angle)
        + (cols - rng.uniform(0, image.shape[2])) * np.sin(angle)
    ).astype(np.float32)
    width = np.float32(rng.uniform(0.1, 1.0) * side)
    inside = np.clip((width / 2 - np.abs(across - width / 2)) / 2, 0, 1, dtype=np.float32)
    darkened: Floats32 = image * (1 - inside * np.float32(rng.uniform(0.3, 0.65)))
    return darkened


def blur(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Blur the image, or sharpen it as mosaics often are."""
    sigma = rng.uniform(0.4, 1.6)
    soft: Floats32 = ndimage.gaussian_filter(image, (0, sigma, sigma))
    if rng.random() < 0.3:
        return image + (image - soft) * np.float32(rng.uniform(0.3, 1.0))
    return soft


def coarse(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Make pixels up to four times coarser and enlarge them, as coarse scenes are when read."""
    # Up to as much as a scene is enlarged when it is read; see `scene.prepare.ENLARGED_MAX`.
    factor = float(np.exp(rng.uniform(np.log(1.3), np.log(4.0))))
    small = tuple(max(round(side / factor), 1) for side in image.shape[1:])
    pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
    # Averaged over the larger pixels, as a sensor does, and then enlarged.
    seen = F.interpolate(pixels, small, mode="bilinear", antialias=True)
    enlarged = F.interpolate(seen, image.shape[1:], mode="bicubic")
    again: Floats32 = enlarged[0].numpy()
    return again


def noise(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Add independent Gaussian noise."""
    strength = np.float32(rng.uniform(0.005, 0.04))
    return image + strength * rng.standard_normal(image.shape, dtype=np.float32)


def jpeg(rng: np.random.Generator, image: Floats32) -> Floats32:
    """Compress as JPEG and decompress; images without three bands are compressed band by band."""
    # From web maps to orthophotos.
    quality = int(rng.integers(25, 90))
    values = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    if len(values) == RGB:
        return through_jpeg(values.transpose(1, 2, 0), quality).transpose(2, 0, 1)
    return np.stack([through_jpeg(band, quality) for band in values])


def through_jpeg(values: NDArray[np.uint8], quality: int) -> Floats32:
    """Compress an image `(row, col)` or `(row, col, 3)` as JPEG; the result is in [0, 1]."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        unpacked: Floats32 = np.asarray(decoded, np.float32) / np.float32(255)
    return unpacked


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats32:
    """A random `(row, col)` field in [0, 1] that varies slowly."""
    coarse = rng.random((4, 4), dtype=np.float32)
    factors = (shape[0] / 4, shape[1] / 4)
    field: Floats32 = ndimage.zoom(coarse, factors, order=1, grid_mode=True, mode="nearest")
    return field


# The share of windows that each augmentation changes, and its function, in order.
AUGMENTATIONS: dict[str, tuple[float, Augmentation]] = {
    "colour": (0.8, colour),
    "gamma": (0.3, gamma),
    "grey": (0.25, grey),
    "haze": (0.15, haze),
    "shadow": (0.2, shadow),
    "blur": (0.3, blur),
    "coarse": (0.25, coarse),
    "noise": (0.2, noise),
    "jpeg": (0.3, jpeg),
}


# Names that are not functions here: `windows.paste`, and `none` for no augmentation.
OTHERS = ("paste", "none")


def check_augmentations(names: Sequence[str]) -> None:
    """Refuse a name that is no augmentation.

    Raises:
        UsageError: With the known ones.
    """
    for name in names:
        if name not in AUGMENTATIONS and name not in OTHERS:
            raise UsageError(
                f"augment must name some of {', '.join(AUGMENTATIONS)}, paste, or none; got "
                f"{name!r}"
            )


def augment(rng: np.random.Generator, image: Floats32, names: Sequence[str]) -> Floats32:
    """Apply a random choice of the named augmentations to `(band, row, col)` in [0, 1].

    Names that are no keys of `AUGMENTATIONS` are ignored; the result is clipped to [0, 1].
    """
    for name, (chance, change) in AUGMENTATIONS.items():
        if name in names and rng.random() < chance:
            image = change(rng, image)
    clipped: Floats32 = np.clip(image, 0, 1, dtype=np.float32)
    return clipped
