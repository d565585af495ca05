"""A model on an engine: torch, OpenVINO or ONNX Runtime, all behind `Predictor`.

Importing this package imports no engine. A compiled engine reads its network from the cache
(`geohr.backends.cache`), and torch is needed only to fill it.
"""

from __future__ import annotations

from geohr.backends.choose import BACKENDS, FallbackWarning, backends_for, open_predictor

__all__ = ["BACKENDS", "FallbackWarning", "backends_for", "open_predictor"]
