"""Parameters and multiply-adds of every published HRNet row, beside the published figures.

Run as ``python -m benchmarks.hrnet_tables``. Published "GFLOPs" are multiply-adds of convolutions
and linear layers divided by 1024**3 (GiMAC); both units are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geohr.hrnet import HRNetClassifier, HRNetHeatmaps, HRNetOCR, HRNetV2


@dataclass(frozen=True, slots=True)
class Published:
    """One published row: what to build, and the figures as printed."""

    task: str
    variant: str
    outputs: int
    rows: int
    cols: int
    params: str
    """Millions, as printed."""
    gimac: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A published row and what this implementation has."""

    published: Published
    params: int
    macs: int

    @property
    def differs(self) -> bool:
        """Whether a figure is more than one unit of its last printed digit off."""
        return not (
            _agrees(self.params / 1e6, self.published.params)
            and _agrees(self.macs / 2**30, self.published.gimac)
        )


SEGMENTATION, OCR, POSE, IMAGENET = "segmentation", "segmentation + OCR", "pose", "ImageNet"

ROWS: tuple[Published, ...] = (
    Published(SEGMENTATION, "w18_small_v1", 19, 1024, 2048, "1.5", "31.1"),
    Published(SEGMENTATION, "w18_small_v2", 19, 1024, 2048, "3.9", "71.6"),
    Published(
        SEGMENTATION, "w40", 19, 1024, 2048, "45.2", "493.2", "paper's W40 is not the released one"
    ),
    Published(SEGMENTATION, "w48", 19, 1024, 2048, "65.9", "696.2"),
    Published(SEGMENTATION, "w48", 20, 473, 473, "65.8", "74.3", "LIP, readme"),
    Published(SEGMENTATION, "w48", 59, 480, 480, "65.9", "76.5", "PASCAL-Context, readme"),
    Published(OCR, "w48", 19, 1024, 2048, "70.3", "1206.3"),
    Published(POSE, "w32", 17, 256, 192, "28.5", "7.1"),
    Published(POSE, "w32", 17, 384, 288, "28.5", "16.0"),
    Published(POSE, "w48", 17, 256, 192, "63.6", "14.6"),
    Published(POSE, "w48", 17, 384, 288, "63.6", "32.9"),
    Published(IMAGENET, "w18_small_v1", 1000, 224, 224, "13.2", "1.49"),
    Published(IMAGENET, "w18_small_v2", 1000, 224, 224, "15.6", "2.42"),
    Published(IMAGENET, "w18", 1000, 224, 224, "21.3", "3.99"),
    Published(IMAGENET, "w30", 1000, 224, 224, "37.7", "7.55"),
    Published(IMAGENET, "w32", 1000, 224, 224, "41.2", "8.31"),
    Published(IMAGENET, "w40", 1000, 224, 224, "57.6", "11.8"),
    Published(IMAGENET, "w44", 1000, 224, 224, "67.1", "13.9"),
    Published(IMAGENET, "w48", 1000, 224, 224, "77.5", "16.1"),
    Published(IMAGENET, "w64", 1000, 224, 224, "128.1", "26.9"),
)


def _agrees(value: float, printed: str) -> bool:
    digits = len(printed.partition(".")[2])
    return abs(round(value, digits) - float(printed)) * float(10**digits) < 1.5


def build(row: Published) -> nn.Module:
    """The network of a row, without memory for its weights."""
    with torch.device("meta"):
        if row.task == IMAGENET:
            return HRNetClassifier(row.variant, classes=row.outputs)
        if row.task == POSE:
            return HRNetHeatmaps(row.variant, keypoints=row.outputs)
        kind: type[HRNetOCR] | type[HRNetV2] = HRNetOCR if row.task == OCR else HRNetV2
        network: nn.Module = kind(
            f"hrnetv2_{row.variant}", encoder_weights=None, classes=row.outputs
        )
        return network


def count_macs(network: nn.Module, rows: int, cols: int) -> int:
    """Multiply-adds of all convolutions and linear layers for one image of 3 bands."""
    total = 0

    def add(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Every output element is one dot product with the weights of its channel.
            total += output.numel() * layer.weight[0].numel()

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    with torch.no_grad():
        network.eval()(torch.empty(1, 3, rows, cols, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


def measure(row: Published) -> Measured:
    """Build and count one row."""
    network = build(row)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Measured(row, params, count_macs(network, row.rows, row.cols))


def main() -> None:
    """Print the table."""
    print(f"{'task':<19}{'variant':<14}{'input':>10}{'parameters':>13}{'publ. M':>9}", end="")
    print(f"{'GMAC':>9}{'GiMAC':>9}{'publ.':>8}")
    for row in ROWS:
        found = measure(row)
        size = f"{row.rows}x{row.cols}"
        print(f"{row.task:<19}{row.variant:<14}{size:>10}{found.params:>13,}", end="")
        print(f"{row.params:>9}{found.macs / 1e9:>9.2f}{found.macs / 2**30:>9.2f}", end="")
        print(f"{row.gimac:>8}{'  DIFFERS' if found.differs else ''}  {row.note}".rstrip())


if __name__ == "__main__":
    main()
