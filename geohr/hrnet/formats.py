"""How published HRNet checkpoints name their parameters, and what they were trained with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from geohr.errors import InputError
from geohr.hrnet.backbone import HRNet
from geohr.hrnet.classification import HRNetClassifier
from geohr.hrnet.detection import LEVELS, HRNetV2p
from geohr.hrnet.encoder import ENCODER_PREFIX
from geohr.hrnet.keypoints import HRNetHeatmaps
from geohr.hrnet.segmentation import HRNetOCR, HRNetV1, HRNetV2
from geohr.hrnet.variants import VARIANTS, Variant

Weights = Mapping[str, Tensor]

TRUNK = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition", "stage")
"""The prefixes of trunk parameters in the checkpoints of all publishers."""

INNER_PREFIXES = (
    "encoder.model.",
    "backbone.hrnet.",
    "backbone.body.",
    "backbone.",
    "encoder.",
    "trunk.",
)
"""What networks call the part that holds the trunk; what stands before it wraps the whole network:
``module.``, ``model.``, ``net.``, ``_orig_mod.``, ``ema.`` and any other."""

_TO_ENCODER = tuple((prefix, f"encoder.{prefix}") for prefix in TRUNK)

_SEGMENTATION_NAMES = (
    ("last_layer.0.", "decoder.project.0."),
    ("last_layer.1.", "decoder.project.1."),
    ("last_layer.3.", "segmentation_head."),
    *_TO_ENCODER,
)

_ATTENTION = "ocr_distri_head.object_context_block."

_OCR_NAMES = (
    ("aux_head.", "decoder.aux_head."),
    ("conv3x3_ocr.", "decoder.pixels."),
    *(
        (f"{_ATTENTION}{theirs}.{layer}.", f"decoder.attention.{ours}.{index}.")
        for theirs, ours in (
            ("f_pixel", "query"),
            ("f_object", "key"),
            ("f_down", "value"),
            ("f_up", "out"),
        )
        for layer, index in (("0", 0), ("1.0", 1), ("2", 3), ("3.0", 4))
    ),
    ("ocr_distri_head.conv_bn_dropout.0.", "decoder.merge.0."),
    ("ocr_distri_head.conv_bn_dropout.1.0.", "decoder.merge.1."),
    ("cls_head.", "segmentation_head."),
    *_TO_ENCODER,
)

_MMSEG_NAMES = (
    *_TO_ENCODER,
    ("decode_head.convs.0.conv.", "decoder.project.0."),
    ("decode_head.convs.0.bn.", "decoder.project.1."),
    ("decode_head.conv_seg.", "segmentation_head."),
)

_MMSEG_OCR = "decode_head.1."
_MMSEG_ATTENTION = f"{_MMSEG_OCR}object_context_block."

_MMSEG_OCR_NAMES = (
    *_TO_ENCODER,
    ("decode_head.0.convs.0.conv.", "decoder.aux_head.0."),
    ("decode_head.0.convs.0.bn.", "decoder.aux_head.1."),
    ("decode_head.0.conv_seg.", "decoder.aux_head.3."),
    (f"{_MMSEG_OCR}bottleneck.conv.", "decoder.pixels.0."),
    (f"{_MMSEG_OCR}bottleneck.bn.", "decoder.pixels.1."),
    *(
        (f"{_MMSEG_ATTENTION}{name}_project.{step}.{layer}.", f"decoder.attention.{name}.{index}.")
        for name in ("query", "key")
        for step, layer, index in ((0, "conv", 0), (0, "bn", 1), (1, "conv", 3), (1, "bn", 4))
    ),
    *(
        (f"{_MMSEG_ATTENTION}{name}_project.{layer}.", f"decoder.attention.{name}.{index}.")
        for name in ("value", "out")
        for layer, index in (("conv", 0), ("bn", 1))
    ),
    (f"{_MMSEG_ATTENTION}bottleneck.conv.", "decoder.merge.0."),
    (f"{_MMSEG_ATTENTION}bottleneck.bn.", "decoder.merge.1."),
    (f"{_MMSEG_OCR}conv_seg.", "segmentation_head."),
)


_MMPRETRAIN_NECKS = ("neck.0.", "neck.")
"""Where mmpretrain's own recipes, whose necks are a list, and those of one neck keep it."""
_CLASSIFICATION_NAMES = (
    *(
        (f"{neck}{theirs}", ours)
        for neck in _MMPRETRAIN_NECKS
        for theirs, ours in (
            ("increase_layers.", "incre_modules."),
            *(
                (f"downsample_layers.{index}.{layer}.", f"downsamp_modules.{index}.{place}.")
                for index in range(3)
                for layer, place in (("conv", 0), ("bn", 1))
            ),
            ("final_layer.conv.", "final_layer.0."),
            ("final_layer.bn.", "final_layer.1."),
        )
    ),
    ("head.fc.", "classifier."),
)

