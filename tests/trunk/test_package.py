"""How the package is put together: exports, layers, lazy imports."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import geohr

ROOT = Path(geohr.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "encoding", "geobox"),
    ("_runtime", "options", "geodesy", "hrnet"),
    ("scene", "models"),
    ("tiling", "polygons"),
    ("stitching",),
    ("engines",),
    ("inference",),
    ("outputs", "evaluation"),
    ("api", "training"),
    ("cluster",),
    ("workflows",),
    ("viewer",),
)
"""Packages by layer, lowest first; each imports only from its own layer or lower ones."""

HEAVY = {
    "torch": {"hrnet", "models", "engines", "training"},
    "click": set(),
    "dask": {"cluster"},
    "distributed": {"cluster"},
}
"""Which packages of the library may import what at the top of a module."""


def modules() -> dict[str, list[tuple[str, bool]]]:
    """By part of the library: what its files import, and whether at the top of the file."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            top = node in tree.body
            if isinstance(node, ast.Import):
                found.setdefault(part, []).extend((each.name, top) for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.setdefault(part, []).append((node.module, top))
    return found


def test_layers_import_only_from_lower_ones() -> None:
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    for part, imports in modules().items():
        if part in ("__init__", "__main__"):
            continue
        assert part in level, f"say in which layer {part} is"
        for name, _ in imports:
            if name.startswith("geohr."):
                assert level[name.split(".")[1]] <= level[part], f"{part} imports {name}"


def graph() -> dict[str, set[str]]:
    """By module of the package: the modules that it imports anywhere, also inside functions."""
    names = {
        ".".join(("geohr", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
    }
    edges: dict[str, set[str]] = {}
    for name, path in names.items():
        edges[name] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for each in node.names:
                    inner = f"{node.module}.{each.name}"
                    edges[name].add(inner if inner in names else node.module)
        edges[name] &= names.keys()
    # The lazy table of the package's own __init__ names everything, and imports nothing itself.
    edges["geohr"] = set()
    return edges


def test_no_module_imports_itself_through_others() -> None:
    TopologicalSorter(graph()).prepare()


def classes() -> list[tuple[str, str]]:
    """Module and name of every public class of the package."""
    return [
        (str(path.relative_to(ROOT)), node.name)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def test_no_module_is_named_for_a_doing() -> None:
    assert [
        path for path in ROOT.rglob("*.py") if path.stem.endswith("ing") and path.stem != "encoding"
    ] == []


def test_no_class_is_named_by_a_participle() -> None:
    named = [
        (where, name) for where, name in classes() if re.search(r"[a-z](ed|(?<!Warn)ing)$", name)
    ]
    assert named == []


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for where, name in classes():
        places.setdefault(name, []).append(where)
    assert {name: each for name, each in places.items() if len(each) > 1} == {}


def test_modules_and_functions_stay_short() -> None:
    for path in ROOT.rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 80, f"{path}: {node.name} has {length} lines"


def test_the_package_is_a_map_that_fits_on_a_screen() -> None:
    shown = [each for each in ROOT.iterdir() if not each.name.startswith("__pycache__")]
    assert len(shown) <= 24


@pytest.mark.parametrize("heavy", HEAVY)
def test_heavy_libraries_stay_where_they_belong(heavy: str) -> None:
    for part, imports in modules().items():
        for name, top in imports:
            if top and name.split(".")[0] == heavy:
                assert part in HEAVY[heavy], f"{part} imports {name}"


def test_the_library_does_not_print() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path


@pytest.mark.parametrize("name", geohr.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(geohr, name)
    if name != "__version__":
        assert getattr(geohr, name).__doc__


VERBS = {
    "batch": "run_batch",
    "clean": "clean_folder",
    "models": "bundled_models",
    "report": "write_report",
}
"""Functions of commands that are not named as their command is."""
ELSEWHERE = {"cells", "check", "completion", "doctor"}
"""Commands about the shell, and groups whose commands are functions of their own."""


def test_every_command_is_a_function() -> None:
    from geohr_cli.main import geohr as group

    verbs = {VERBS.get(name, name) for name in group.commands if name not in ELSEWHERE}
    assert verbs <= set(geohr.__all__)
    assert all(callable(getattr(geohr, name)) for name in verbs)


def test_public_names_are_sorted() -> None:
    assert geohr.__all__ == sorted(geohr.__all__)
    assert set(geohr.__all__) == set(dir(geohr))


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, geohr; print([m for m in ('torch', 'click', 'rasterio', 'numpy', 'pandas')"
    assert run(f"{code} if m in sys.modules])").strip() == "[]"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['geohr', 'segment', '--help']\n"
        "from geohr_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'rasterio', 'numpy', 'pandas') if m in sys.modules])"
    )
    assert run(code).strip().splitlines()[-1] == "[]"


def test_functions_stay_functions_after_their_modules_are_imported() -> None:
    code = (
        "import geohr, geohr.api.segment, geohr.api.stitch, geohr.api.tile\n"
        "print(callable(geohr.segment), callable(geohr.predict))"
    )
    assert run(code).strip() == "True True"


def test_benchmarks_and_recipes_import() -> None:
    for folder in ("benchmarks", "recipes"):
        for path in (ROOT.parent / folder).glob("[a-z]*.py"):
            importlib.import_module(f"{folder}.{path.stem}")
