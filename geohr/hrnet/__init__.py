"""The HRNet family in plain torch, registered with segmentation-models-pytorch on import."""

from geohr.hrnet.backbone import HRNet
from geohr.hrnet.bands import EXTRA_BANDS
from geohr.hrnet.checkpoints import Checkpoint, load_checkpoint, load_trunk
from geohr.hrnet.classification import HRNetClassifier
from geohr.hrnet.detection import HRNetV2p
from geohr.hrnet.encoder import IMAGENET_MEAN, IMAGENET_STD, HRNetEncoder, register_encoders
from geohr.hrnet.fuse import fuse
from geohr.hrnet.keypoints import HRNetHeatmaps
from geohr.hrnet.ocr import auxiliary_loss
from geohr.hrnet.segmentation import HRNetOCR, HRNetV1, HRNetV2, register_models
from geohr.hrnet.variants import VARIANTS, Variant

register_encoders()
register_models()

__all__ = [
    "EXTRA_BANDS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VARIANTS",
    "Checkpoint",
    "HRNet",
    "HRNetClassifier",
    "HRNetEncoder",
    "HRNetHeatmaps",
    "HRNetOCR",
    "HRNetV1",
    "HRNetV2",
    "HRNetV2p",
    "Variant",
    "auxiliary_loss",
    "fuse",
    "load_checkpoint",
    "load_trunk",
]
