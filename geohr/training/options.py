"""The options of `train`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from geohr.errors import UsageError
from geohr.options import COARSEST_STRIDE, Options, ViewOptions, listed, opt

# Entries of a validation's record that are no score of a place.
NOT_SCORES = ("step", "score", "loss", "learning_rate", "seconds")


@dataclass(frozen=True)
class NetworkOptions(Options):
    """The options that choose the network and what it starts from."""

    architecture: str | None = opt(
        None, "Segmentation network; by default that of --init, else hrnetv2."
    )
    encoder: str | None = opt(
        None, "Encoder; by default that of --init, else hrnetv2_w18_small_v2."
    )
    stem_stride: Literal[1, 2, 4, 8] | None = opt(
        None,
        "Stride of an HRNet's finest stream: 2 for small objects, 8 for speed; by default that of "
        "--init, else 4.",
    )
    encoder_weights: str | None = opt(
        None,
        "Published weights that the encoder starts from: imagenet, ssld, a file, or a repository "
        "on the Hugging Face hub.",
        metavar="TAG|FILE|hf://OWNER/NAME",
    )
    init: str | None = opt(
        None, "Model to start from: a bundled name or a file.", metavar="NAME|FILE"
    )
    teacher: str | None = opt(None, "Teacher model for distillation.", metavar="NAME|FILE")
    teacher_weight: float = opt(
        1.0, "Weight of the teacher's probabilities in the loss; the labels weigh 1.", low=0
    )
    feature_weight: float = opt(
        0.0, "Weight of the teacher's features at strides 4 to 32 in the loss.", low=0
    )


@dataclass(frozen=True)
class WindowOptions(Options):
    """The options of drawing windows from scenes."""

    tile: int = opt(256, "Side of a training window in pixels.", low=32, high=2048)
    gsd_range: tuple[float, ...] | None = opt(
        None,
        "Range of ground sampling distances to train at, in metres; by default around the "
        "scenes' own.",
        metavar="MIN,MAX",
    )
    objects: float = opt(
        0.7, "Share of windows that contain an object, where a place has any.", low=0, high=1
    )
    augment: tuple[str, ...] = opt(
        ("colour", "gamma", "grey", "haze", "shadow", "blur", "coarse", "noise", "jpeg"),
        "Augmentations besides flips, rotation and scaling; paste copies objects from other "
        "windows, none turns all of these off.",
        metavar="NAMES",
    )
    seed: int = opt(0, "Random seed.", low=0)


@dataclass(frozen=True)
class TrainOptions(NetworkOptions, WindowOptions):
    """The options of `train`: everything but the scenes and the output."""

    losses: tuple[str, ...] = opt(
        ("ce", "dice"), "Losses to add up: ce, dice, focal, lovasz, boundary.", metavar="NAMES"
    )
    class_weights: tuple[float, ...] | None = opt(
        None,
        "Weights of the classes in the losses, the background first; by default all equal.",
        metavar="W,W,...",
    )
    steps: int = opt(10_000, "Optimiser steps.", low=1)
    batch: int = opt(8, "Batch size in windows, over all processes.", low=1, high=1024)
    processes: int = opt(
        1,
        "Training processes, one per GPU; on a CPU they share its cores.",
        low=1,
        high=64,
    )
    accumulate: int = opt(1, "Batches whose gradients are accumulated for one step.", low=1)
    learning_rate: float = opt(1e-3, "Peak learning rate.", low=0)
    optimizer: Literal["adamw", "sgd"] = opt(
        "adamw", "Optimiser: adamw, or sgd with a Nesterov momentum of 0.9."
    )
    weight_decay: float = opt(0.01, "Weight decay of the convolutions.", low=0)
    warmup: int = opt(200, "Warm-up steps, over which the learning rate rises.", low=0)
    schedule: Literal["cosine", "poly", "constant"] = opt(
        "cosine", "How the learning rate falls after warm-up."
    )
    ema: float = opt(
        0.999,
        "Decay of the moving average of the weights; the average is the model that is kept.",
        low=0,
        high=0.99999,
    )
    precision: Literal["auto", "float32", "bfloat16"] = opt(
        "auto", "Number format; auto is bfloat16 on CUDA devices that support it, else float32."
    )
    workers: int = opt(
        0, "Data-loading processes per training process; 0 loads in the training process.", low=0
    )
    validate_every: int = opt(500, "Steps between validations.", low=1)
    patience: int = opt(
        0, "Stop after this many validations without a better score; 0 never stops early.", low=0
    )
    checkpoint_every: int = opt(250, "Steps between checkpoints.", low=1)
    device: str = opt("auto", "Device to train on: auto, cpu, cuda, cuda:1, mps.")

    def __post_init__(self) -> None:
        """Refuse a range that is no interval, and batches that batch normalisation cannot use.

        Raises:
            UsageError: When a value, or a combination of values, is not possible.
        """
        super().__post_init__()
        span = self.gsd_range
        if span is not None and (len(span) != 2 or not 0 < span[0] <= span[1]):
            raise UsageError(
                "gsd_range must be two lengths MIN,MAX in metres with 0 < MIN <= MAX; "
                f"got {listed(span)}"
            )
        if self.batch % self.processes:
            raise UsageError(
                f"batch must be shared out evenly; got {self.batch} windows for {self.processes} "
                "processes"
            )
        if self.batch == self.processes and self.tile <= COARSEST_STRIDE:
            raise UsageError(
                f"batch 1 with tile {self.tile} leaves batch normalisation one value; raise one of "
                "them"
            )
        if not self.losses:
            raise UsageError("losses must name at least one loss; got none")
        weights = self.class_weights
        if weights is not None and not (min(weights, default=-1) >= 0 < sum(weights) < math.inf):
            raise UsageError(
                f"class_weights must be numbers from 0 that are not all 0; got {listed(weights)}"
            )


@dataclass(frozen=True)
class AdaptOptions(ViewOptions):
    """The options of `adapt`: how the scene is read, and how a model is fitted to it."""

    areas: str | None = opt(
        None,
        "Completely labelled ground: polygons; by default the layer labelled of the labels' file.",
        metavar="FILE",
    )
    minutes: float = opt(10.0, "Minutes that fitting may take.", low=0.1, high=10_000)
    steps: int = opt(
        150,
        "Optimiser steps of each fit; fewer where the minutes end before.",
        low=1,
        high=100_000,
    )
    tile: int = opt(256, "Side of a training window in pixels.", low=32, high=2048)
    batch: int = opt(4, "Batch size in windows.", low=1, high=256)
    learning_rate: float = opt(1e-3, "Peak learning rate.", low=0)
    precision: Literal["float32", "bfloat16"] = opt(
        "float32",
        "Number format of the fit; bfloat16 is faster on processors with instructions for it.",
    )
    guide: float = opt(
        0.5, "Weight of the former model's probabilities where nothing is labelled.", low=0
    )
    certainty: float = opt(
        0.95,
        "Confidence level: fitted weights are refused where all of the interval of their gain lies "
        "below 0; with 0, any loss is enough.",
        low=0,
        high=0.999,
    )
    seed: int = opt(0, "Random seed.", low=0)
