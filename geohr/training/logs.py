"""The history of a run as files: CSV, and TensorBoard events if TensorBoard is installed."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from geohr._runtime.files import written_whole
from geohr.training.options import NOT_SCORES
from geohr.training.state import State


def write_log(path: Path, state: State) -> None:
    """Write the history as CSV, atomically.

    Raises:
        OutputError: When it cannot be written.
    """
    names = list(dict.fromkeys(name for record in state.history for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(state.history)
    with written_whole(path) as part:
        part.write_text(text.getvalue(), "utf-8")


def write_scalars(folder: Path, state: State) -> None:
    """Write the history as TensorBoard events, if TensorBoard is installed.

    All events are written again each time, so that a resumed run has no step twice. Scores are
    grouped: `IoU/PLACE` for each place, and `IoU/mean`.

    Args:
        folder: The folder of the event file.
        state: The state of the run.
    """
    if find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(folder) as writer:
        for record in state.history:
            for name, value in scalars(record).items():
                writer.add_scalar(name, value, int(record["step"]))


def scalars(record: Mapping[str, float]) -> dict[str, float]:
    """What of a validation makes a curve, by its name in TensorBoard."""
    places = {f"IoU/{name}": value for name, value in record.items() if name not in NOT_SCORES}
    known = {name: record[name] for name in ("loss", "learning_rate") if name in record}
    return {**known, **places, **({"IoU/mean": record["score"]} if places else {})}
