"""What an object shows of itself in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Longest side, in pixels, of a picture in a notebook's cell.
PICTURE_SIDE = 320


def table(title: str, rows: Mapping[str, object]) -> str:
    """A table of names and values; empty values are left out."""
    lines = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value not in (None, "")
    )
    return f"<div><strong>{html.escape(title)}</strong><table>{lines}</table></div>"


def lines(text: str) -> str:
    """Text whose lines and columns stay as they are."""
    return f"<pre>{html.escape(text)}</pre>"


def picture(shares: NDArray[np.floating]) -> str:
    """Shares `(row, col)` in [0, 1] as a grey picture; NaN is transparent."""
    step = max(1, -(-max(shares.shape) // PICTURE_SIDE))
    part = shares[::step, ::step]
    known = np.isfinite(part)
    grey = (np.where(known, part, 0) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([grey, known.astype(np.uint8) * 255], axis=-1)).save(file, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
