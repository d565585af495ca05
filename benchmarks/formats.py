"""What loads: files that other tools wrote, and how far geohr's answers are from the tools' own.

`python -m benchmarks.formats` makes an environment for OpenMMLab's frameworks, Lightning and Keras
in a cache folder, lets every tool save a network with random weights and settled norms, loads the
file, and prints the largest difference of the outputs, as a share of the largest output. Networks
of segmentation-models-pytorch by architecture and encoder, and the names of HiSup, are in the
tests: `pytest -m full -s tests/models/test_import.py` and `tests/hrnet/test_formats.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openvino
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geohr.api.import_model import import_model
from geohr.api.import_options import ImportOptions
from geohr.engines import open_predictor
from geohr.hrnet import load_checkpoint
from geohr.hrnet.encoder import TIMM_REPOSITORIES
from geohr.options import EngineOptions

SCRIPTS = Path(__file__).parent / "peer_scripts"
FRAMEWORKS = (
    "mmengine mmcv-lite mmsegmentation mmdet mmpose mmpretrain addict yapf terminaltables ftfy "
    "prettytable einops json_tricks munkres termcolor opencv-python-headless"
)
"""Installed without what they ask for: torch and numpy are those of geohr's environment."""
OTHERS = "lightning keras"
TILE = 64
NAMES = ("background", "road", "roof")
SAID = ImportOptions(classes=NAMES, gsd=(0.2, 0.3), tile=TILE)
Engine = Literal["openvino", "onnx", "torch"]
ENGINES: tuple[Engine, ...] = ("onnx", "openvino")
Row = tuple[str, str, str, float]
"""Format, tool, how it was loaded, largest difference."""


def settled(network: nn.Module) -> nn.Module:
    """With norms that have the statistics of one batch, so that one that is lost shows."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.3, 0.9)
            nn.init.normal_(layer.bias, 0.0, 0.2)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, TILE, TILE))
    return network.eval()


def answer(network: nn.Module, pixels: Tensor) -> Any:
    """Its output, without gradients."""
    with torch.no_grad():
        return network(pixels)


def difference(found: Any, wanted: Any) -> float:
    """The largest, over the outputs of a network, as a share of the largest output."""
    if isinstance(wanted, Tensor):
        wanted = [wanted]
        found = list(found.values()) if isinstance(found, dict) else [found]
    elif isinstance(found, dict):
        found = list(found.values())
    return max(
        float((torch.as_tensor(one) - other).abs().max() / other.abs().max())
        for one, other in zip(found, wanted, strict=True)
    )


def timm_rows(folder: Path) -> Iterator[Row]:
    """Classifiers of timm; `features_only` networks have the same names."""
    names = {
        repository.removeprefix("timm/").partition(".")[0]
        for by in TIMM_REPOSITORIES.values()
        for repository in by.values()
    }
    pixels = torch.randn(1, 3, TILE, TILE)
    for name in sorted(names):
        torch.manual_seed(0)
        theirs = settled(timm.create_model(name))
        save_file(theirs.state_dict(), folder / "timm.safetensors")
        ours = load_checkpoint(folder / "timm.safetensors").network
        yield (
            "safetensors",
            f"timm {name}",
            "classifier",
            difference(answer(ours, pixels), answer(theirs, pixels)),
        )


def openmmlab_rows(folder: Path, python: Path) -> Iterator[Row]:
    """Networks of mmsegmentation, mmpose, mmdetection and mmpretrain."""
    run(python, "openmmlab_networks.py", folder)
    for path in sorted(folder.glob("mm*.answer.pth")):
        name = path.name.removesuffix(".answer.pth")
        told = torch.load(path, weights_only=True)
        found = load_checkpoint(folder / f"{name}.pth")
        yield (
            "checkpoint",
            name,
            found.format,
            difference(answer(found.network, told["pixels"]), told["answer"]),
        )


def scores(
    path: Path, folder: Path, pixels: Tensor, backend: Engine, said: ImportOptions = SAID
) -> Any:
    """What a file gives after `models import`, on an engine."""
    out = folder / f"{path.stem}.in.safetensors"
    model = import_model(path, out, options=said, overwrite=True).model
    options = EngineOptions(backend=backend, device="cpu", batch=1)
    return open_predictor(model, TILE, options).predict(pixels.numpy())


def graph_rows(folder: Path) -> Iterator[Row]:
    """ONNX, TorchScript and OpenVINO's IR of one U-Net, made by torch and OpenVINO."""
    torch.manual_seed(0)
    theirs = settled(smp.Unet("resnet18", encoder_weights=None, classes=3))
    pixels = torch.randn(1, 3, TILE, TILE)
    wanted = answer(theirs, pixels).softmax(1)[:, 1:]
    for exporter in (False, True):
        path = folder / f"torch{exporter}.onnx"
        torch.onnx.export(theirs, (pixels,), path, dynamo=exporter, external_data=False)
        for engine in ENGINES:
            tool = f"torch {torch.__version__.partition('+')[0]}, dynamo={exporter}"
            yield "ONNX", tool, engine, difference(scores(path, folder, pixels, engine), wanted)
    for name, script in (("trace", torch.jit.trace(theirs, pixels)), ("script", scripted(theirs))):
        script.save(folder / f"{name}.pt")
        found = scores(folder / f"{name}.pt", folder, pixels, "torch")
        yield "TorchScript", f"torch.jit.{name}", "torch", difference(found, wanted)
    for half in (False, True):
        path = folder / f"half{half}.xml"
        converted = openvino.convert_model(theirs, example_input=pixels)
        openvino.save_model(converted, path, compress_to_fp16=half)
        found = scores(path, folder, pixels, "openvino")
        weights = "float16" if half else "float32"
        yield "OpenVINO IR", f"{weights} weights", "openvino", difference(found, wanted)


