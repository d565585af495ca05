from __future__ import annotations

import torch

# The networks here are tiny: a second thread gains nothing, and on a busy machine each operation
# then waits for a thread that has no core (40 steps took 3 s with one thread, 90 s with two).
torch.set_num_threads(1)
