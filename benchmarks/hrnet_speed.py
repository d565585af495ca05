"""Speed of the fused HRNetV2 over plain eager, and over timm's trunk under the same head.

Run as ``python -m benchmarks.hrnet_speed``. Every round times all forms one after the other, so
that another load on the machine meets all alike; what is printed are medians over the rounds, of
seconds and of the ratio within a round. The last columns compare the multiply-adds that a form
gets done in a second with those of a large matrix product in the same run: what stands near 100%
cannot become much faster with the same arithmetic. With ``--cpu-time`` and one thread, processor
seconds are taken instead of the clock's, for a machine that others use too.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from statistics import median

import timm
import torch
from torch import Tensor, nn

from benchmarks.hrnet_tables import count_macs
from geohr.hrnet import HRNetV2
from geohr.hrnet.backbone import resize_bilinear
from geohr.hrnet.fuse import fold_batch_norms

VARIANTS = ("w18_small_v2", "w18", "w32", "w48")
TIMM_NAMES = {"w18_small_v1": "hrnet_w18_small", "w18_small_v2": "hrnet_w18_small_v2"}
CLASSES = 2
MATRIX = 2048


class TimmV2(nn.Module):
    """timm's trunk, with weights and head of one of our networks."""

    def __init__(self, network: HRNetV2, name: str) -> None:
        super().__init__()
        self.trunk = timm.create_model(name, features_only=True, feature_location="")
        self.trunk.load_state_dict(network.encoder.state_dict())
        self.decoder = copy.deepcopy(network.decoder)
        self.head = copy.deepcopy(network.segmentation_head)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, band, row, col) to logits of the same rows and columns."""
        logits = self.head(self.decoder(self.trunk(pixels)[1:]))
        return resize_bilinear(logits, pixels.shape[-2:], align_corners=False)


def settle(network: nn.Module) -> None:
    """Give batch norms plausible statistics, so that no activation overflows or is denormal."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    network.train()(torch.randn(2, 3, 128, 128))
    network.eval()


def with_whole_head(network: HRNetV2) -> nn.Module:
    """The fused form without the split of its head."""
    folded = copy.deepcopy(network).eval()
    fold_batch_norms(folded)
    whole: nn.Module = folded.to(memory_format=torch.channels_last)
    return whole


def rounds(
    forms: Sequence[Callable[[], object]], count: int, *, clock: Callable[[], float]
) -> list[list[float]]:
    """Seconds of every form in every round, after one round to warm up."""
    seconds: list[list[float]] = []
    for _ in range(count + 1):
        taken = []
        for form in forms:
            start = clock()
            form()
            taken.append(clock() - start)
        seconds.append(taken)
    return seconds[1:]


def bench(variant: str, *, size: int, count: int, clock: Callable[[], float]) -> None:
    """Time one variant and print its line."""
    torch.manual_seed(0)
    network = HRNetV2(f"hrnetv2_{variant}", encoder_weights=None, classes=CLASSES)
    settle(network)
    fused, whole = network.fuse(), with_whole_head(network)
    theirs = TimmV2(network, TIMM_NAMES.get(variant, f"hrnet_{variant}")).eval()
    pixels = torch.randn(1, 3, size, size)
    left, right = torch.randn(2, MATRIX, MATRIX)
    forms = (
        lambda: network(pixels),
        lambda: fused(pixels),
        lambda: whole(pixels),
        lambda: theirs(pixels),
        lambda: left @ right,
    )
    seconds = rounds(forms, count, clock=clock)
    plain, quick, _, timms, product = (median(column) for column in zip(*seconds, strict=True))
    with torch.device("meta"):
        macs = count_macs(
            HRNetV2(f"hrnetv2_{variant}", encoder_weights=None, classes=CLASSES), size, size
        )
    peak = MATRIX**3 / product
    over_plain = median(row[0] / row[1] for row in seconds)
    over_timm = median(row[3] / row[1] for row in seconds)
    over_whole = median(row[2] / row[1] for row in seconds)
    error = (fused(pixels) - network(pixels)).norm() / network(pixels).norm()
    print(f"{variant:<13}{plain:>8.3f}{timms:>8.3f}{quick:>8.3f}", end="")
    print(f"{over_plain:>11.2f}{over_timm:>10.2f}", end="")
    print(f"{over_whole:>12.2f}", end="")
    print(f"{macs / plain / peak:>8.0%}{macs / quick / peak:>8.0%}{error:>10.1e}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the input")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(f"1 x 3 x {options.size} x {options.size}, float32, {options.threads} threads")
    print(f"{'':<13}{'seconds':>24}{'fused form over':>33}{'matrix product':>16}")
    print(f"{'':<13}{'plain':>8}{'timm':>8}{'fused':>8}{'plain':>11}{'timm':>10}", end="")
    print(f"{'whole head':>12}{'plain':>8}{'fused':>8}{'error':>10}")
    for variant in options.variants:
        bench(variant, size=options.size, count=options.rounds, clock=clock)


if __name__ == "__main__":
    main()
