from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geohr.engines import open_predictor
from geohr.errors import EngineError, InputError, UsageError
from geohr.models.card import Card, ClassLabel, Source, read_card
from geohr.models.model import Model, resolve_model
from geohr.models.networks import build
from geohr.options import EngineOptions
from tests.makers import noise, one_class_card, random_model


def test_it_reads_back_as_it_was(tmp_path: Path) -> None:
    card = one_class_card(
        sources=(Source("place", "CC0", "nobody"),), metrics={"place": {"iou": 0.5}}
    )
    network = build(card).eval()
    path = tmp_path / "model.safetensors"
    Model(network, card).save(path)
    back = Model.load(path)
    assert back.card == card
    for name, tensor in network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], tensor)
    assert not back.network.training


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    path = random_model(tmp_path / "model.safetensors")
    model = Model.load(path)
    model.save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    half = Model.load(tmp_path / "half.safetensors").network
    assert {tensor.dtype for tensor in half.parameters()} == {torch.float32}
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(half(pixels), model.network(pixels), atol=0.02, rtol=0.02)


def test_equal_weights_have_an_equal_digest(tmp_path: Path) -> None:
    paths = [
        random_model(tmp_path / f"{name}.safetensors", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    digests = [Model.load(path).digest for path in paths]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors model file"),
        (b"PK\x03\x04 a pickle in a zip file", "geohr loads no pickle"),
        ((2).to_bytes(8, "little") + b"{}", "without a geohr model card"),
        ((50).to_bytes(8, "little") + b"{}", "header is cut short"),
        ((2**40).to_bytes(8, "little") + b"{}", "a header of 1099511627776 bytes"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_card(path)


def test_a_card_that_does_not_fit_its_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    lying = one_class_card(encoder="hrnetv2_w18_small_v2")
    Model(build(one_class_card()), lying).save(path)
    with pytest.raises(InputError, match="not those of hrnetv2 on hrnetv2_w18_small_v2"):
        _ = Model.load(path).network


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    path = random_model(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        _ = Model.load(path).network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "1 to 254 classes"),
        ({"std": (0.1, 0.1)}, "one number for each band"),
        ({"range": (1.0, 1.0)}, "range must ascend"),
        ({"threshold": 0.0}, "threshold must be in"),
        ({"gsd": (0.0, 1.0)}, "above 0 metres"),
        ({"tile": 8}, "tile must be in"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        one_class_card(**changes)


def test_unknown_entries_of_a_card_are_refused() -> None:
    text = one_class_card().to_json().replace('"notes"', '"nodes"')
    with pytest.raises(InputError, match="unknown entries nodes"):
        Card.from_json(text, path="model.safetensors")


def test_names_that_mean_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundled model 'cars'; bundled: "):
        resolve_model("cars")
    with pytest.raises(InputError, match="no such model file"):
        resolve_model(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match=r"named \*.safetensors"):
        Model(build(one_class_card()), one_class_card()).save(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "card",
    [
        one_class_card(),
        one_class_card(
            classes=(ClassLabel("house", "#ff0000"), ClassLabel("road", "#00ff00")),
            background=True,
            threshold=None,
        ),
    ],
    ids=["one class", "two classes"],
)
def test_engines_agree(tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path / "cache"))
    model = Model.load(random_model(tmp_path / "model.safetensors", card=card))
    pixels = (noise(64, 64)[None].repeat(2, axis=0) / 255).astype(np.float32)
    found = {
        backend: open_predictor(model, 64, EngineOptions(backend=backend, batch=2)).predict(pixels)
        for backend in ("torch", "openvino")
    }
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(pixels))
    expected = logits.sigmoid() if len(card.classes) == 1 else logits.softmax(1)[:, 1:]
    for scores in found.values():
        assert scores.shape == (2, len(card.classes), 64, 64)
        np.testing.assert_allclose(scores, expected.numpy(), atol=2e-5)


def test_a_device_that_is_not_there_is_an_engine_error(tmp_path: Path) -> None:
    model = Model.load(random_model(tmp_path / "model.safetensors"))
    with pytest.raises(EngineError, match=r"'cuda:7' is not available here .*use --device cpu"):
        open_predictor(model, 64, EngineOptions(device="cuda:7"))