_NECK = r"(?:backbone\.)?(?:neck\.)?"
_PYRAMID_NAMES = (
    (re.compile(_NECK + r"reduction_conv\.(?:conv\.|0\.)?(?=weight|bias)"), "reduction_conv."),
    (re.compile(_NECK + r"fpn_convs?\.(\d+)\.(?:conv\.)?"), r"fpn_conv.\1."),
    *((re.compile(re.escape(prefix)), f"trunk.{prefix}") for prefix in TRUNK),
)
"""Three codes name the pyramid in three ways: mmdetection, and both that were released."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of published checkpoints."""

    name: str
    marks: tuple[str, ...]
    """Prefixes that must all occur; formats are tried in order, the first that fits is meant."""
    fusion: str
    """Upsampling inside the trunk that the weights were trained with."""
    align_corners: bool
    """Alignment that the weights were trained with."""
    network: str
    """The network: "v1", "v2", "ocr", "v2p", "classification", "heatmaps" or "trunk"."""
    names: tuple[tuple[str | re.Pattern[str], str], ...] = ()
    """Prefixes as published, and ours for them."""
    zero_biases: tuple[str, ...] = ()
    """Convolution biases that the published network does without, to be zero in ours."""


FORMATS: tuple[Format, ...] = (
    Format("geohr OCR", ("decoder.attention.query.",), "bilinear", False, "ocr", _TO_ENCODER),
    Format(
        "geohr V2",
        ("decoder.project.", "segmentation_head.weight"),
        "bilinear",
        False,
        "v2",
        _TO_ENCODER,
    ),
    Format("geohr V1", ("segmentation_head.weight",), "bilinear", False, "v1", _TO_ENCODER),
    Format(
        "mmsegmentation OCR",
        (f"{_MMSEG_ATTENTION}query_project.", "decode_head.0.convs."),
        "bilinear",
        False,
        "ocr",
        _MMSEG_OCR_NAMES,
        ("decoder.aux_head.0.bias", "decoder.pixels.0.bias"),
    ),
    Format(
        "mmsegmentation",
        ("decode_head.convs.0.conv.", "decode_head.conv_seg."),
        "bilinear",
        False,
        "v2",
        _MMSEG_NAMES,
        ("decoder.project.0.bias",),
    ),
    # Its fusion is known even where its head is not.
    Format("mmsegmentation trunk", ("decode_head.",), "bilinear", False, "trunk"),
    Format("official OCR", ("aux_head.", "ocr_distri_head."), "bilinear", True, "ocr", _OCR_NAMES),
    Format(
        "official segmentation", ("last_layer.3.",), "bilinear", False, "v2", _SEGMENTATION_NAMES
    ),
    Format("HRFPN", ("reduction_conv.",), "nearest", False, "v2p", _PYRAMID_NAMES),
    Format("HRFPN", ("neck.reduction_conv.",), "nearest", False, "v2p", _PYRAMID_NAMES),
    Format("HRFPN", ("backbone.neck.reduction_conv.",), "nearest", False, "v2p", _PYRAMID_NAMES),
    *(
        Format(
            "mmpretrain",
            (f"{neck}increase_layers.", "head.fc."),
            "nearest",
            False,
            "classification",
            _CLASSIFICATION_NAMES,
        )
        for neck in _MMPRETRAIN_NECKS
    ),
    Format("classification", ("incre_modules.", "classifier."), "nearest", False, "classification"),
    Format("official pose", ("final_layer.weight",), "nearest", False, "heatmaps"),
    *(
        Format(
            "mmpose",
            (f"{head}.final_layer.weight",),
            "nearest",
            False,
            "heatmaps",
            ((f"{head}.final_layer.", "final_layer."),),
        )
        for head in ("keypoint_head", "head")
    ),
    Format("trunk", (), "nearest", False, "trunk"),
)
"""Known formats, the more specific before the more general."""


