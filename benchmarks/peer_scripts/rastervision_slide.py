"""Raster Vision's sliding windows and smooth labels; run inside its environment."""

import json
import sys
import time

STARTED = time.perf_counter()

import geopandas
import numpy as np
import rasterio
import rasterio.features
import torch
from rastervision.core.data import ClassConfig, SemanticSegmentationLabels
from rastervision.pytorch_learner import SemanticSegmentationSlidingWindowGeoDataset
from torch.utils.data import DataLoader

scene, network, mask, polygons, tile, stride = sys.argv[1:7]
tile, stride = int(tile), int(stride)
model = torch.jit.load(network, map_location="cpu").eval()
if scene == "idle":
    sys.exit()
classes = ClassConfig(names=["background", "building"])
dataset = SemanticSegmentationSlidingWindowGeoDataset.from_uris(
    image_uri=scene, class_config=classes, size=tile, stride=stride, normalize=False
)
tiles = 0


def predictions():
    global tiles
    for pixels, _ in DataLoader(dataset, batch_size=4):
        tiles += len(pixels)
        with torch.inference_mode():
            score = model(pixels.float())
        yield from torch.cat([1 - score, score], dim=1).numpy()


labels = SemanticSegmentationLabels.from_predictions(
    dataset.windows,
    predictions(),
    smooth=True,
    extent=dataset.scene.extent,
    num_classes=2,
)
found = labels.get_label_arr(dataset.scene.extent).astype(np.uint8)
with rasterio.open(scene) as raster:
    profile = raster.profile
keep = ("height", "width", "crs", "transform")
with rasterio.open(
    mask,
    "w",
    driver="GTiff",
    count=1,
    dtype="uint8",
    compress="lzw",
    **{name: profile[name] for name in keep},
) as raster:
    raster.write(found[: profile["height"], : profile["width"]], 1)
to_mask = time.perf_counter() - STARTED
shapes = rasterio.features.shapes(found, mask=found == 1, transform=profile["transform"])
features = [{"geometry": shape, "properties": {"value": value}} for shape, value in shapes]
geopandas.GeoDataFrame.from_features(features, crs=profile["crs"]).to_file(polygons)
print(json.dumps({"mask": to_mask, "polygons": time.perf_counter() - STARTED, "tiles": tiles}))
