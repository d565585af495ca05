"""Networks in int8, by NNCF's post-training quantisation."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import TypeVar

from geohr.encoding import Batch
from geohr.engines.cores import PIXELS
from geohr.errors import EngineError

Network = TypeVar("Network")


def quantise(network: Network, batches: list[Batch]) -> Network:
    """The network with convolutions in int8, their ranges taken from what it sees.

    Args:
        network: An OpenVINO or ONNX model with one input named as in `convert`.
        batches: `(n, band, row, col)` each, normalised.

    Raises:
        EngineError: When NNCF is not installed.
    """
    if find_spec("nncf") is None:
        raise EngineError("int8 needs NNCF; pip install 'geohr[int8]', or use another --precision")
    with quiet():
        import nncf

        data = nncf.Dataset([{PIXELS: batch} for batch in batches])
        quantised: Network = nncf.quantize(network, data, subset_size=len(batches))
    return quantised


@contextmanager
def quiet() -> Iterator[None]:
    """Without NNCF's log and its bars, which it draws on stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
