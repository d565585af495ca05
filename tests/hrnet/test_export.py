"""Compiled and exported networks give what eager ones do, at sizes that were not exported."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from geohr.hrnet import HRNetOCR, HRNetV2
from geohr.hrnet.segmentation import HRNetSegmentation
from tests.hrnet import reference

SMALL = "hrnetv2_w18_small_v1"
SHAPES = ((1, 3, 101, 75), (3, 3, 64, 64))

DYNAMIC = {
    0: torch.export.Dim("n", min=1, max=64),
    # 32 pixels leave one at stride 32, and export treats a size of one apart.
    2: torch.export.Dim("row", min=33, max=4096),
    3: torch.export.Dim("col", min=33, max=4096),
}


@pytest.fixture(scope="module", params=[HRNetV2, HRNetOCR], ids=lambda model: model.__name__)
def network(request: pytest.FixtureRequest) -> HRNetSegmentation:
    torch.manual_seed(0)
    model: HRNetSegmentation = request.param(SMALL, encoder_weights=None, classes=3)
    reference.settle(model, torch.randn(2, 3, 64, 64))
    return model


@pytest.fixture(autouse=True)
def exporters_own_warnings() -> Iterator[None]:
    """Torch's exporters use what torch deprecates; that is not ours to fail on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def check(made: Any, network: nn.Module, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> None:
    for shape in shapes:
        pixels = torch.randn(shape)
        with torch.no_grad():
            expected: Tensor = network(pixels)
            found = made(pixels)
        assert found.shape == expected.shape
        assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize(
    "fused", [False, pytest.param(True, marks=pytest.mark.full)], ids=["plain", "fused"]
)
def test_export(network: HRNetSegmentation, fused: bool) -> None:
    model = network.fuse() if fused else network
    program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(DYNAMIC,))
    check(program.module(), model)


@pytest.mark.parametrize(
    "fused", [pytest.param(False, marks=pytest.mark.full), True], ids=["plain", "fused"]
)
def test_onnx(network: HRNetSegmentation, fused: bool, tmp_path: Path) -> None:
    model = network.fuse() if fused else network
    path = tmp_path / "network.onnx"
    torch.onnx.export(
        model,
        (torch.randn(2, 3, 64, 96),),
        path,
        dynamo=True,
        dynamic_shapes=(DYNAMIC,),
        input_names=["pixels"],
        output_names=["logits"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    check(lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0]), model)


def test_compile_without_a_break(network: HRNetSegmentation) -> None:
    torch.compiler.reset()
    made = torch.compile(network, fullgraph=True, backend="aot_eager")
    check(made, network, SHAPES[:1])


@pytest.mark.full
def test_compile_for_all_sizes_at_once(network: HRNetSegmentation) -> None:
    torch.compiler.reset()
    check(torch.compile(network, fullgraph=True, dynamic=True, backend="aot_eager"), network)


@pytest.mark.full
def test_compile_with_inductor(network: HRNetSegmentation) -> None:
    torch.compiler.reset()
    check(torch.compile(network, fullgraph=True), network)


@pytest.mark.full
def test_compiled_training_gives_gradients(network: HRNetSegmentation) -> None:
    torch.compiler.reset()
    model = type(network)(SMALL, classes=3).train()
    compiled: Callable[[Tensor], tuple[Tensor, ...]] = torch.compile(model, backend="aot_eager")
    outputs = compiled(torch.randn(2, 3, 64, 64))
    total = torch.stack([output.sum() for output in outputs]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())