def bare(weights: Weights) -> dict[str, tuple[str, Tensor]]:
    """Take off what wraps a network and what its trunk is called.

    Args:
        weights: Tensors by published name. The trunk lies under any prefix P for which
            ``P + conv1.weight`` and ``P + stage4.`` exist.

    Returns:
        By bare name (``stage4.0...`` in the trunk, ``decode_head...`` beside it): the published
        name and its tensor.

    Raises:
        InputError: There is no HRNet in it.
    """
    staged = {key.split("stage4.", 1)[0] for key in weights if "stage4." in key}
    prefixes = [prefix for prefix in staged if f"{prefix}conv1.weight" in weights]
    if not prefixes:
        some = ", ".join(list(weights)[:3]) or "nothing"
        lacks = "conv1.weight is missing" if staged else "no name has stage4. in it"
        raise InputError(f"no whole HRNet checkpoint: {lacks}; it holds {some}, ...")
    # Where a file holds a network twice, with its average, the plain one has the shorter name.
    prefix = min(prefixes, key=lambda each: (len(each), each))
    wrapper = prefix
    for inner in INNER_PREFIXES:
        if prefix == inner or prefix.endswith(f".{inner}"):
            wrapper = prefix.removesuffix(inner)
            break
    found: dict[str, tuple[str, Tensor]] = {}
    for key, value in weights.items():
        start = prefix if key.startswith(prefix) else wrapper
        found.setdefault(key.removeprefix(start), (key, value))
    return found


def find_format(names: Mapping[str, object]) -> Format:
    """Tell which kind of checkpoint has these bare names."""
    decoder = any(key.startswith("decoder.") for key in names)
    for candidate in FORMATS:
        if candidate.network == "v1" and decoder:
            continue
        if all(any(key.startswith(mark) for key in names) for mark in candidate.marks):
            return candidate
    raise AssertionError("the last format has no marks")


def heads(names: Mapping[str, object]) -> str:
    """The parts beside the trunk, with how many tensors each has, for a person."""
    counts = Counter(key.split(".")[0] for key in names if not key.startswith(TRUNK))
    return ", ".join(f"{name} ({count} tensors)" for name, count in counts.most_common())


def find_variant(trunk: Weights) -> Variant:
    """Tell the variant by the shapes and names of trunk parameters.

    Raises:
        InputError: No published variant, or not all of one.
    """

    def count(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in trunk if key.startswith(prefix)})

    for key in ("conv1.weight", "transition1.0.0.weight", "layer1.0.conv1.weight"):
        if key not in trunk:
            raise InputError(f"no whole HRNet checkpoint: {key} is missing")
    found = (
        len(trunk["transition1.0.0.weight"]),
        count("layer1."),
        len(trunk["layer1.0.conv1.weight"]),
        (count("stage2."), count("stage3."), count("stage4.")),
        count("stage2.0.branches.0."),
    )
    for v in VARIANTS.values():
        if found == (v.width, v.stage1_blocks, v.stage1_planes, v.modules, v.blocks):
            return v
    raise InputError(
        f"no published HRNet variant has width {found[0]} with {found[1]} stage-1 blocks, "
        f"{found[3]} modules and {found[4]} blocks a module"
    )


