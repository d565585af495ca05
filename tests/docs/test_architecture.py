"""The page on the architecture says what stands: files, functions, folders, layers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
HANDOVERS_MAX = 15


def found(path: str) -> Path:
    """The file or folder that the page means: in the package, or in the repository."""
    inside = ROOT / "geohr" / path
    return inside if inside.exists() else ROOT / path


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+(?:\.py|/))`", PAGE))))
def test_every_file_and_folder_is_there(path: str) -> None:
    assert found(path).exists(), path


def test_every_step_of_a_scene_is_there() -> None:
    steps = re.findall(
        r"^\d+\. (.*?)(?=^\d+\.|^\n|\Z)", section("The path of a scene"), re.M | re.S
    )
    assert 0 < len(steps) <= HANDOVERS_MAX
    for path, name in re.findall(r"`([\w/]+\.py)`: `(\w+)`", section("The path of a scene")):
        tree = ast.parse(found(path).read_text("utf-8"))
        assert name in {getattr(node, "name", None) for node in tree.body}, f"{path}: {name}"


def test_every_part_of_the_package_is_on_the_map() -> None:
    listed = set(re.findall(r"`([\w/]+(?:\.py|/))`", section("The map")))
    for entry in (ROOT / "geohr").iterdir():
        name = entry.name + "/" * entry.is_dir()
        if not name.startswith("__") and name != "py.typed":
            assert name in listed, f"{name} is missing"
