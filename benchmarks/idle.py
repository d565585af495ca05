"""geohr with its libraries imported and the network loaded, and no pixel read.

`benchmarks.peers` runs `python -m benchmarks.idle SCENE MODEL PRECISION` to measure its memory.
"""

import sys
from pathlib import Path

from geohr.api.segment import segment_to_files  # noqa: F401
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.write import write_outputs  # noqa: F401  what a run imports

if __name__ == "__main__":
    scene, model, precision = sys.argv[1:]
    options = SegmentOptions.from_mapping({"precision": precision, "gsd": "native"}, source="peers")
    prepare(Path(scene), resolve_model(model), options, LocalExecutor())
