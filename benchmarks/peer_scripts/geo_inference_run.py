"""geo-inference, which always overlaps its patches by half; run inside its environment."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

STARTED = time.perf_counter()

import geopandas
import rasterio
import rasterio.features
import torch
from geo_inference.geo_inference import GeoInference

scene, network, mask, polygons, tile, stride = sys.argv[1:7]
with tempfile.TemporaryDirectory() as folder:
    runner = GeoInference(
        model=network,
        work_dir=folder,
        mask_to_vec=False,
        device="cpu",
        num_classes=1,
        prediction_threshold=0.5,
    )
    if scene == "idle":
        sys.exit()
    tiles = 0
    inner = runner.model

    class Counted(torch.nn.Module):
        def forward(self, pixels):
            global tiles
            tiles += len(pixels)
            return inner(pixels.float())

    runner.model = Counted().eval()
    runner(inference_input=scene, patch_size=int(tile), workers=torch.get_num_threads())
    made = next(Path(folder).rglob("*_mask_*.tif"))
    shutil.copyfile(made, mask)
to_mask = time.perf_counter() - STARTED
with rasterio.open(mask) as raster:
    found, transform, crs = raster.read(1), raster.transform, raster.crs
shapes = rasterio.features.shapes(found, mask=found == 1, transform=transform)
features = [{"geometry": shape, "properties": {"value": value}} for shape, value in shapes]
geopandas.GeoDataFrame.from_features(features, crs=crs).to_file(polygons)
print(json.dumps({"mask": to_mask, "polygons": time.perf_counter() - STARTED, "tiles": tiles}))
