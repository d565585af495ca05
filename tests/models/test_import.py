"""Other people's models come in by any format and say what they said where they were made."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pyogrio
import pytest
import rasterio
import segmentation_models_pytorch as smp
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from geohr.api.import_model import import_model
from geohr.api.import_options import ImportOptions
from geohr.api.segment import segment_to_files
from geohr.engines import open_predictor
from geohr.errors import GeohrError, InputError, UsageError
from geohr.models.card import Card, Source, read_card
from geohr.models.metadata import mlm_item
from geohr.models.model import Model
from geohr.options import EngineOptions, SegmentOptions
from tests.command import Geohr
from tests.makers import noise, one_class_card, random_model, write_scene
from tests.models.local_hub import LocalHub

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*TorchScript-based:DeprecationWarning",
    "ignore:.*torch.jit:DeprecationWarning", "ignore:Initializing zero-element:UserWarning",
    "ignore::torch.jit.TracerWarning",
)  # fmt: skip

TILE = 64
NAMES = ("background", "road", "roof")
SMALL = {"gsd": (0.2, 0.3), "tile": TILE}
ARCHITECTURES = ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "MAnet", "UPerNet")
ENCODERS = ("resnet18", "mobilenet_v2", "tu-resnet18")


def settled(network: nn.Module) -> nn.Module:
    """With statistics of its own, so that a lost batch norm shows."""
    torch.manual_seed(1)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, TILE, TILE))
    return network.eval()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return settled(smp.Unet("resnet18", encoder_weights=None, classes=3))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(1, 3, TILE, TILE, generator=torch.Generator().manual_seed(2))


def expected(network: nn.Module, pixels: Tensor) -> Any:
    with torch.no_grad():
        return network(pixels).softmax(1)[:, 1:].numpy()


def imported(path: Path, folder: Path, **options: Any) -> Model:
    result = import_model(path, folder / "in.safetensors", options=ImportOptions(**options))
    assert "a window of noise gives scores from" in result.seen
    return result.model


def scores(model: Model, pixels: Tensor, backend: str = "auto") -> Any:
    options = EngineOptions(backend=backend, device="cpu", batch=1)  # type: ignore[arg-type]
    return open_predictor(model, TILE, options).predict(pixels.numpy())


@pytest.mark.parametrize(
    "form",
    ["save_pretrained", "state dict", "Lightning", pytest.param("nested", marks=pytest.mark.full)],
)
def test_checkpoints_of_smp(form: str, theirs: nn.Module, pixels: Tensor, tmp_path: Path) -> None:
    path, said = tmp_path / "net.pth", {"architecture": "unet", "encoder": "resnet18"}
    state = theirs.state_dict()
    if form == "save_pretrained":
        theirs.save_pretrained(tmp_path / "saved")
        path, said = tmp_path / "saved", {}
    elif form == "state dict":
        torch.save(state, path)
    else:
        prefix = "model." if form == "Lightning" else "model.seg_model."
        wrapped = {prefix + key: value for key, value in state.items()}
        content = {"state_dict": wrapped, "epoch": 4, "hyper_parameters": {"lr": 0.1}}
        torch.save(content | {"criterion.weight": torch.ones(3)}, path)
    model = imported(path, tmp_path, classes=NAMES, licence="CC0", **said, **SMALL)
    assert model.card.background
    assert [each.name for each in model.card.classes] == ["road", "roof"]
    assert model.card.licence == "CC0"
    assert "sha256" in model.card.sources[-1].name
    difference = np.abs(scores(model, pixels, "torch") - expected(theirs, pixels)).max()
    assert difference < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("form", ["save_pretrained", "state dict"])
def test_smp_matrix(
    form: str, architecture: str, encoder: str, pixels: Tensor, tmp_path: Path
) -> None:
    network = settled(smp.create_model(architecture, encoder, encoder_weights=None, classes=3))
    path, said = tmp_path / "net.pth", {"architecture": architecture.lower(), "encoder": encoder}
    if form == "save_pretrained":
        network.save_pretrained(tmp_path / "saved")
        path, said = tmp_path / "saved", {}
    else:
        torch.save(network.state_dict(), path)
    model = imported(path, tmp_path, classes=NAMES, **said, **SMALL)
    difference = np.abs(scores(model, pixels, "torch") - expected(network, pixels)).max()
    print(f"{architecture} {encoder} {form}: {difference:.1e}")
    assert difference < 1e-5


def test_arguments_of_the_constructor_are_kept(pixels: Tensor, tmp_path: Path) -> None:
    network = smp.Unet(
        "resnet18", encoder_weights=None, classes=3, encoder_depth=4, in_channels=4,
        decoder_channels=(64, 32, 16, 8), decoder_interpolation="bilinear", activation="sigmoid",
    ).eval()  # fmt: skip
    network.save_pretrained(tmp_path / "saved")
    bands = {"bands": ("r", "g", "b", "n"), "mean": (0.5,) * 4, "std": (0.2,) * 4}
    model = imported(tmp_path / "saved", tmp_path, classes=("a", "b", "c"), **bands, **SMALL)
    assert model.card.output == "multilabel"
    four = torch.cat([pixels, pixels[:, :1]], 1)
    with torch.no_grad():
        found, wanted = scores(model, four), network(four).numpy()
    assert np.abs(found - wanted).max() < 1e-4
    assert Card.from_json(model.card.to_json(), path="x") == model.card


def test_flags_of_the_constructor_are_kept(pixels: Tensor, tmp_path: Path) -> None:
    network = smp.DeepLabV3Plus(
        "mobilenet_v2", encoder_weights=None, classes=3, decoder_aspp_separable=False
    ).eval()
    network.save_pretrained(tmp_path / "saved")
    model = imported(tmp_path / "saved", tmp_path, classes=NAMES, **SMALL)
    assert model.card.arguments["decoder_aspp_separable"] is False
    assert np.abs(scores(model, pixels, "torch") - expected(network, pixels)).max() < 1e-5


class Last(nn.Module):
    """A network with something after it."""

    def __init__(self, network: nn.Module, last: Callable[[Tensor], Tensor], first: Any) -> None:
        super().__init__()
        self.network, self.last, self.first = network, last, first

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last(self.network(self.first(pixels)))


def same(x: Tensor) -> Tensor:
    return x


def bands_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


OUTPUTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "logits": (same, same),
    "softmax": (lambda x: x.softmax(1), same),
    "class ids": (lambda x: x.argmax(1), same),
    "class ids, one channel": (lambda x: x.argmax(1, keepdim=True), same),
    # As graphs from TensorFlow have it.
    "channels last": (lambda x: x.permute(0, 2, 3, 1), bands_first),
    "softmax, channels last": (lambda x: x.softmax(1).permute(0, 2, 3, 1), bands_first),
}


def to_onnx(network: nn.Module, path: Path, pixels: Tensor, *, free: bool = False) -> None:
    axes = {"x": {0: "n", 2: "rows", 3: "cols"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (pixels,), path, dynamo=False, input_names=["x"], dynamic_axes=axes
        )


@pytest.mark.parametrize("name", OUTPUTS)
def test_onnx_of_any_output(name: str, theirs: nn.Module, pixels: Tensor, tmp_path: Path) -> None:
    last, first = OUTPUTS[name]
    given = pixels.permute(0, 2, 3, 1) if first is bands_first else pixels
    to_onnx(Last(theirs, last, first).eval(), tmp_path / "net.onnx", given)
    model = imported(tmp_path / "net.onnx", tmp_path, classes=NAMES, **SMALL)
    wanted = expected(theirs, pixels)
    if name.startswith("class ids"):
        with torch.no_grad():
            ids = theirs(pixels).argmax(1).numpy()
        wanted = np.stack([ids == 1, ids == 2], 1).astype(np.float32)
    for backend in ("onnx", "openvino"):
        assert np.abs(scores(model, pixels, backend) - wanted).max() < 1e-4


def test_torchscript_and_openvino(theirs: nn.Module, pixels: Tensor, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(theirs, pixels).save(tmp_path / "net.pt")  # type: ignore[no-untyped-call]
        openvino.save_model(
            openvino.convert_model(theirs, example_input=pixels),
            tmp_path / "net.xml",
            compress_to_fp16=False,
        )
    for file, tolerance in (("net.pt", 1e-6), ("net.xml", 1e-4)):
        folder = tmp_path / file.replace(".", "_")
        folder.mkdir()
        model = imported(tmp_path / file, folder, classes=NAMES, **SMALL)
        assert np.abs(scores(model, pixels) - expected(theirs, pixels)).max() < tolerance


def test_metadata_of_deepness_and_mlm_is_read(
    theirs: nn.Module, pixels: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    to_onnx(theirs, path, pixels)
    network = onnx.load(path)
    for key, value in (
        ("class_names", {"0": "_background", "1": "road", "2": "roof"}),
        ("resolution", 25), ("model_type", "Segmentor"), ("standardization_mean", [0.4] * 3),
        ("standardization_std", [0.2] * 3), ("seg_thresh", 0.4),
    ):  # fmt: skip
        helper.set_model_props(
            network,
            {each.key: each.value for each in network.metadata_props} | {key: json.dumps(value)},
        )
    onnx.save(network, path)
    card = imported(path, tmp_path).card
    assert card.background
    assert [each.name for each in card.classes] == ["road", "roof"]
    assert (card.gsd, card.mean, card.threshold) == ((0.25, 0.25), (0.4,) * 3, 0.4)
    item = mlm_item(Model.load(tmp_path / "in.safetensors"), href="./x")
    (tmp_path / "item.json").write_text(json.dumps(item))
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    said = ImportOptions(
        architecture="unet", encoder="resnet18", gsd=(0.1, 0.2),
        classes=("background", "way", "house"),
    )  # fmt: skip
    result = import_model(
        tmp_path / "net.pth", tmp_path / "b.safetensors", options=said, card=tmp_path / "item.json"
    )
    assert result.model.card.tile == TILE
    assert result.model.card.classes[0].name == "way"


class Payload:
    """Something that a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def graph(inputs: list[Any], node: Any, domain: str = "") -> bytes:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph([node], "g", inputs, [output])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("lab", 1)]
    content: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return content


