"""Checkpoints of OpenMMLab's own networks, with what they answer; run inside their environment.

mmcv's compiled operators and some libraries for data sets are not needed by any HRNet; empty
modules stand for them, so that the frameworks' own classes can be imported without them.
"""

import sys
import types
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

warnings.simplefilter("ignore")
ABSENT = ("mmcv.ops", "xtcocotools", "pycocotools", "modelindex")


class Stand(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(MetaPathFinder, Loader):
    """Finds the modules that are left out."""

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.startswith(ABSENT) else None

    def create_module(self, spec):
        return Stand(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())

import mmcv

mmcv.__version__ = "2.1.0"  # The newest that these releases allow; its networks are the same.

import torch
from mmengine.registry import init_default_scope
from torch import nn

WIDTHS = (18, 36, 72, 144)


def extra(multiscale=None):
    stages = {"stage1": {"num_modules": 1, "num_branches": 1, "block": "BOTTLENECK",
                         "num_blocks": (4,), "num_channels": (64,)}}  # fmt: skip
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        stages[f"stage{stage}"] = {
            "num_modules": modules, "num_branches": stage, "block": "BASIC",
            "num_blocks": (4,) * stage, "num_channels": WIDTHS[:stage],
        }  # fmt: skip
    if multiscale is not None:
        stages["stage4"]["multiscale_output"] = multiscale
    return stages


def head(**changes):
    return {
        "in_channels": list(WIDTHS), "in_index": (0, 1, 2, 3), "input_transform": "resize_concat",
        "channels": sum(WIDTHS), "dropout_ratio": -1, "num_classes": 5, "align_corners": False,
        "norm_cfg": {"type": "BN"}, **changes,
    }  # fmt: skip


class Network(nn.Module):
    """Parts under the names that the framework gives them, one after another."""

    def __init__(self, then=lambda outputs: outputs, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.then = then

    def forward(self, pixels):
        given = pixels
        for part in self.children():
            given = part(given)
        return self.then(given)


def segmentation(ocr):
    init_default_scope("mmseg")
    from mmseg.models.backbones import HRNet
    from mmseg.models.decode_heads import FCNHead, OCRHead
    from mmseg.models.utils import resize

    fcn = {"kernel_size": 1, "num_convs": 1, "concat_input": False}
    network = nn.Module()
    network.backbone = HRNet(extra(), norm_cfg={"type": "BN"})
    if ocr:
        network.decode_head = nn.ModuleList(
            [FCNHead(**head(**fcn)), OCRHead(**head(channels=512, ocr_channels=256))]
        )
    else:
        network.decode_head = FCNHead(**head(**fcn))

    def forward(pixels):
        streams = network.backbone(pixels)
        if ocr:
            coarse = network.decode_head[0](streams)
            logits = network.decode_head[1](streams, coarse)
        else:
            logits = network.decode_head(streams)
        return resize(logits, size=pixels.shape[2:], mode="bilinear", align_corners=False)

    network.forward = forward
    return network


def pose():
    init_default_scope("mmpose")
    from mmpose.models.backbones import HRNet
    from mmpose.models.heads import HeatmapHead

    made = HRNet(extra(multiscale=False))
    return Network(backbone=made, head=HeatmapHead(WIDTHS[0], 17, deconv_out_channels=None))


def detection():
    init_default_scope("mmdet")
    from mmdet.models.backbones import HRNet
    from mmdet.models.necks import HRFPN

    return Network(backbone=HRNet(extra()), neck=HRFPN(list(WIDTHS), 256))


def classification():
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS

    network = MODELS.build(
        {
            "type": "ImageClassifier",
            "backbone": {"type": "HRNet", "arch": "w18"},
            "neck": [
                {"type": "HRFuseScales", "in_channels": WIDTHS},
                {"type": "GlobalAveragePooling"},
            ],
            "head": {"type": "LinearClsHead", "in_channels": 2048, "num_classes": 7},
        }
    )
    tensors = network.forward
    network.forward = lambda pixels: tensors(pixels, mode="tensor")
    return network


def settle(network, pixels):
    """Statistics of its own for every norm, so that one that is lost shows."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.3, 0.9)
            nn.init.normal_(layer.bias, 0.0, 0.2)
    with torch.no_grad():
        network.train()
        network(pixels)
    network.eval()


folder = Path(sys.argv[1])
torch.manual_seed(0)
pixels = torch.randn(2, 3, 64, 64)
for name, make in {
    "mmsegmentation FCN": lambda: segmentation(ocr=False),
    "mmsegmentation OCR": lambda: segmentation(ocr=True),
    "mmpose heatmaps": pose,
    "mmdetection HRFPN": detection,
    "mmpretrain classifier": classification,
}.items():
    network = make()
    settle(network, pixels)
    with torch.no_grad():
        answer = network(pixels)
    answer = answer[0] if name == "mmpretrain classifier" and isinstance(answer, tuple) else answer
    # As mmengine's runner saves it, without the configuration.
    torch.save({"meta": {"epoch": 1}, "state_dict": network.state_dict()}, folder / f"{name}.pth")
    torch.save({"pixels": pixels, "answer": answer}, folder / f"{name}.answer.pth")
