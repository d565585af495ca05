"""torchgeo's sampler, a torch loop and a Hann accumulator; run inside torchgeo's environment."""

import json
import sys
import time

STARTED = time.perf_counter()

import geopandas
import numpy as np
import rasterio
import rasterio.features
import torch
from torchgeo.datasets import RasterDataset
from torchgeo.samplers import GridGeoSampler

scene, network, mask, polygons, tile, stride = sys.argv[1:7]
tile, stride = int(tile), int(stride)
model = torch.jit.load(network, map_location="cpu").eval()
if scene == "idle":
    sys.exit()
dataset = RasterDataset(paths=[scene])
sampler = GridGeoSampler(dataset, size=tile, stride=stride)
with rasterio.open(scene) as raster:
    profile, transform = raster.profile, raster.transform
height, width = profile["height"], profile["width"]
# Tiles reach beyond the scene on every side.
sums = np.zeros((height + 2 * tile, width + 2 * tile), np.float32)
weights = np.zeros_like(sums)
profile_1d = np.hanning(tile + 2)[1:-1].astype(np.float32)
weight = np.outer(profile_1d, profile_1d) + np.float32(1e-6)
tiles = 0


def predict(queries):
    images = torch.stack([dataset[query]["image"].float() for query in queries])
    with torch.inference_mode():
        scores = model(images)[:, 0].numpy()
    for (x, y, *_), score in zip(queries, scores, strict=True):
        col = tile + round((x.start - transform.c) / transform.a)
        row = tile + round((y.stop - transform.f) / transform.e)
        sums[row : row + tile, col : col + tile] += score * weight
        weights[row : row + tile, col : col + tile] += weight


held = []
for query in sampler:
    held.append(query)
    tiles += 1
    if len(held) == 4:
        predict(held)
        held = []
if held:
    predict(held)
inside = (slice(tile, tile + height), slice(tile, tile + width))
found = (sums[inside] / np.maximum(weights[inside], 1e-6) >= 0.5).astype(np.uint8)
profile.update(
    driver="GTiff", count=1, dtype="uint8", compress="lzw", nodata=None, photometric=None
)
profile = {name: value for name, value in profile.items() if value is not None}
with rasterio.open(mask, "w", **profile) as raster:
    raster.write(found, 1)
to_mask = time.perf_counter() - STARTED
shapes = rasterio.features.shapes(found, mask=found > 0, transform=transform)
features = [{"geometry": shape, "properties": {"value": value}} for shape, value in shapes]
geopandas.GeoDataFrame.from_features(features, crs=profile["crs"]).to_file(polygons)
print(json.dumps({"mask": to_mask, "polygons": time.perf_counter() - STARTED, "tiles": tiles}))
