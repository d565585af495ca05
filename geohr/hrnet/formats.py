"""How published HRNet checkpoints name their parameters, and what they were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from geohr.errors import InputError
from geohr.hrnet.backbone import HRNet
from geohr.hrnet.classification import HRNetClassifier
from geohr.hrnet.encoder import ENCODER_PREFIX
from geohr.hrnet.keypoints import HRNetHeatmaps
from geohr.hrnet.segmentation import HRNetOCR, HRNetV2
from geohr.hrnet.variants import VARIANTS, Variant

Weights = Mapping[str, Tensor]

TRUNK = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition", "stage")
"""How every trunk parameter starts, in every publisher's checkpoints."""

_SEGMENTATION_NAMES = (
    ("last_layer.0.", "decoder.project.0."),
    ("last_layer.1.", "decoder.project.1."),
    ("last_layer.3.", "segmentation_head."),
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
)

_MMSEG_NAMES = (
    ("backbone.", "encoder."),
    ("decode_head.convs.0.conv.", "decoder.project.0."),
    ("decode_head.convs.0.bn.", "decoder.project.1."),
    ("decode_head.conv_seg.", "segmentation_head."),
)

_MMSEG_OCR = "decode_head.1."
_MMSEG_ATTENTION = f"{_MMSEG_OCR}object_context_block."

_MMSEG_OCR_NAMES = (
    ("backbone.", "encoder."),
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


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of published checkpoint."""

    name: str
    marks: tuple[str, ...]
    """Prefixes that must all occur; formats are tried in order, the first that fits is meant."""
    fusion: str
    """Upsampling inside the trunk that the weights were trained with."""
    align_corners: bool
    """Alignment that the weights were trained with."""
    network: str
    """Which network it is for: "v2", "ocr", "classification", "heatmaps" or "trunk"."""
    names: tuple[tuple[str, str], ...] = ()
    """Prefixes as published, and ours for them."""
    zero_biases: tuple[str, ...] = ()
    """Convolution biases that the published network does without, to be zero in ours."""


FORMATS: tuple[Format, ...] = (
    Format(
        "mmsegmentation OCR",
        ("backbone.stage4.", _MMSEG_OCR),
        "bilinear",
        False,
        "ocr",
        _MMSEG_OCR_NAMES,
        ("decoder.aux_head.0.bias", "decoder.pixels.0.bias"),
    ),
    Format(
        "mmsegmentation",
        ("backbone.stage4.", "decode_head.convs."),
        "bilinear",
        False,
        "v2",
        _MMSEG_NAMES,
        ("decoder.project.0.bias",),
    ),
    Format(
        "official OCR",
        ("stage4.", "aux_head.", "ocr_distri_head."),
        "bilinear",
        True,
        "ocr",
        (*_OCR_NAMES, *((prefix, f"encoder.{prefix}") for prefix in TRUNK)),
    ),
    Format(
        "official segmentation",
        ("stage4.", "last_layer."),
        "bilinear",
        False,
        "v2",
        (*_SEGMENTATION_NAMES, *((prefix, f"encoder.{prefix}") for prefix in TRUNK)),
    ),
    Format("classification", ("stage4.", "classifier."), "nearest", False, "classification"),
    Format("official pose", ("stage4.", "final_layer.weight"), "nearest", False, "heatmaps"),
    Format("trunk", ("stage4.",), "nearest", False, "trunk"),
)
"""Known formats, the more specific before the more general."""


def find_format(weights: Weights) -> Format:
    """Tell which kind of checkpoint has these parameter names.

    Raises:
        InputError: None that is known.
    """
    if any(key.startswith("encoder.stage4.") for key in weights):
        raise InputError(
            "this is a model saved by save_pretrained, not a published checkpoint: "
            "load it with segmentation_models_pytorch.from_pretrained(folder)"
        )
    for candidate in FORMATS:
        if all(any(key.startswith(mark) for key in weights) for mark in candidate.marks):
            return candidate
    some = ", ".join(list(weights)[:3]) or "nothing"
    known = ", ".join(candidate.name for candidate in FORMATS)
    raise InputError(f"no HRNet checkpoint that is known ({known}): it holds {some}, ...")


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


def trunk_weights(weights: Weights) -> dict[str, Tensor]:
    """The trunk parameters of any format, under the released names."""
    bare = {key.removeprefix("backbone."): value for key, value in weights.items()}
    return {key: value for key, value in bare.items() if key.startswith(TRUNK)}


def rename(weights: Weights, names: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, Tensor]]:
    """Bring published names to ours: our name to the published one and its tensor."""
    renamed: dict[str, tuple[str, Tensor]] = {}
    for key, value in weights.items():
        ours = next((new + key[len(old) :] for old, new in names if key.startswith(old)), key)
        renamed[ours] = (key, value)
    return renamed


def build_network(layout: Format, weights: Weights, *, align_corners: bool) -> nn.Module:
    """Build the network that a checkpoint's shapes ask for, with its fusion and alignment.

    Args:
        layout: The checkpoint's format.
        weights: Its parameters under our names.
        align_corners: The alignment to build with.

    Raises:
        InputError: No published variant, or not all of one.
    """
    prefix = "encoder." if layout.network in ("v2", "ocr") else ""
    trunk = {key.removeprefix(prefix): value for key, value in weights.items()}
    variant = find_variant(trunk).name
    bands = trunk["conv1.weight"].shape[1]
    encoder_name = ENCODER_PREFIX + variant
    network: nn.Module
    match layout.network:
        case "v2":
            network = HRNetV2(
                encoder_name,
                in_channels=bands,
                classes=len(weights["segmentation_head.weight"]),
                fusion=layout.fusion,
                align_corners=align_corners,
            )
        case "ocr":
            network = HRNetOCR(
                encoder_name,
                in_channels=bands,
                classes=len(weights["segmentation_head.weight"]),
                fusion=layout.fusion,
                align_corners=align_corners,
                ocr_channels=len(weights["decoder.pixels.0.weight"]),
                key_channels=len(weights["decoder.attention.query.0.weight"]),
            )
        case "classification":
            network = HRNetClassifier(
                variant,
                classes=len(weights["classifier.weight"]),
                in_channels=bands,
                fusion=layout.fusion,
                align_corners=align_corners,
                head_bias="downsamp_modules.0.0.bias" in weights,
            )
        case "heatmaps":
            network = HRNetHeatmaps(
                variant,
                keypoints=len(weights["final_layer.weight"]),
                in_channels=bands,
                fusion=layout.fusion,
                align_corners=align_corners,
            )
        case _:
            network = HRNet(
                variant, in_channels=bands, fusion=layout.fusion, align_corners=align_corners
            )
    return network
