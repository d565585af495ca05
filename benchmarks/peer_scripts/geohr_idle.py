"""geohr with its libraries imported and the network loaded, and no pixel read."""

import sys
from pathlib import Path

from geohr.api.segment import segment_to_files  # noqa: F401
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.write import write_outputs  # noqa: F401  what a run imports

scene, model, precision = sys.argv[1:4]
options = SegmentOptions(precision=precision, gsd="native")
prepare(Path(scene), resolve_model(model), options, LocalExecutor())
