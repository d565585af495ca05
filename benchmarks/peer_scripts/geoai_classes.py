"""geoai's predict_geotiff with a network of several classes; run inside geoai's environment."""

import sys

import numpy as np
import torch
from geoai.inference import predict_geotiff

scene, network, mask, classes, tile, stride, low, high = sys.argv[1:9]
torch.set_num_threads(1)
model = torch.jit.load(network, map_location="cpu").eval()
mean, std = np.array(low.split(","), np.float32), np.array(high.split(","), np.float32)
predict_geotiff(
    model,
    scene,
    mask,
    tile_size=int(tile),
    overlap=int(tile) - int(stride),
    num_classes=int(classes),
    output_dtype="uint8",
    output_nodata=255,
    blend_mode="cosine",
    preprocess_fn=lambda pixels: (pixels / 255 - mean[:, None, None]) / std[:, None, None],
    postprocess_fn=lambda scores: scores.argmax(0)[None].astype(np.uint8),
    device="cpu",
    verbose=False,
)
