"""A model on an engine: torch, OpenVINO or ONNX Runtime, all behind `Predictor`.

Importing this package imports no engine. A compiled engine reads its network from the cache
(`geohr.engines.cache`), and torch is needed only to fill it.
"""

from __future__ import annotations

import sys

from geohr.engines.open import BACKENDS, FallbackWarning, backends_for, open_predictor

# OpenVINO and NNCF report their use over the network from a process that a thread forks off,
# which can wait for a lock for ever. They do without where the package that does so is missing.
# Nothing above imports either of them.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__all__ = ["BACKENDS", "FallbackWarning", "backends_for", "open_predictor"]
