"""The options of `models import`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geohr.options import THRESHOLD_MIN, Options, opt


@dataclass(frozen=True)
class ImportOptions(Options):
    """What a foreign model file cannot say of itself."""

    architecture: str | None = opt(
        None,
        "Architecture of a checkpoint, as segmentation-models-pytorch calls it: unet, fpn, ...",
    )
    encoder: str | None = opt(None, "Encoder of a checkpoint, such as resnet34 or tu-hrnet_w18.")
    classes: tuple[str, ...] | None = opt(
        None,
        "Classes in the order of the channels; background is named first where it has one.",
        metavar="NAMES",
    )
    bands: tuple[str, ...] | None = opt(
        None, "Bands in the order expected; by default red,green,blue.", metavar="NAMES"
    )
    range: tuple[float, ...] | None = opt(
        None, "Scene values that span 0 to 1; by default 0,255.", metavar="MIN,MAX"
    )
    mean: tuple[float, ...] | None = opt(
        None, "Mean by band, of values in 0 to 1.", metavar="M,M,..."
    )
    std: tuple[float, ...] | None = opt(
        None, "Standard deviation by band, of values in 0 to 1.", metavar="S,S,..."
    )
    gsd: tuple[float, ...] | None = opt(
        None, "Ground sampling distances that suit the model, in metres.", metavar="MIN,MAX"
    )
    output: Literal["logits", "multilabel", "scores", "classes"] | None = opt(
        None,
        "What the network gives: logits, logits of classes that may overlap, scores from 0 to 1, "
        "or class ids; by default what a test window shows.",
    )
    threshold: float | None = opt(
        None,
        "Probability from which a pixel belongs to a class; by default 0.5 for one class, and the "
        "likeliest of several.",
        low=THRESHOLD_MIN,
        high=1,
    )
    tile: int | None = opt(None, "Window side in pixels; by default 512.", low=32, high=4096)
    licence: str | None = opt(None, "Licence of the weights.", metavar="NAME")
    attribution: str | None = opt(None, "Words that the licence asks for.", metavar="TEXT")
