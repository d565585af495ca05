"""Any prefix, any one container, any head: what other frameworks write is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from geohr.errors import InputError, UsageError
from geohr.hrnet import (
    HRNetClassifier,
    HRNetEncoder,
    HRNetHeatmaps,
    HRNetOCR,
    HRNetV1,
    HRNetV2,
    HRNetV2p,
    fuse,
    load_checkpoint,
    load_trunk,
)
from geohr.hrnet.encoder import TIMM_REPOSITORIES
from tests.hrnet import reference

VARIANT = "w18_small_v1"
SMALL = f"hrnetv2_{VARIANT}"
TOTAL = 15 * 16


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = reference.timm_trunk(VARIANT, torch.randn(2, 3, 64, 64))
    return {key: value.clone() for key, value in network.state_dict().items()}


def wrap(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in weights.items()}


def first_stream_only(trunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A pose trunk: its last fusion has one target."""
    others = tuple(f"stage4.0.fuse_layers.{target}." for target in (1, 2, 3))
    return {key: value for key, value in trunk.items() if not key.startswith(others)}


PREFIXES = (
    "", "module.", "model.", "module.model.", "net.", "_orig_mod.", "ema.", "encoder.",
    "model.encoder.", "encoder.model.", "model.encoder.model.", "backbone.", "module.backbone.",
    "backbone.hrnet.", "model.backbone.", "net._orig_mod.backbone.",
)  # fmt: skip
CONTAINERS = (
    "state_dict", "model", "net", "model_state_dict", "state_dict_ema", "model_ema", "weights",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_trunk_is_found_under_any_prefix(
    prefix: str, trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    saved = wrap(trunk, prefix) | {"somebodys_head.weight": torch.ones(3)}
    torch.save(saved, tmp_path / "any.pth")
    encoder = HRNetEncoder(VARIANT)
    assert load_trunk(encoder, tmp_path / "any.pth") == ("somebodys_head.weight",)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, trunk[key])
    found = load_checkpoint(tmp_path / "any.pth")
    assert found.format == "trunk"
    assert found.unknown_head == "somebodys_head (1 tensors)"


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_trunk_is_found_in_any_container(
    container: str, trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    content = {container: trunk, "epoch": 3, "lr": torch.ones(1), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "any.pth")
    assert load_trunk(HRNetEncoder(VARIANT), tmp_path / "any.pth") == ()


def test_the_plain_weights_are_meant_where_the_average_is_there_too(
    trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    average = {key: value + 1 for key, value in trunk.items()}
    torch.save({"state_dict_ema": average, "state_dict": trunk}, tmp_path / "two.pth")
    encoder = HRNetEncoder(VARIANT)
    load_trunk(encoder, tmp_path / "two.pth")
    assert torch.equal(encoder.conv1.weight, trunk["conv1.weight"])


@pytest.mark.parametrize("head", ["keypoint_head", "head"])
def test_mmpose(head: str, trunk: dict[str, Tensor], tmp_path: Path) -> None:
    pose = first_stream_only(trunk)
    final = {"final_layer.weight": torch.randn(17, 16, 1, 1), "final_layer.bias": torch.randn(17)}
    saved = wrap(pose, "backbone.") | wrap(final, f"{head}.")
    torch.save({"meta": {}, "state_dict": saved}, tmp_path / "pose.pth")
    found = load_checkpoint(tmp_path / "pose.pth")
    assert isinstance(found.network, HRNetHeatmaps)
    assert (found.format, found.fusion, found.unused) == ("mmpose", "nearest", ())
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        heatmaps = found.network(pixels)
    expected = reference.pose(pose | final, pixels)
    assert float((heatmaps - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize(
    ("prefix", "neck", "reduce", "level"),
    [
        ("backbone.", "neck.", "reduction_conv.conv.", "fpn_convs.{}.conv."),
        ("module.backbone.", "module.neck.", "reduction_conv.conv.", "fpn_conv.{}."),
        ("backbone.body.", "backbone.neck.", "reduction_conv.0.", "fpn_conv.{}."),
        ("trunk.", "", "reduction_conv.", "fpn_conv.{}."),
    ],
)
def test_pyramids_of_all_codes(
    prefix: str, neck: str, reduce: str, level: str, trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    names = {f"{neck}{reduce}weight": torch.randn(32, TOTAL, 1, 1) / 16}
    names |= {f"{neck}{reduce}bias": torch.randn(32)}
    for index in range(5):
        names[f"{neck}{level.format(index)}weight"] = torch.randn(32, 32, 3, 3) / 16
        names[f"{neck}{level.format(index)}bias"] = torch.randn(32)
    torch.save(wrap(trunk, prefix) | names | {"rpn_head.x": torch.ones(1)}, tmp_path / "det.pth")
    found = load_checkpoint(tmp_path / "det.pth")
    assert isinstance(found.network, HRNetV2p)
    assert (found.fusion, found.unused) == ("nearest", ("rpn_head.x",))
    pixels = torch.randn(1, 3, 128, 64)
    with torch.no_grad():
        levels = found.network(pixels)
        streams = found.network.trunk(pixels)
        # As mmdetection's HRFPN says it: upsample by a factor, concatenate, reduce, pool, smooth.
        raised = [streams[0]] + [
            functional.interpolate(stream, scale_factor=2**place, mode="bilinear")
            for place, stream in enumerate(streams[1:], start=1)
        ]
        base = functional.conv2d(
            torch.cat(raised, 1), names[f"{neck}{reduce}weight"], names[f"{neck}{reduce}bias"]
        )
        for index, (name, given) in enumerate(levels.items()):
            pooled = functional.avg_pool2d(base, 2**index) if index else base
            expected = functional.conv2d(
                pooled,
                names[f"{neck}{level.format(index)}weight"],
                names[f"{neck}{level.format(index)}bias"],
                padding=1,
            )
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("neck", ["neck.", "neck.0."])
def test_mmpretrain_classifies_as_timm_does(neck: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    theirs = timm.create_model("hrnet_w18_ssld", num_classes=7)
    reference.settle(theirs, torch.randn(2, 3, 64, 64))
    names = {}
    for key, value in theirs.state_dict().items():
        for old, new in (
            ("incre_modules.", f"{neck}increase_layers."),
            ("final_layer.0.", f"{neck}final_layer.conv."),
            ("final_layer.1.", f"{neck}final_layer.bn."),
            ("classifier.", "head.fc."),
            *((f"downsamp_modules.{i}.0.", f"{neck}downsample_layers.{i}.conv.") for i in range(3)),
            *((f"downsamp_modules.{i}.1.", f"{neck}downsample_layers.{i}.bn.") for i in range(3)),
        ):
            if key.startswith(old):
                names[new + key.removeprefix(old)] = value
                break
        else:
            names[f"backbone.{key}"] = value
    torch.save({"meta": {}, "state_dict": names}, tmp_path / "cls.pth")
    found = load_checkpoint(tmp_path / "cls.pth")
    assert isinstance(found.network, HRNetClassifier)
    assert (found.format, found.unused) == ("mmpretrain", ())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found.network(pixels), theirs.eval()(pixels))


def test_hisup_keeps_its_trunk_and_its_head_is_named(
    trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    # Its last layer ends in 256 features and no classes; a_conv and others read them.
    last = reference.segmentation_head(TOTAL, 16)
    parts = wrap(trunk | last, "backbone.") | {"mask_head.0.weight": torch.ones(1)}
    torch.save({"model": parts, "scheduler": {"last_epoch": 1}}, tmp_path / "hisup.pth")
    encoder = HRNetV2(SMALL, encoder_weights=None).encoder
    unused = load_trunk(encoder, tmp_path / "hisup.pth")
    assert "mask_head.0.weight" in unused
    assert torch.equal(encoder.conv1.weight, trunk["conv1.weight"])


def test_mmsegmentation_with_a_head_that_is_not_known(
    trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    saved = wrap(trunk, "backbone.") | {"decode_head.lateral_convs.0.conv.weight": torch.ones(1)}
    torch.save({"state_dict": saved}, tmp_path / "uper.pth")
    found = load_checkpoint(tmp_path / "uper.pth")
    assert (found.format, found.fusion) == ("mmsegmentation trunk", "bilinear")
    assert found.unknown_head == "decode_head (1 tensors)"


def test_smp_with_timm_encoder_gives_its_trunk(tmp_path: Path) -> None:
    theirs = smp.Unet("tu-hrnet_w18_small", encoder_weights=None)
    save_file(theirs.state_dict(), tmp_path / "unet.safetensors")
    encoder = HRNetEncoder(VARIANT)
    load_trunk(encoder, tmp_path / "unet.safetensors")
    assert torch.equal(encoder.conv1.weight, theirs.encoder.model.conv1.weight)


@pytest.mark.parametrize("kind", [HRNetV1, HRNetV2, HRNetOCR])
@pytest.mark.parametrize("form", ["save_pretrained", "state dict", "Lightning"])
def test_our_own_networks_in_any_form(kind: type[HRNetV2], form: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = kind(SMALL, encoder_weights=None, classes=3, fusion="nearest", stem_stride=2).eval()
    path = tmp_path / "own.pth"
    if form == "save_pretrained":
        network.save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
    elif form == "state dict":
        torch.save(network.state_dict(), path)
    else:
        torch.save({"state_dict": wrap(network.state_dict(), "model."), "epoch": 1}, path)
    found = load_checkpoint(path)
    assert type(found.network) is kind
    assert found.unused == ()
    # Only save_pretrained writes down what the tensors do not say.
    assert found.fusion == ("nearest" if form == "save_pretrained" else "bilinear")
    if form == "save_pretrained":
        pixels = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(found.network(pixels), network(pixels))
    load_trunk(HRNetV1(SMALL, encoder_weights=None).encoder, path)


def test_every_tag_of_timm_is_known() -> None:
    theirs = {f"timm/{name}" for name in timm.list_models("hrnet_*", pretrained=True)}
    ours = {repository for by in TIMM_REPOSITORIES.values() for repository in by.values()}
    assert theirs == ours


def test_preprocessing_is_known_without_a_hub() -> None:
    pixels = torch.full((4, 4, 3), 255.0).numpy()
    for name, tag in (("hrnetv2_w48", "imagenet"), ("hrnetv2_w18_stride2", "ssld")):
        params = smp.encoders.get_preprocessing_params(name, tag)
        assert params["mean"] == [0.485, 0.456, 0.406]
        made = smp.encoders.get_preprocessing_fn(name, tag)(pixels)
        assert made[0, 0, 0] == pytest.approx((1 - 0.485) / 0.229)
    with pytest.raises(ValueError, match="Available pretrained options"):
        smp.encoders.get_preprocessing_params("hrnetv2_w48", "noisy")
    assert not smp.encoders.get_preprocessing_params.__module__.startswith("tests")


@pytest.mark.parametrize("norm", ["sync", "group"])
def test_fusing_keeps_norms_of_other_kinds(norm: str) -> None:
    torch.manual_seed(4)
    network: nn.Module = HRNetV2(SMALL, encoder_weights=None, classes=3)
    reference.settle(network, torch.randn(2, 3, 64, 64))
    if norm == "sync":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        network.decoder.project[1] = nn.GroupNorm(8, TOTAL)
    network = network.eval().double()
    pixels = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        exact, fused = network(pixels), fuse(network)(pixels)
    assert float((exact - fused).norm() / exact.norm()) < 1e-12


def test_pose_weights_say_why_they_cannot_start_v2(
    trunk: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(first_stream_only(trunk), tmp_path / "pose.pth")
    with pytest.raises(InputError, match="ends in the finest stream alone, as pose networks do"):
        load_trunk(HRNetEncoder(VARIANT), tmp_path / "pose.pth")
    load_trunk(HRNetV1(SMALL, encoder_weights=None).encoder, tmp_path / "pose.pth")
    load_trunk(HRNetHeatmaps(VARIANT), tmp_path / "pose.pth")


def test_mistakes_are_named(trunk: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="HRNetV2 takes no argument 'n_classes'; did you mean 'cla"):
        HRNetV2(SMALL, encoder_weights=None, n_classes=3)  # type: ignore[call-arg]
    torch.save(trunk, tmp_path / "trunk.pth")
    with pytest.raises(UsageError, match="got HRNetV2: pass the model's encoder"):
        load_trunk(HRNetV2(SMALL, encoder_weights=None), tmp_path / "trunk.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>log in</html>")
    with pytest.raises(InputError, match="is an HTML page, not a checkpoint"):
        load_checkpoint(tmp_path / "page.pth")
    with pytest.raises(UsageError, match="a fused network cannot be saved"):
        HRNetV2(SMALL, encoder_weights=None).fuse().save_pretrained(tmp_path / "fused")
    with pytest.raises(KeyError, match="Wrong pretrained weights `noisy`"):
        HRNetV2(SMALL, encoder_weights="noisy")
