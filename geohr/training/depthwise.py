"""Depthwise convolutions of a training pass on a CPU, computed in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ExactDepthwise(TorchFunctionMode):
    """Within this context, depthwise convolutions leave bfloat16 for float32, and come back.

    On CPUs, oneDNN has no fast gradient of a depthwise convolution in bfloat16: it takes three to
    five times as long as the one in float32, and most of the time of a step of an EfficientNet or a
    MobileNet.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, a depthwise convolution outside of autocast."""
        named = dict(kwargs or {})
        if func is not torch.conv2d or not is_depthwise(args, named):
            return func(*args, **named)
        with torch.autocast("cpu", enabled=False):
            exact: list[Any] = [each.float() if isinstance(each, Tensor) else each for each in args]
            return func(*exact, **named).to(torch.get_autocast_dtype("cpu"))


def is_depthwise(args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether arguments of `torch.conv2d` give each channel of the input a kernel of its own."""
    groups: int = named.get("groups", args[6] if len(args) > 6 else 1)
    channels: int = args[0].shape[1]
    return groups == channels > 1
