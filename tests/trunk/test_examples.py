"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("default")  # what the kernel's own libraries warn of is theirs
def test_the_quickstart_runs_and_finds_buildings() -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(each["text"] for each in outputs if each["output_type"] == "stream")
    assert int(printed.split(" buildings,")[0].split()[-1]) > 10
    pictures = [each for each in outputs if "image/png" in each.get("data", {})]
    assert len(pictures) == 2