def scripted(network: nn.Module) -> torch.jit.ScriptModule:
    """Compiled from its source, control flow and all."""
    made: torch.jit.ScriptModule = torch.jit.script(network)
    return made


def other_rows(folder: Path, python: Path) -> Iterator[Row]:
    """A checkpoint of Lightning's trainer, and graphs of Keras, whose channels are last."""
    run(python, "lightning_fit.py", folder)
    told = torch.load(folder / "lightning.answer.pth", weights_only=True)
    said = replace(SAID, architecture="unet", encoder="resnet18")
    found = scores(folder / "lightning.ckpt", folder, told["pixels"], "torch", said)
    yield "checkpoint", "Lightning's trainer", "torch", difference(found, told["answer"])
    run(python, "keras_graph.py", folder)
    told = torch.load(folder / "keras.answer.pth", weights_only=True)
    for engine in ENGINES:
        found = scores(folder / "keras.onnx", folder, told["pixels"], engine)
        yield "ONNX", "Keras, channels last", engine, difference(found, told["answer"])


def run(python: Path, script: str, folder: Path) -> None:
    """One script inside the environment."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), "-W", "ignore", str(SCRIPTS / script), str(folder)]
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)


def environment(folder: Path) -> Path:
    """The interpreter of an environment with the frameworks, on top of geohr's own."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        site = next((folder / "lib").glob("python*")) / "site-packages"
        (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *OTHERS.split()], check=True)
        subprocess.run([*install, "--no-deps", *FRAMEWORKS.split()], check=True)
    return python


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "geohr-benchmarks")
    parts = ("timm", "openmmlab", "graphs", "others")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| format | tool | as | largest difference |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def python() -> Path:
            return environment(args.cache / "venvs" / "formats")

        rows: dict[str, Callable[[], Iterator[Row]]] = {
            "timm": lambda: timm_rows(folder),
            "openmmlab": lambda: openmmlab_rows(folder, python()),
            "graphs": lambda: graph_rows(folder),
            "others": lambda: other_rows(folder, python()),
        }
        for part in args.only:
            for form, tool, way, found in rows[part]():
                print(f"| {form} | {tool} | {way} | {found:.1e} |", flush=True)


if __name__ == "__main__":
    main()
