"""geoai's predict_geotiff and raster_to_vector; run inside geoai's environment."""

import json
import sys
import time

STARTED = time.perf_counter()

import numpy as np
import torch
from geoai.inference import predict_geotiff
from geoai.utils import raster_to_vector

scene, network, mask, polygons, tile, stride = sys.argv[1:7]
tile, stride = int(tile), int(stride)
model = torch.jit.load(network, map_location="cpu").eval()
if scene == "idle":
    sys.exit()
tiles = 0


class Counted(torch.nn.Module):
    def forward(self, pixels):
        global tiles
        tiles += len(pixels)
        return model(pixels)


predict_geotiff(
    Counted(),
    scene,
    mask,
    tile_size=tile,
    overlap=tile - stride,
    batch_size=4,
    num_classes=1,
    output_dtype="uint8",
    output_nodata=255,
    blend_mode="cosine",
    preprocess_fn=lambda pixels: pixels.astype(np.float32),
    postprocess_fn=lambda scores: (scores >= 0.5).astype(np.uint8),
    device="cpu",
    verbose=False,
)
to_mask = time.perf_counter() - STARTED
raster_to_vector(mask, polygons, threshold=0, min_area=0, simplify_tolerance=None)
print(json.dumps({"mask": to_mask, "polygons": time.perf_counter() - STARTED, "tiles": tiles}))