def value(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def refused() -> dict[str, tuple[str, bytes | Callable[[Path], None], dict[str, Any], str]]:
    """By case: file name, content, options and the line that says why not."""
    unet = {"architecture": "unet", "encoder": "resnet18"}
    x, y = value("x", 1, 3, TILE, TILE), value("z", 1, 3, TILE, TILE)
    square = value("x", 1, 3, 128, 128)

    def trained(path: Path) -> None:
        torch.save(smp.Unet("resnet18", encoder_weights=None, classes=3).state_dict(), path)

    def pickled(path: Path) -> None:
        torch.save({"state_dict": {}, "meta": Payload()}, path)

    def cut(path: Path) -> None:
        trained(path)
        path.write_bytes(path.read_bytes()[:100_000])

    return {
        "pickle": ("a.pth", pickled, unet, "holds Python objects besides tensors"),
        "cut short": ("a.pth", cut, unet, "damaged or cut short"),
        "page": ("a.pth", b"<!DOCTYPE html>", unet, "an HTML page, not a model"),
        "nothing said": ("a.pth", trained, {}, "add --architecture and --encoder"),
        "no classes": ("a.pth", trained, {**unet, "classes": None}, "3 channels; name the cl"),
        "no resolution": ("a.pth", trained, {**unet, "gsd": None}, "say which resolutions suit it"),
        "other classes": ("a.pth", trained, {**unet, "classes": ("a",)}, "gives 3 channels, but 1"),
        "another encoder": (
            "a.pth", trained, {**unet, "encoder": "resnet34"},
            "is missing, not (512, 512, 3, 3)",
        ),
        "another architecture": ("a.pth", trained, {**unet, "architecture": "fpn"}, "not a fpn on"),
        "unknown encoder": ("a.pth", trained, {**unet, "encoder": "r35"}, "cannot be built on"),
        "cut ONNX": ("a.onnx", graph([x], helper.make_node("Relu", ["x"], ["y"]))[:40], {}, "read"),
        "custom operators": (
            "a.onnx", graph([x], helper.make_node("Magic", ["x"], ["y"], domain="lab")), {},
            "cannot be read by onnxruntime",
        ),
        "two inputs": (
            "a.onnx", graph([x, y], helper.make_node("Add", ["x", "z"], ["y"])), {}, "has 2 inputs",
        ),
        "another size": (
            "a.onnx", graph([square], helper.make_node("Relu", ["x"], ["y"])), {},
            "takes windows of 128 pixels",
        ),
        "another shape": (
            "a.onnx", graph([x], helper.make_node("GlobalAveragePool", ["x"], ["y"])), {},
            "gives 1 x 3 x 1 x 1 for windows of 64 x 64",
        ),
        "no weights": ("a.xml", b"<net name='x'></net>", {}, "a.bin, are not beside it"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refused())
def test_bad_files_are_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content, options, line = refused()[name]
    path = tmp_path / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    said = {"classes": NAMES, **SMALL, **options}
    with pytest.raises(GeohrError) as raised:
        import_model(path, tmp_path / "in.safetensors", options=ImportOptions(**said))
    assert isinstance(raised.value, (InputError, UsageError))
    assert line in str(raised.value), str(raised.value)
    assert "never" not in capsys.readouterr().out
    assert not (tmp_path / "in.safetensors").exists()
    assert [each.name for each in tmp_path.iterdir()] == [file]


def test_an_imported_network_is_refused_where_it_cannot_be(
    theirs: nn.Module, pixels: Tensor, tmp_path: Path
) -> None:
    to_onnx(theirs, tmp_path / "net.onnx", pixels)
    model = imported(tmp_path / "net.onnx", tmp_path, classes=NAMES, **SMALL)
    with pytest.raises(UsageError, match=r"takes windows of 64 x 64 pixels only; use --tile 64"):
        open_predictor(model, 128, EngineOptions())
    with pytest.raises(UsageError, match="runs on backend onnx or openvino; got torch"):
        open_predictor(model, TILE, EngineOptions(backend="torch"))
    with pytest.raises(InputError, match="cannot be trained, fused or exported"):
        _ = model.network


def test_a_model_comes_from_the_hub(
    theirs: nn.Module, hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    theirs.save_pretrained(tmp_path / "saved")
    for file in (tmp_path / "saved").iterdir():
        hub.put("lab/roofs", file.name, file.read_bytes())
    said = ("--classes", ",".join(NAMES), "--gsd", "0.2,0.3", "--tile", TILE, "--range", "0,255")
    done = geohr_online("models", "import", "hf://lab/roofs", "--out", "m.safetensors", *said)
    assert done.code == 0, done.err
    card = read_card(tmp_path / "m.safetensors")
    assert (card.architecture, card.encoder, card.licence) == ("unet", "resnet18", "mit")


def test_outputs_name_licence_and_attribution(tmp_path: Path) -> None:
    sources = (Source("a", "CC-BY-4.0", "A lab"), Source("b", "MIT", "B lab"))
    card = one_class_card(licence="CC-BY-4.0", sources=sources)
    random_model(tmp_path / "m.safetensors", card=card)
    scene = write_scene(tmp_path / "s.tif", noise(64, 64))
    outputs = [tmp_path / "o.tif", tmp_path / "o.gpkg"]
    options = SegmentOptions(backend="torch")
    segment_to_files(scene, outputs, model=tmp_path / "m.safetensors", options=options)
    with rasterio.open(outputs[0]) as raster:
        tags = raster.tags()
    for told in (tags, pyogrio.read_info(outputs[1], layer="o")["layer_metadata"]):
        assert told["geohr_model_licence"] == "CC-BY-4.0"
        assert told["geohr_model_attribution"] == "A lab; B lab"
