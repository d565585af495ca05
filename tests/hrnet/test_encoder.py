"""The contract of SMP encoders, held by every HRNet encoder with every decoder."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders, get_encoder
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

import geohr.hrnet
from geohr.hrnet import VARIANTS, HRNetEncoder
from geohr.hrnet.encoder import register_encoders
from geohr.hrnet.segmentation import register_models

ALL = [f"hrnetv2_{variant}" for variant in VARIANTS]
QUICK = ["hrnetv2_w18_small_v1", "hrnetv2_w18_small_v2"]
ONE_DEEP = "hrnetv2_w18"

DECODERS: dict[str, dict[str, Any]] = {
    "Unet": {},
    "UnetPlusPlus": {},
    "MAnet": {},
    "Linknet": {},
    "FPN": {},
    "PSPNet": {},
    "UPerNet": {},
    "Segformer": {},
    "PAN": {"encoder_output_stride": 32},
    "HRNetV1": {},
    "HRNetV2": {},
    "HRNetOCR": {},
}

ANY_SIZE = ("Unet", "HRNetV1", "HRNetV2", "HRNetOCR")

PAN_INPUT = 256
"""PAN pools its deepest feature three times, so that smaller inputs have nothing left."""


class EncoderContract:
    """What SMP asks of an encoder; subclasses say which encoders."""

    def features(self, name: str, pixels: Tensor, depth: int = 5) -> list[Tensor]:
        encoder = get_encoder(name, in_channels=pixels.shape[1], depth=depth, weights=None).eval()
        assert isinstance(encoder, HRNetEncoder)
        with torch.no_grad():
            features = encoder(pixels)
        assert encoder.out_channels == [feature.shape[1] for feature in features]
        assert encoder.output_stride == 2**depth
        return list(features)

    def check_depths(self, name: str) -> None:
        for depth in (3, 4, 5):
            features = self.features(name, torch.rand(1, 3, 64, 96), depth)
            sizes = [tuple(feature.shape[-2:]) for feature in features]
            assert sizes == [(64 >> level, 96 >> level) for level in range(depth + 1)]

    def check_channels(self, name: str, channels: range) -> None:
        for count in channels:
            pixels = torch.rand(1, count, 64, 64)
            assert torch.equal(self.features(name, pixels)[0], pixels)

    def check_decoder(self, name: str, decoder: str, size: tuple[int, int]) -> None:
        model = smp.create_model(
            decoder, name, encoder_weights=None, classes=3, **DECODERS[decoder]
        ).eval()
        with torch.no_grad():
            logits = model(torch.rand(1, 3, *size))
        assert logits.shape == (1, 3, *size)

    def check_trace(self, name: str) -> None:
        encoder = get_encoder(name, weights=None).eval()
        with warnings.catch_warnings():
            # Torch announces the end of TorchScript; users of SMP still trace.
            warnings.simplefilter("ignore", FutureWarning)
            # Every SMP encoder gives a list, which the tracer remarks upon.
            warnings.simplefilter("ignore", TracerWarning)
            with torch.no_grad():
                traced = torch.jit.trace(encoder, torch.rand(1, 3, 64, 64))  # type: ignore[no-untyped-call]
        self.check_same(traced, encoder)

    def check_export(self, name: str) -> None:
        encoder = get_encoder(name, weights=None).eval()
        with torch.no_grad():
            program = torch.export.export(encoder, (torch.rand(1, 3, 64, 64),))
        self.check_same(program.module(), encoder)

    def check_compile(self, name: str, backend: str) -> None:
        encoder = get_encoder(name, weights=None).eval()
        torch.compiler.reset()
        self.check_same(torch.compile(encoder, fullgraph=True, backend=backend), encoder)

    def check_same(self, made: Any, encoder: nn.Module) -> None:
        pixels = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            for one, other in zip(made(pixels), encoder(pixels), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.std()))


class TestSmallEncoders(EncoderContract):
    @pytest.mark.parametrize("name", [QUICK[0], ONE_DEEP])
    def test_depths(self, name: str) -> None:
        self.check_depths(name)

    def test_channels(self) -> None:
        self.check_channels(QUICK[0], range(1, 17))

    @pytest.mark.parametrize("decoder", DECODERS)
    def test_decoders(self, decoder: str) -> None:
        size = (PAN_INPUT, PAN_INPUT) if decoder == "PAN" else (64, 96)
        self.check_decoder(QUICK[0], decoder, size)

    @pytest.mark.parametrize("decoder", ANY_SIZE)
    def test_odd_sizes(self, decoder: str) -> None:
        self.check_decoder(QUICK[0], decoder, (101, 75))

    def test_trace(self) -> None:
        self.check_trace(QUICK[0])

    def test_export(self) -> None:
        self.check_export(QUICK[0])

    def test_compile(self) -> None:
        self.check_compile(QUICK[0], "aot_eager")


@pytest.mark.full
@pytest.mark.parametrize("name", ALL)
class TestAllEncoders(EncoderContract):
    def test_depths(self, name: str) -> None:
        self.check_depths(name)

    def test_channels(self, name: str) -> None:
        self.check_channels(name, range(1, 17, 5))

    @pytest.mark.parametrize("decoder", DECODERS)
    def test_decoders(self, name: str, decoder: str) -> None:
        size = (PAN_INPUT, PAN_INPUT) if decoder == "PAN" else (64, 64)
        self.check_decoder(name, decoder, size)

    @pytest.mark.parametrize("decoder", ANY_SIZE)
    def test_odd_sizes(self, name: str, decoder: str) -> None:
        self.check_decoder(name, decoder, (75, 49))

    def test_trace(self, name: str) -> None:
        self.check_trace(name)

    def test_export(self, name: str) -> None:
        self.check_export(name)

    def test_compile(self, name: str) -> None:
        # Inductor, as users get it, for the small trunks; it takes minutes for each wide one.
        self.check_compile(name, "inductor" if name in QUICK else "aot_eager")


def test_a_smaller_depth_builds_less() -> None:
    counts = []
    for depth in (3, 4, 5):
        encoder = get_encoder(QUICK[0], depth=depth, weights=None)
        counts.append(sum(parameter.numel() for parameter in encoder.parameters()))
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize(
    ("decoder", "options", "message"),
    [
        ("DeepLabV3", {}, "cannot be dilated to output stride 8"),
        ("DeepLabV3Plus", {}, "cannot be dilated to output stride 16"),
        ("PAN", {}, "PAN with encoder_output_stride=32"),
        ("DPT", {}, "Only Timm encoders are supported"),
    ],
)
def test_decoders_that_cannot_work_say_why(
    decoder: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        smp.create_model(decoder, QUICK[0], encoder_weights=None, **options)


def test_a_depth_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 3, 4 or 5, got 2"):
        get_encoder(QUICK[0], depth=2, weights=None)


def test_registering_again_changes_nothing_and_overwrites_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(ALL) <= set(encoders)
    before = dict(encoders)
    monkeypatch.setitem(encoders, QUICK[0], {"encoder": "another's"})
    monkeypatch.setattr(smp, "HRNetV2", "another's")
    register_encoders()
    register_models()
    assert encoders[QUICK[0]] == {"encoder": "another's"}
    assert smp.HRNetV2 == "another's"
    assert {name: entry for name, entry in encoders.items() if name != QUICK[0]} == {
        name: entry for name, entry in before.items() if name != QUICK[0]
    }


class TestBands:
    """How filters for RGB serve other bands."""

    def adapted(self, bands: int, policy: str) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        encoder = HRNetEncoder("w18_small_v1")
        before = encoder.get_parameter("conv1.weight").detach().clone()
        encoder.set_in_channels(bands, extra_bands=policy)
        assert encoder.conv1.in_channels == bands
        out_channels: Any = encoder.out_channels
        assert out_channels[0] == bands
        return before, encoder.get_parameter("conv1.weight").detach()

    @pytest.mark.parametrize("policy", ["mean", "cycle"])
    @pytest.mark.parametrize("bands", [1, 2, 4, 6, 12, 16])
    def test_grey_input_answers_as_before(self, policy: str, bands: int) -> None:
        before, after = self.adapted(bands, policy)
        if policy == "cycle" and bands % 3:
            assert after.shape[1] == bands
        else:
            torch.testing.assert_close(after.sum(1), before.sum(1))

    def test_mean_keeps_rgb_in_proportion(self) -> None:
        before, after = self.adapted(4, "mean")
        torch.testing.assert_close(after[:, :3], before * 0.75)
        torch.testing.assert_close(after[:, 3], before.mean(1) * 0.75)

    def test_zero_leaves_the_network_as_it_is(self) -> None:
        before, after = self.adapted(5, "zero")
        assert torch.equal(after[:, :3], before)
        assert not after[:, 3:].any()

    def test_cycle_is_what_smp_does(self) -> None:
        before, after = self.adapted(4, "cycle")
        resnet = get_encoder("resnet18", weights=None)
        resnet.conv1 = nn.Conv2d(3, 64, 3, bias=False)
        resnet.conv1.weight = nn.Parameter(before)
        resnet.set_in_channels(4, pretrained=True)
        torch.testing.assert_close(after, resnet.get_parameter("conv1.weight").detach())

    def test_fresh_filters_are_drawn_without_pretraining(self) -> None:
        encoder = get_encoder(QUICK[0], in_channels=6, weights=None)
        assert encoder.conv1.weight.shape == (64, 6, 3, 3)
        assert encoder.conv1.weight.std() > 0.01

    @pytest.mark.parametrize(
        ("bands", "policy", "message"),
        [
            (4, "red", "extra_bands must be one of mean, zero, cycle, got 'red'"),
            (2, "zero", "needs at least 3 bands, got 2; use 'mean'"),
            (0, "mean", "in_channels must be at least 1, got 0"),
        ],
    )
    def test_bad_requests_are_refused(self, bands: int, policy: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.adapted(bands, policy)


def test_public_names_are_sorted_and_there() -> None:
    names = geohr.hrnet.__all__
    assert names == sorted(
        names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for name in names:
        assert hasattr(geohr.hrnet, name)
