"""V2p as the backbone of torchvision's detectors, on real tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from geohr.hrnet import HRNetV2p
from tests.hrnet.tiles import tile

SIZE = 192


def detector(backbone: HRNetV2p) -> nn.Module:
    anchors = AnchorGenerator(
        sizes=tuple((16 * 2**level,) for level in range(backbone.levels)),
        aspect_ratios=((0.5, 1.0, 2.0),) * backbone.levels,
    )
    model: nn.Module = FasterRCNN(
        backbone,
        num_classes=2,
        rpn_anchor_generator=anchors,
        min_size=SIZE,
        max_size=SIZE,
        box_detections_per_img=20,
    )
    return model


def test_faster_rcnn_trains_and_predicts_on_buildings() -> None:
    torch.manual_seed(0)
    tiles = [tile(row=0, col=col, size=SIZE) for col in (0, 1024)]
    assert all(len(boxes) > 0 for _, boxes in tiles)
    model = detector(HRNetV2p("w18_small_v1", out_channels=64)).train()
    targets = [
        {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.long)} for _, boxes in tiles
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    steps = []
    for _ in range(2):
        losses: dict[str, Tensor] = model([pixels for pixels, _ in tiles], targets)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.get_submodule("backbone").named_parameters():
            assert parameter.grad is not None, name
        optimizer.step()
        steps.append(float(total.detach()))
    assert steps[1] < steps[0]
    with torch.no_grad():
        (found,) = model.eval()([tiles[0][0]])
    assert set(found) == {"boxes", "labels", "scores"}
    assert len(found["boxes"]) > 0
    assert float(found["boxes"].min()) >= 0
    assert float(found["boxes"].max()) <= SIZE


@pytest.mark.parametrize("share_conv", [False, True])
def test_levels_halve(share_conv: bool) -> None:
    pyramid = HRNetV2p("w18_small_v1", out_channels=8, share_conv=share_conv)
    with torch.no_grad():
        levels = pyramid(torch.rand(1, 3, 128, 192))
    sizes = [(32 >> level, 48 >> level) for level in range(5)]
    assert {key: tuple(level.shape) for key, level in levels.items()} == {
        str(index): (1, 8, *size) for index, size in enumerate(sizes)
    }
    assert len(pyramid.fpn_conv) == (1 if share_conv else 5)


def test_a_level_is_the_average_of_the_finer_one() -> None:
    pyramid = HRNetV2p("w18_small_v1", out_channels=4, share_conv=True)
    pixels = torch.rand(1, 3, 64, 64)
    (conv,) = pyramid.fpn_conv
    with torch.no_grad():
        pyramid.eval()
        nn.init.dirac_(conv.weight)  # type: ignore[arg-type]
        levels = pyramid(pixels)
        pooled = levels["0"].unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    torch.testing.assert_close(levels["2"], pooled)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="out_channels and levels must be at least 1"):
        HRNetV2p("w18_small_v1", levels=0)
