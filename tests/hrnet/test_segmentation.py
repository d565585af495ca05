from __future__ import annotations

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from geohr.hrnet import HRNetClassifier, HRNetHeatmaps, HRNetOCR, HRNetV1, HRNetV2, auxiliary_loss
from geohr.hrnet.ocr import default_channels, gather_regions
from geohr.hrnet.segmentation import HRNetSegmentation
from tests.hrnet import reference

SMALL = "hrnetv2_w18_small_v1"
MODELS = (HRNetV1, HRNetV2, HRNetOCR)

TOTALS = {
    # 19 classes; OCR with the published 512 and 256 channels.
    ("V2", "w18_small_v1"): 1_540_819,
    ("V2", "w18_small_v2"): 3_939_579,
    ("V2", "w18"): 9_641_119,
    ("V2", "w30"): 26_024_695,
    ("V2", "w32"): 29_546_515,
    ("V2", "w40"): 45_894_435,
    ("V2", "w44"): 55_424_779,
    ("V2", "w48"): 65_859_379,
    ("V2", "w64"): 116_640_339,
    ("OCR", "w18_small_v1"): 3_842_278,
    ("OCR", "w18_small_v2"): 6_379_278,
    ("OCR", "w18"): 12_080_818,
    ("OCR", "w32"): 32_953_894,
    ("OCR", "w40"): 49_854_774,
    ("OCR", "w48"): 70_372_678,
    ("OCR", "w64"): 122_259_558,
}


def test_every_network_has_the_published_parameters() -> None:
    counted = {}
    for head, variant in TOTALS:
        with torch.device("meta"):
            network: nn.Module = (
                HRNetV2(f"hrnetv2_{variant}", encoder_weights=None, classes=19)
                if head == "V2"
                else HRNetOCR(
                    f"hrnetv2_{variant}",
                    encoder_weights=None,
                    classes=19,
                    ocr_channels=512,
                    key_channels=256,
                )
            )
        counted[head, variant] = sum(parameter.numel() for parameter in network.parameters())
    assert counted == TOTALS


@pytest.mark.parametrize("model", MODELS)
def test_logits_have_the_size_of_any_input(model: type[HRNetSegmentation]) -> None:
    network = model(SMALL, encoder_weights=None, in_channels=4, classes=2).eval()
    with torch.no_grad():
        for size in ((32, 32), (101, 75), (65, 128)):
            assert network(torch.rand(1, 4, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("model", MODELS)
def test_a_saved_model_comes_back_with_its_state(
    model: type[HRNetSegmentation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    saved = model(
        SMALL, encoder_weights=None, classes=3, in_channels=2, fusion="nearest", align_corners=True
    ).eval()
    saved.save_pretrained(tmp_path)
    loaded = smp.from_pretrained(tmp_path).eval()
    assert type(loaded) is model
    assert loaded.align_corners
    assert loaded.encoder.interpolation == saved.encoder.interpolation
    pixels = torch.rand(1, 2, 45, 64)
    with torch.no_grad():
        assert torch.equal(loaded(pixels), saved(pixels))
    capsys.readouterr()


@pytest.mark.parametrize("model", MODELS)
def test_unknown_arguments_are_refused(model: type[HRNetSegmentation]) -> None:
    with pytest.raises(TypeError, match="takes no argument 'bogus'"):
        model(SMALL, bogus=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_name": "resnet18"}, "unknown HRNet encoder 'resnet18', choose one of hrnetv2_"),
        ({"encoder_name": "w18"}, "unknown HRNet encoder 'w18'"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"extra_bands": "red"}, "extra_bands must be one of"),
        ({"fusion": "cubic"}, "fusion must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    wanted = {"encoder_name": SMALL, "encoder_weights": None} | arguments
    with pytest.raises(ValueError, match=message):
        HRNetV2(**wanted)


def test_counts_of_other_heads_are_checked() -> None:
    with pytest.raises(ValueError, match="ocr_channels and key_channels must be positive"):
        HRNetOCR(SMALL, encoder_weights=None, ocr_channels=1)
    with pytest.raises(ValueError, match="classes must be at least 1"):
        HRNetClassifier("w18_small_v1", classes=0)
    with pytest.raises(ValueError, match="keypoints must be at least 1"):
        HRNetHeatmaps("w18_small_v1", keypoints=0)


def test_ocr_channels_stay_below_the_width_of_narrow_trunks() -> None:
    widths = {width: default_channels(15 * width) for width in (16, 18, 30, 32, 40, 48, 64)}
    assert widths == {16: 192, 18: 256, 30: 448, 32: 448, 40: 512, 48: 512, 64: 512}


def test_ocr_trains_on_both_outputs() -> None:
    torch.manual_seed(0)
    network = HRNetOCR(SMALL, encoder_weights=None, classes=2).train()
    pixels = torch.rand(2, 3, 64, 64)
    target = torch.zeros(2, 64, 64, dtype=torch.long)
    target[..., 32:] = 1
    pixels[..., 32:] += 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        outputs = network(pixels)
        assert [output.shape for output in outputs] == [(2, 2, 64, 64)] * 2
        loss = auxiliary_loss(nn.functional.cross_entropy, outputs, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_the_auxiliary_loss_is_a_weighted_sum() -> None:
    criterion = nn.MSELoss()
    one, two, target = torch.ones(2), torch.full((2,), 3.0), torch.zeros(2)
    assert auxiliary_loss(criterion, (one, two), target).item() == pytest.approx(1 + 0.4 * 9)
    assert auxiliary_loss(criterion, one, target).item() == pytest.approx(1)


def test_every_parameter_learns_in_v1_and_v2() -> None:
    for model in (HRNetV1, HRNetV2):
        network = model(SMALL, encoder_weights=None).train()
        network(torch.rand(2, 3, 64, 64)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_regions_are_gathered_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    pixels, logits = torch.randn(1, 8, 300, 300), torch.randn(1, 4, 300, 300)
    exact = gather_regions(pixels.double(), logits.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kept = gather_regions(pixels, logits)
        lost = torch.bmm(logits.flatten(2).softmax(2), pixels.flatten(2).transpose(1, 2))
    assert kept.dtype == torch.float32
    scale = float(exact.abs().max())
    assert float((kept - exact).abs().max()) < 1e-4 * scale
    lost_error = float((lost.transpose(1, 2).unsqueeze(3).double() - exact).abs().max())
    assert lost_error > 1e-3 * scale


def test_autocast_stays_near_float32() -> None:
    torch.manual_seed(0)
    network = HRNetOCR(SMALL, encoder_weights=None, classes=4).eval()
    pixels = torch.rand(1, 3, 128, 128)
    reference.settle(network, torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        exact = network(pixels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = network(pixels).float()
    # bfloat16 keeps 8 bits: a relative error near 2**-8 a layer, some tens of layers deep.
    assert float((near - exact).norm() / exact.norm()) < 0.1
    assert near.isfinite().all()


def test_a_frozen_encoder_stays_as_it_is() -> None:
    network = HRNetV2(SMALL, encoder_weights=None)
    network.freeze_encoder()
    network.train()
    before = network.encoder.bn1.running_mean.clone()
    network(torch.rand(2, 3, 64, 64))
    assert torch.equal(network.encoder.bn1.running_mean, before)
