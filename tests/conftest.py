from __future__ import annotations

from hypothesis import settings

# A shared machine may stall any example; how long one takes is not what is tested.
settings.register_profile("geohr", deadline=None, max_examples=50)
settings.load_profile("geohr")
