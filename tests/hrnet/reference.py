"""HRNet written a second time, as functions of the released parameter names: the oracle.

Nothing here imports geohr. Weights are made with timm, which keeps the released trunk names.
"""

from __future__ import annotations

from collections.abc import Mapping

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Mapping[str, Tensor]

TIMM_NAMES = {"w18_small_v1": "hrnet_w18_small", "w18_small_v2": "hrnet_w18_small_v2"}
FULL_DEPTH = ("w18", "w30", "w32", "w40", "w44", "w48", "w64")


def timm_name(variant: str) -> str:
    """timm's name of a variant."""
    return TIMM_NAMES.get(variant, f"hrnet_{variant}")


def settle(network: nn.Module, pixels: Tensor) -> None:
    """Give batch norms the statistics of one batch, so that random weights keep activations near 1.

    Shifts and scales are drawn too, so that a norm that is left out or used twice shows.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.3, 0.9)
        nn.init.normal_(norm.bias, 0.0, 0.2)
    with torch.no_grad():
        network.train()(pixels)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()


def timm_trunk(variant: str, pixels: Tensor) -> nn.Module:
    """timm's network that gives the raw streams, with random but settled weights."""
    network: nn.Module = timm.create_model(
        timm_name(variant), features_only=True, feature_location="", in_chans=pixels.shape[1]
    )
    settle(network, pixels)
    return network


def conv_bn(
    weights: Weights, x: Tensor, conv: str, norm: str, *, stride: int = 1, relu: bool = True
) -> Tensor:
    """Convolution of the padding that keeps ceil(size / stride), batch norm, perhaps ReLU."""
    kernel = weights[f"{conv}.weight"]
    x = F.conv2d(x, kernel, weights.get(f"{conv}.bias"), stride, kernel.shape[-1] // 2)
    x = F.batch_norm(
        x,
        weights[f"{norm}.running_mean"],
        weights[f"{norm}.running_var"],
        weights[f"{norm}.weight"],
        weights[f"{norm}.bias"],
    )
    return x.relu() if relu else x


def block(weights: Weights, x: Tensor, name: str) -> Tensor:
    """A basic or bottleneck residual block."""
    last = 3 if f"{name}.conv3.weight" in weights else 2
    out = x
    for layer in range(1, last + 1):
        conv, norm = f"{name}.conv{layer}", f"{name}.bn{layer}"
        out = conv_bn(weights, out, conv, norm, relu=layer < last)
    if f"{name}.downsample.0.weight" in weights:
        x = conv_bn(weights, x, f"{name}.downsample.0", f"{name}.downsample.1", relu=False)
    return (out + x).relu()


def count(weights: Weights, prefix: str) -> int:
    """How many numbered children a prefix has."""
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})


def resize(x: Tensor, size: torch.Size, align_corners: bool | None) -> Tensor:
    """Bilinear with the alignment given, nearest where there is none."""
    if align_corners is None:
        return F.interpolate(x, size, mode="nearest")
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def fuse(
    weights: Weights, streams: list[Tensor], name: str, align_corners: bool | None
) -> list[Tensor]:
    """The fusion at the end of a module."""
    outputs = 1 + max(
        int(key.split("fuse_layers.")[1].split(".")[0])
        for key in weights
        if key.startswith(f"{name}.fuse_layers.")
    )
    fused = []
    for i in range(outputs):
        total = torch.zeros(())
        for j, stream in enumerate(streams):
            path = f"{name}.fuse_layers.{i}.{j}"
            part = stream
            if j > i:
                part = conv_bn(weights, stream, f"{path}.0", f"{path}.1", relu=False)
                part = resize(part, streams[i].shape[-2:], align_corners)
            for k in range(i - j):
                conv, norm = f"{path}.{k}.0", f"{path}.{k}.1"
                part = conv_bn(weights, part, conv, norm, stride=2, relu=k < i - j - 1)
            total = total + part
        fused.append(total.relu())
    return fused


def trunk(weights: Weights, pixels: Tensor, align_corners: bool | None) -> list[Tensor]:
    """The streams; ``align_corners`` None means nearest fusion."""
    x = conv_bn(weights, pixels, "conv1", "bn1", stride=2)
    x = conv_bn(weights, x, "conv2", "bn2", stride=2)
    for index in range(count(weights, "layer1.")):
        x = block(weights, x, f"layer1.{index}")
    first = conv_bn(weights, x, "transition1.0.0", "transition1.0.1")
    second = conv_bn(weights, x, "transition1.1.0.0", "transition1.1.0.1", stride=2)
    streams = [first, second]
    for stage in (2, 3, 4):
        if stage > 2:
            new = f"transition{stage - 1}.{stage - 1}.0"
            streams.append(conv_bn(weights, streams[-1], f"{new}.0", f"{new}.1", stride=2))
        for module in range(count(weights, f"stage{stage}.")):
            name = f"stage{stage}.{module}"
            for branch in range(stage):
                for index in range(count(weights, f"{name}.branches.{branch}.")):
                    streams[branch] = block(
                        weights, streams[branch], f"{name}.branches.{branch}.{index}"
                    )
            streams = fuse(weights, streams, name, align_corners)
    return streams


