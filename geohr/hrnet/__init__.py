"""The HRNet family in plain torch, registered with segmentation-models-pytorch on import."""

from geohr.hrnet.backbone import HRNet
from geohr.hrnet.encoder import HRNetEncoder, register_encoders
from geohr.hrnet.segmentation import HRNetV2, register_models
from geohr.hrnet.variants import VARIANTS, Variant

register_encoders()
register_models()

__all__ = ["VARIANTS", "HRNet", "HRNetEncoder", "HRNetV2", "Variant"]
