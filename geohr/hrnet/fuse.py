"""The inference form of a network: folded batch norms, channels-last weights, a cheaper head."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geohr.hrnet.heads import SplitV2Decoder, V2Decoder

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution registered just before it, in place.

    All modules of this package register a convolution and its batch norm next to each other.
    """
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())


def split_heads(network: nn.Module) -> None:
    """Put the split head in place of every V2 head whose batch norm is folded.

    A norm of another kind, such as GroupNorm, needs the whole of the head's sum and keeps it.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, V2Decoder) and isinstance(child.project[1], nn.Identity):
                mix = child.project[0]
                assert isinstance(mix, nn.Conv2d)
                split = SplitV2Decoder(mix, child.channels, align_corners=child.align_corners)
                setattr(parent, name, split)


def fuse(network: Network) -> Network:
    """Make the inference form of any HRNet network; the network itself stays as it is.

    Batch norms are folded into their convolutions, weights are laid out channels-last, and a V2
    head mixes the coarsest streams before upsampling them. The result equals the original in
    evaluation mode up to float rounding. It still exports and traces, but is not for training,
    and its parameters no longer have the names that checkpoints use.

    Args:
        network: Any network of this package; only batch norms that follow a convolution change.

    Returns:
        A copy in evaluation mode, without gradients.
    """
    fused = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(fused)
    split_heads(fused)
    return fused.eval().requires_grad_(False).to(memory_format=torch.channels_last)