def joined(weights: Weights, pixels: Tensor, align_corners: bool) -> Tensor:
    """All streams at stride 4."""
    streams = trunk(weights, pixels, align_corners)
    size = streams[0].shape[-2:]
    return torch.cat([streams[0], *(resize(x, size, align_corners) for x in streams[1:])], 1)


def plain_conv(weights: Weights, x: Tensor, name: str) -> Tensor:
    """A 1x1 convolution with bias."""
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def segmentation(weights: Weights, pixels: Tensor, align_corners: bool) -> Tensor:
    """The official segmentation network, logits resized to the input."""
    x = conv_bn(weights, joined(weights, pixels, align_corners), "last_layer.0", "last_layer.1")
    return resize(plain_conv(weights, x, "last_layer.3"), pixels.shape[-2:], align_corners)


def ocr(weights: Weights, pixels: Tensor, align_corners: bool) -> Tensor:
    """The official OCR network, main logits resized to the input."""
    features = joined(weights, pixels, align_corners)
    aux = plain_conv(weights, conv_bn(weights, features, "aux_head.0", "aux_head.1"), "aux_head.3")
    x = conv_bn(weights, features, "conv3x3_ocr.0", "conv3x3_ocr.1")
    share = aux.flatten(2).softmax(-1)
    regions = torch.einsum("nkp,ncp->nck", share, x.flatten(2)).unsqueeze(-1)
    head = "ocr_distri_head.object_context_block"

    def twice(y: Tensor, name: str) -> Tensor:
        y = conv_bn(weights, y, f"{head}.{name}.0", f"{head}.{name}.1.0")
        return conv_bn(weights, y, f"{head}.{name}.2", f"{head}.{name}.3.0")

    query, key = twice(x, "f_pixel"), twice(regions, "f_object").squeeze(-1)
    value = conv_bn(weights, regions, f"{head}.f_down.0", f"{head}.f_down.1.0").squeeze(-1)
    affinity = torch.einsum("nchw,nck->nkhw", query, key) / key.shape[1] ** 0.5
    context = torch.einsum("nkhw,nck->nchw", affinity.softmax(1), value)
    context = conv_bn(weights, context, f"{head}.f_up.0", f"{head}.f_up.1.0")
    merge = "ocr_distri_head.conv_bn_dropout"
    y = conv_bn(weights, torch.cat([context, x], 1), f"{merge}.0", f"{merge}.1.0")
    return resize(plain_conv(weights, y, "cls_head"), pixels.shape[-2:], align_corners)


def pose(weights: Weights, pixels: Tensor) -> Tensor:
    """The official pose network."""
    return plain_conv(weights, trunk(weights, pixels, None)[0], "final_layer")


def _norm(name: str, channels: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels) * 0.1,
        f"{name}.running_mean": torch.randn(channels) * 0.1,
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def _conv(name: str, out: int, into: int, *, kernel: int = 1, bias: bool) -> dict[str, Tensor]:
    scale = (into * kernel**2) ** -0.5
    layer = {f"{name}.weight": torch.randn(out, into, kernel, kernel) * scale}
    return layer | ({f"{name}.bias": torch.randn(out) * 0.1} if bias else {})


def segmentation_head(total: int, classes: int, name: str = "last_layer") -> dict[str, Tensor]:
    """Random parameters of the official segmentation head (``aux_head`` in the OCR network)."""
    return {
        **_conv(f"{name}.0", total, total, bias=True),
        **_norm(f"{name}.1", total),
        **_conv(f"{name}.3", classes, total, bias=True),
    }


def ocr_head(total: int, classes: int, channels: int, keys: int) -> dict[str, Tensor]:
    """Random parameters of the official OCR head, nested batch norms included."""
    head = "ocr_distri_head.object_context_block"
    parts = {
        **segmentation_head(total, classes, "aux_head"),
        **_conv("conv3x3_ocr.0", channels, total, kernel=3, bias=True),
        **_norm("conv3x3_ocr.1", channels),
        **_conv("ocr_distri_head.conv_bn_dropout.0", channels, 2 * channels, bias=False),
        **_norm("ocr_distri_head.conv_bn_dropout.1.0", channels),
        **_conv("cls_head", classes, channels, bias=True),
    }
    for name, layers in (
        ("f_pixel", ((keys, channels), (keys, keys))),
        ("f_object", ((keys, channels), (keys, keys))),
        ("f_down", ((keys, channels),)),
        ("f_up", ((channels, keys),)),
    ):
        for index, (out, into) in enumerate(layers):
            parts |= _conv(f"{head}.{name}.{2 * index}", out, into, bias=False)
            parts |= _norm(f"{head}.{name}.{2 * index + 1}.0", out)
    return parts