def trunk_weights(names: Mapping[str, tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The trunk's parameters out of bare names, under the released names."""
    return {key: value for key, (_, value) in names.items() if key.startswith(TRUNK)}


def rename(
    names: Mapping[str, tuple[str, Tensor]], layout: Format
) -> dict[str, tuple[str, Tensor]]:
    """Bring bare names to those of our network; each keeps the published name and its tensor."""

    def ours(key: str) -> str:
        for old, new in layout.names:
            if isinstance(old, str):
                if key.startswith(old):
                    return new + key[len(old) :]
            elif found := old.match(key):
                return found.expand(new) + key[found.end() :]
        return key

    return {ours(key): entry for key, entry in names.items()}


def out_streams(trunk: Weights, variant: Variant) -> int:
    """The number of streams after the last module of a trunk: 1 in pose networks, else 4."""
    last = f"stage4.{variant.modules[-1] - 1}.fuse_layers."
    return len({key[len(last)] for key in trunk if key.startswith(last)})


def build_network(
    layout: Format, weights: Weights, *, fusion: str, align_corners: bool, stem_stride: int
) -> nn.Module:
    """Build the network that a checkpoint's shapes ask for.

    Args:
        layout: The checkpoint's format.
        weights: The parameters of the network, under our names.
        fusion: The fusion to build with.
        align_corners: The alignment to build with.
        stem_stride: Stride of the finest stream.

    Raises:
        InputError: No published variant, or not all of one.
    """
    prefix = {"v1": "encoder.", "v2": "encoder.", "ocr": "encoder.", "v2p": "trunk."}
    start = prefix.get(layout.network, "")
    trunk = {key[len(start) :]: value for key, value in weights.items() if key.startswith(start)}
    variant = find_variant(trunk)
    shared: dict[str, Any] = {
        "in_channels": trunk["conv1.weight"].shape[1],
        "fusion": fusion,
        "align_corners": align_corners,
        "stem_stride": stem_stride,
    }
    network: nn.Module
    match layout.network:
        case "v1" | "v2":
            kind = HRNetV1 if layout.network == "v1" else HRNetV2
            network = kind(
                ENCODER_PREFIX + variant.name,
                encoder_weights=None,
                classes=len(weights["segmentation_head.weight"]),
                **shared,
            )
        case "ocr":
            network = HRNetOCR(
                ENCODER_PREFIX + variant.name,
                encoder_weights=None,
                classes=len(weights["segmentation_head.weight"]),
                ocr_channels=len(weights["decoder.pixels.0.weight"]),
                key_channels=len(weights["decoder.attention.query.0.weight"]),
                **shared,
            )
        case "v2p":
            # Levels that share one convolution are not told apart from a pyramid of one level.
            convs = {key.split(".")[1] for key in weights if key.startswith("fpn_conv.")}
            network = HRNetV2p(
                variant.name,
                out_channels=len(weights["reduction_conv.weight"]),
                levels=LEVELS if len(convs) == 1 else len(convs),
                share_conv=len(convs) == 1,
                **shared,
            )
        case "classification":
            network = HRNetClassifier(
                variant.name,
                classes=len(weights["classifier.weight"]),
                head_bias="downsamp_modules.0.0.bias" in weights,
                **shared,
            )
        case "heatmaps":
            network = HRNetHeatmaps(
                variant.name, keypoints=len(weights["final_layer.weight"]), **shared
            )
        case _:
            network = HRNet(variant.name, streams=out_streams(trunk, variant), **shared)
    return network
