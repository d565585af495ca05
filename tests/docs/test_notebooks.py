"""The notebooks run from top to bottom, as they lie in the repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import geopandas
import nbformat
import pyogrio
import pytest
from nbclient import NotebookClient

from geohr.models.model import Model

EXAMPLES = Path(__file__).parents[2] / "examples"
# What the kernel's own libraries warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the sample data, to write into."""
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    return tmp_path


def execute(name: str, workplace: Path) -> list[Any]:
    """All outputs of a notebook."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(workplace)}}
    NotebookClient(notebook, timeout=900, startup_timeout=300, resources=place).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(outputs: list[Any]) -> str:
    """What was printed, warnings and progress left out."""
    return "".join(
        each["text"]
        for each in outputs
        if each["output_type"] == "stream" and each["name"] == "stdout"
    )


def pictures(outputs: list[Any]) -> int:
    """How many pictures were drawn."""
    return sum("image/png" in each.get("data", {}) for each in outputs)


def test_own_model_trains_evaluates_and_segments(workplace: Path) -> None:
    outputs = execute("own_model", workplace)
    assert Model.load(workplace / "out" / "mine.safetensors").card.name == "mine"
    text = printed(outputs)
    scores = dict(line.rsplit(maxsplit=1) for line in text.splitlines() if line.startswith("iou"))
    assert 0 <= float(scores["iou"]) <= 1
    assert pictures(outputs) == 1
    assert len(pyogrio.read_dataframe(workplace / "out" / "mine.gpkg", layer="mine")) > 0


@pytest.mark.full
def test_quality_control_finds_doubt_disagreement_and_no_seams(workplace: Path) -> None:
    outputs = execute("quality_control", workplace)
    text = printed(outputs)
    share = float(text.split("mean disagreement ")[1].split(",")[0])
    assert 0 < share < 0.5
    *_, blended, cut = (
        float(line.split()[-1]) for line in text.splitlines() if "seam score" in line
    )
    assert 0.5 < blended < 1.5
    assert blended < cut
    assert pictures(outputs) == 2
    assert (workplace / "out" / "report.html").stat().st_size > 50_000


@pytest.mark.full
def test_web_export_writes_both_classes_in_both_formats(workplace: Path) -> None:
    outputs = execute("web_export", workplace)
    objects = geopandas.read_parquet(workplace / "out" / "classes.parquet")
    assert set(objects["class"]) == {"building", "vegetation"}
    assert (objects.area_m2 >= 5).all()
    tiles = pyogrio.read_dataframe(workplace / "out" / "classes.pmtiles", layer="classes")
    assert set(tiles["class"]) == {"building", "vegetation"}
    assert pictures(outputs) == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
