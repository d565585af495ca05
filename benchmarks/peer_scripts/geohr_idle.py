"""geohr with its libraries imported and the network loaded, and no pixel read."""

import sys
from pathlib import Path

from geohr.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs import write_outputs  # noqa: F401  what a run imports
from geohr.run import prepare
from geohr.segmenting import segment_to_files  # noqa: F401

scene, model, precision = sys.argv[1:4]
options = SegmentOptions(precision=precision, gsd="native")
prepare(Path(scene), resolve_model(model), options)
