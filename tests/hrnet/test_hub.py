"""ImageNet weights through the Hugging Face hub's own protocol, from a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import geohr.hrnet
from geohr.errors import InputError

COMMIT = "0" * 40
REPOSITORY = "timm/hrnet_w18_small.ms_in1k"

PROGRAM = """
import sys
import segmentation_models_pytorch as smp
from safetensors.torch import save_file
from geohr.hrnet import HRNetV1, HRNetV2

weights = sys.argv[1]
network = HRNetV2("hrnetv2_w18_small_v1", encoder_weights=weights, in_channels=4)
assert network.encoder.interpolation.fusion == "bilinear"
save_file(network.encoder.state_dict(), sys.argv[2])
fpn = smp.FPN("hrnetv2_w18_small_v1", encoder_weights=weights, encoder_depth=4)
save_file(fpn.encoder.state_dict(), sys.argv[3])
network.save_pretrained(sys.argv[4])
single = HRNetV1("hrnetv2_w18_small_v1", encoder_weights=weights).encoder.state_dict()
whole = network.encoder.state_dict()
assert all((single[key] == whole[key]).all() for key in single if key != "conv1.weight")
"""


def handler(folder: Path, requested: list[str]) -> type[BaseHTTPRequestHandler]:
    """Serve files as the hub does: the commit and a content hash in the headers."""

    class Hub(BaseHTTPRequestHandler):
        def answer(self, *, body: bool) -> None:
            requested.append(self.path)
            repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
            file = folder / Path(name).name
            if repository != REPOSITORY or not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A hub that holds one timm network with random weights."""
    folder = tmp_path / "hub"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(timm.create_model("hrnet_w18_small").state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "hrnet_w18_small"}))
    requested: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(folder, requested))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder, requested
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_imagenet_weights_come_from_the_hub(
    hub: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, requested = hub
    ours, theirs, saved = (tmp_path / name for name in ("v2.st", "fpn.st", "saved"))
    # The hub's client reads its address on import, so that a fresh interpreter is needed.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "imagenet", str(ours), str(theirs), str(saved)],
        env=os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")},
        cwd=Path(geohr.hrnet.__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"/{REPOSITORY}/resolve/main/model.safetensors" in requested
    published = load_file(folder / "model.safetensors")
    encoder = load_file(ours)
    for key, value in encoder.items():
        if key == "conv1.weight":
            torch.testing.assert_close(value[:, :3], published[key] * 0.75)
            torch.testing.assert_close(value[:, 3], published[key].mean(1) * 0.75)
        else:
            assert torch.equal(value, published[key])
    shallow = load_file(theirs)
    assert not any(key.startswith("stage4") for key in shallow)
    assert all(torch.equal(value, published[key]) for key, value in shallow.items())
    # A saved model holds its weights: it must not go back to the hub for others.
    assert json.loads((saved / "config.json").read_text())["encoder_weights"] is None


def test_without_a_hub_the_error_names_load_trunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be fetched .* load_trunk\(model.encoder, FILE\)"):
        geohr.hrnet.HRNetV2("hrnetv2_w18_small_v1", encoder_weights="imagenet")
