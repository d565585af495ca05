"""Published checkpoints of every kind, made by hand under their own names, load and agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geohr.hrnet import (
    HRNet,
    HRNetClassifier,
    HRNetHeatmaps,
    HRNetOCR,
    HRNetV2,
    load_checkpoint,
    load_trunk,
)
from tests.hrnet import reference

VARIANT = "w18_small_v1"
TOTAL = 15 * 16
CLASSES = 5


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = reference.timm_trunk(VARIANT, torch.randn(2, 3, 64, 64))
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(1, 3, 75, 64, generator=torch.Generator().manual_seed(1))


def wrap(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in weights.items()}


def run(network: nn.Module, pixels: Tensor) -> Tensor:
    assert not network.training
    with torch.no_grad():
        output: Tensor = network(pixels)
    return output


def check_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("align_corners", [None, True])
def test_official_segmentation(
    trunk: dict[str, Tensor], pixels: Tensor, tmp_path: Path, align_corners: bool | None
) -> None:
    weights = trunk | reference.segmentation_head(TOTAL, CLASSES)
    # As the released training code saves it: a full model with its loss, torch 0.4 counters off.
    saved = {
        key: value
        for key, value in wrap(weights, "model.").items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(saved | {"loss.criterion.weight": torch.ones(CLASSES)}, tmp_path / "seg.pth")
    loaded = load_checkpoint(tmp_path / "seg.pth", align_corners=align_corners)
    assert isinstance(loaded.network, HRNetV2)
    assert (loaded.format, loaded.variant, loaded.fusion) == (
        "official segmentation",
        VARIANT,
        "bilinear",
    )
    assert loaded.align_corners is bool(align_corners)
    assert loaded.unused == ("loss.criterion.weight",)
    check_close(
        run(loaded.network, pixels), reference.segmentation(weights, pixels, bool(align_corners))
    )


def test_official_ocr_is_aligned(trunk: dict[str, Tensor], pixels: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(2)
    weights = trunk | reference.ocr_head(TOTAL, CLASSES, 96, 40)
    torch.save(OrderedDict(wrap(weights, "module.model.")), tmp_path / "ocr.pth")
    loaded = load_checkpoint(tmp_path / "ocr.pth")
    assert isinstance(loaded.network, HRNetOCR)
    assert (loaded.format, loaded.align_corners, loaded.unused) == ("official OCR", True, ())
    check_close(run(loaded.network, pixels), reference.ocr(weights, pixels, True))


def test_official_pose(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    weights = {
        key: value
        for key, value in trunk.items()
        if not key.startswith(tuple(f"stage4.0.fuse_layers.{i}." for i in (1, 2, 3)))
    }
    weights |= {
        "final_layer.weight": torch.randn(17, 16, 1, 1),
        "final_layer.bias": torch.randn(17),
    }
    torch.save(weights, tmp_path / "pose.pth")
    loaded = load_checkpoint(tmp_path / "pose.pth")
    assert isinstance(loaded.network, HRNetHeatmaps)
    assert (loaded.format, loaded.fusion, loaded.unused) == ("official pose", "nearest", ())
    pixels = torch.randn(1, 3, 64, 96)
    check_close(run(loaded.network, pixels), reference.pose(weights, pixels))


@pytest.mark.parametrize("name", ["hrnet_w18_small", "hrnet_w18_ssld"])
def test_classification_gives_what_timm_gives(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = timm.create_model(name, num_classes=7)
    reference.settle(theirs, torch.randn(2, 3, 64, 64))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert isinstance(loaded.network, HRNetClassifier)
    assert (loaded.format, loaded.fusion, loaded.unused) == ("classification", "nearest", ())
    pixels = torch.randn(1, 3, 64, 64)
    check_close(run(loaded.network, pixels), run(theirs, pixels))


def test_timm_features(tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = timm.create_model("hrnet_w18_small_v2", features_only=True)
    torch.save(theirs.state_dict(), tmp_path / "features.pth")
    loaded = load_checkpoint(tmp_path / "features.pth")
    assert isinstance(loaded.network, HRNet)
    assert (loaded.format, loaded.variant) == ("trunk", "w18_small_v2")
    assert {name.split(".")[0] for name in loaded.unused} == {"incre_modules"}


def mmseg_head(weights: Mapping[str, Tensor], head: str, name: str) -> dict[str, Tensor]:
    """The official head as mmsegmentation names it, without the bias that it does not have."""
    names = {f"{name}.0.": f"{head}.convs.0.conv.", f"{name}.1.": f"{head}.convs.0.bn."}
    names |= {f"{name}.3.": f"{head}.conv_seg."}
    return renamed(weights, names)


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {
        new + key.removeprefix(old): weights[key]
        for old, new in names.items()
        for key in weights
        if key.startswith(old)
    }


def test_mmsegmentation(trunk: dict[str, Tensor], pixels: Tensor, tmp_path: Path) -> None:
    head = reference.segmentation_head(TOTAL, CLASSES)
    head["last_layer.0.bias"].zero_()
    saved = wrap(trunk, "backbone.") | mmseg_head(head, "decode_head", "last_layer")
    del saved["decode_head.convs.0.conv.bias"]
    torch.save({"meta": {"epoch": 3}, "state_dict": saved}, tmp_path / "fcn.pth")
    loaded = load_checkpoint(tmp_path / "fcn.pth")
    assert isinstance(loaded.network, HRNetV2)
    assert (loaded.format, loaded.align_corners, loaded.unused) == ("mmsegmentation", False, ())
    expected = reference.segmentation(trunk | head, pixels, False)
    check_close(run(loaded.network, pixels), expected)


def test_mmsegmentation_ocr(trunk: dict[str, Tensor], pixels: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(5)
    head = reference.ocr_head(TOTAL, CLASSES, 64, 32)
    for bias in ("aux_head.0.bias", "conv3x3_ocr.0.bias"):
        head[bias].zero_()
    block, theirs = "ocr_distri_head.object_context_block", "decode_head.1.object_context_block"
    names = {
        "conv3x3_ocr.0.": "decode_head.1.bottleneck.conv.",
        "conv3x3_ocr.1.": "decode_head.1.bottleneck.bn.",
        f"{block}.f_down.0.": f"{theirs}.value_project.conv.",
        f"{block}.f_down.1.0.": f"{theirs}.value_project.bn.",
        f"{block}.f_up.0.": f"{theirs}.out_project.conv.",
        f"{block}.f_up.1.0.": f"{theirs}.out_project.bn.",
        "ocr_distri_head.conv_bn_dropout.0.": f"{theirs}.bottleneck.conv.",
        "ocr_distri_head.conv_bn_dropout.1.0.": f"{theirs}.bottleneck.bn.",
        "cls_head.": "decode_head.1.conv_seg.",
    }
    for ours, project in (("f_pixel", "query_project"), ("f_object", "key_project")):
        for index, place in ((0, "0.conv"), (1, "0.bn"), (2, "1.conv"), (3, "1.bn")):
            inner = f"{index}.0" if index % 2 else f"{index}"
            names[f"{block}.{ours}.{inner}."] = f"{theirs}.{project}.{place}."
    saved = wrap(trunk, "backbone.") | renamed(head, names)
    saved |= mmseg_head(head, "decode_head.0", "aux_head")
    del saved["decode_head.0.convs.0.conv.bias"], saved["decode_head.1.bottleneck.conv.bias"]
    torch.save({"state_dict": saved}, tmp_path / "ocr.pth")
    loaded = load_checkpoint(tmp_path / "ocr.pth")
    assert isinstance(loaded.network, HRNetOCR)
    assert (loaded.format, loaded.unused) == ("mmsegmentation OCR", ())
    check_close(run(loaded.network, pixels), reference.ocr(trunk | head, pixels, False))


def test_a_trunk_starts_from_any_checkpoint(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    saved = wrap(trunk, "backbone.") | {"decode_head.convs.0.conv.weight": torch.ones(1)}
    torch.save(saved, tmp_path / "fcn.pth")
    network = HRNetV2(f"hrnetv2_{VARIANT}", encoder_weights=None, in_channels=4)
    unused = load_trunk(network.encoder, tmp_path / "fcn.pth")
    assert unused == ("decode_head.convs.0.conv.weight",)
    loaded = network.encoder.state_dict()
    assert torch.equal(
        loaded["stage4.0.fuse_layers.3.0.2.0.weight"], trunk["stage4.0.fuse_layers.3.0.2.0.weight"]
    )
    torch.testing.assert_close(loaded["conv1.weight"][:, :3], trunk["conv1.weight"] * 0.75)


def test_a_trunk_of_another_variant_or_of_other_bands_is_refused(
    trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(trunk, tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match=f"is of {VARIANT}, the network of w18_small_v2"):
        load_trunk(HRNet("w18_small_v2"), tmp_path / "trunk.pth")
    four = trunk | {"conv1.weight": torch.ones(64, 4, 3, 3)}
    torch.save(four, tmp_path / "four.pth")
    with pytest.raises(ValueError, match="trained on 4 bands, the network takes 3"):
        load_trunk(HRNet(VARIANT), tmp_path / "four.pth")


class Payload:
    """Something that a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def test_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}, "meta": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds Python objects besides tensors"):
        load_checkpoint(tmp_path / "evil.pth")
    assert "never" not in capsys.readouterr().out


def test_files_that_are_no_checkpoint_are_refused(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(ValueError, match=f"{name} "):
            load_checkpoint(tmp_path / name)
    cases: list[tuple[object, str]] = [
        ([1, 2], "holds a list, not a dictionary"),
        ({"layer.weight": torch.ones(1)}, "no name has stage4. in it; it holds layer.weight"),
        ({"epoch": 3}, "holds no named tensors"),
        ({"stage4.0.x": torch.ones(1)}, "conv1.weight is missing"),
        (
            {
                key: value
                for key, value in trunk.items()
                if not key.startswith("stage4.0.branches.3.1")
            },
            "lacks 10 parameters",
        ),
        (
            {key: value for key, value in trunk.items() if not key.startswith("layer1.0.bn3")},
            "lacks 4 parameters or has them in another shape, first layer1.0.bn3.weight",
        ),
    ]
    for content, message in cases:
        torch.save(content, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match=message):
            load_checkpoint(tmp_path / "bad.pth")


def test_an_unpublished_width_is_refused(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    odd = trunk | {"transition1.0.0.weight": torch.ones(17, 128, 3, 3)}
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="no published HRNet variant has width 17"):
        load_checkpoint(tmp_path / "odd.pth")
