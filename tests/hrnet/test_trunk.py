from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geohr.hrnet import VARIANTS, HRNet
from geohr.hrnet.variants import Variant
from tests.hrnet import reference

SMALL = ("w18_small_v1", "w18_small_v2")

PARAMETERS = {
    # Parameters of each top module of the released networks.
    "w18_small_v1": {
        "layer1": 24192,
        "transition1": 55392,
        "stage2": 51680,
        "transition2": 18560,
        "stage3": 233056,
        "transition3": 73984,
        "stage4": 982208,
    },
    "w18_small_v2": {
        "layer1": 145408,
        "transition1": 124524,
        "stage2": 65340,
        "transition2": 23472,
        "stage3": 884304,
        "transition3": 93600,
        "stage4": 2485224,
    },
    "w18": {
        "layer1": 286208,
        "transition1": 124524,
        "stage2": 124092,
        "transition2": 23472,
        "stage3": 2162880,
        "transition3": 93600,
        "stage4": 6708636,
    },
    "w32": {
        "layer1": 286208,
        "transition1": 221376,
        "stage2": 390848,
        "transition2": 73984,
        "stage3": 6821632,
        "transition3": 295424,
        "stage4": 21177216,
    },
    "w48": {
        "layer1": 286208,
        "transition1": 332064,
        "stage2": 878112,
        "transition2": 166272,
        "stage3": 15335040,
        "transition3": 664320,
        "stage4": 47624256,
    },
}
STEM = {"conv1": 1728, "bn1": 128, "conv2": 36864, "bn2": 128}

TRUNK_TOTALS = {
    "w18_small_v1": 1_477_920,
    "w18_small_v2": 3_860_720,
    "w18": 9_562_260,
    "w30": 25_812_276,
    "w32": 29_305_536,
    "w40": 45_521_216,
    "w44": 54_974_640,
    "w48": 65_325_120,
    "w64": 115_697_600,
}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("variant", PARAMETERS)
def test_every_module_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        trunk = HRNet(variant)
    counts = {name: parameters(child) for name, child in trunk.named_children()}
    assert counts == STEM | PARAMETERS[variant]


def test_every_trunk_has_the_published_total() -> None:
    with torch.device("meta"):
        totals = {variant: parameters(HRNet(variant)) for variant in VARIANTS}
    assert totals == TRUNK_TOTALS


def check_equal_to_timm(variant: str) -> None:
    torch.manual_seed(1)
    theirs = reference.timm_trunk(variant, torch.randn(2, 3, 64, 64))
    ours = HRNet(variant, fusion="nearest").eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for our_stream, their_stream in zip(ours(pixels), theirs(pixels)[1:], strict=True):
            assert torch.equal(our_stream, their_stream)
            assert their_stream.std() > 0.1


@pytest.mark.parametrize("variant", [*SMALL, "w18"])
def test_nearest_fusion_is_bit_equal_to_timm(variant: str) -> None:
    check_equal_to_timm(variant)


@pytest.mark.full
@pytest.mark.parametrize("variant", reference.FULL_DEPTH[1:])
def test_nearest_fusion_is_bit_equal_to_timm_for_wide_trunks(variant: str) -> None:
    check_equal_to_timm(variant)


def check_equal_to_reference(variant: str, align_corners: bool | None, *, size: int) -> None:
    torch.manual_seed(2)
    theirs = reference.timm_trunk(variant, torch.randn(2, 3, 64, 64))
    fusion = "nearest" if align_corners is None else "bilinear"
    ours = HRNet(variant, fusion=fusion, align_corners=bool(align_corners)).eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(1, 3, size, size + 13)
    with torch.no_grad():
        streams = ours(pixels)
        expected = reference.trunk(theirs.state_dict(), pixels, align_corners)
    for stream, wanted in zip(streams, expected, strict=True):
        assert torch.equal(stream, wanted)


@pytest.mark.parametrize("align_corners", [None, False, True])
@pytest.mark.parametrize("variant", SMALL)
def test_fusion_equals_the_reference(variant: str, align_corners: bool | None) -> None:
    check_equal_to_reference(variant, align_corners, size=70)


@pytest.mark.full
@pytest.mark.parametrize("align_corners", [None, False, True])
@pytest.mark.parametrize("variant", reference.FULL_DEPTH)
def test_fusion_equals_the_reference_for_all(variant: str, align_corners: bool | None) -> None:
    check_equal_to_reference(variant, align_corners, size=50)


def test_fusions_differ() -> None:
    torch.manual_seed(3)
    pixels = torch.randn(1, 3, 64, 64)
    one = HRNet("w18_small_v1").eval()
    reference.settle(one, torch.randn(2, 3, 64, 64))
    outputs = []
    for fusion, align_corners in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        other = HRNet("w18_small_v1", fusion=fusion, align_corners=align_corners).eval()
        other.load_state_dict(one.state_dict())
        with torch.no_grad():
            outputs.append(other(pixels)[0])
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])


@pytest.fixture(scope="module")
def small() -> HRNet:
    return HRNet("w18_small_v1", in_channels=2).eval()


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(32, 130), cols=st.integers(32, 130))
def test_any_size_gives_streams_of_its_ceiling(small: HRNet, rows: int, cols: int) -> None:
    with torch.no_grad():
        streams = small(torch.zeros(1, 2, rows, cols))
    for stream, stride, channels in zip(streams, (4, 8, 16, 32), (16, 32, 64, 128), strict=True):
        assert stream.shape == (1, channels, -(-rows // stride), -(-cols // stride))


def test_fewer_stages_and_a_single_scale_are_parts_of_the_whole() -> None:
    torch.manual_seed(4)
    pixels = torch.randn(1, 3, 64, 64)
    whole = HRNet("w18_small_v2").eval()
    reference.settle(whole, torch.randn(2, 3, 64, 64))
    single = HRNet("w18_small_v2", streams=1).eval()
    assert single.out_streams == 1
    assert set(single.state_dict()) < set(whole.state_dict())
    single.load_state_dict({key: whole.state_dict()[key] for key in single.state_dict()})
    with torch.no_grad():
        assert torch.equal(single(pixels)[0], whole(pixels)[0])
    assert HRNet("w18_small_v1", stages=2).out_streams == 2


def test_fresh_weights_keep_activations_in_range() -> None:
    torch.manual_seed(5)
    trunk = copy.deepcopy(HRNet("w18")).train()
    with torch.no_grad():
        streams = trunk(torch.randn(2, 3, 64, 64))
    for stream in streams:
        assert 0.1 < stream.std() < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "w17"}, "unknown HRNet variant 'w17', choose one of w18_small_v1"),
        ({"fusion": "bicubic"}, "fusion must be one of nearest, bilinear, got 'bicubic'"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"stages": 1}, "stages must be 2, 3 or 4, got 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    wanted = {"variant": "w18_small_v1"} | arguments
    with pytest.raises(ValueError, match=message):
        HRNet(**wanted)  # type: ignore[arg-type]


def test_a_variant_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Variant("w0", 0)
