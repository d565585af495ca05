from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from geohr._runtime.redact import redact, redact_all
from geohr.errors import GeohrError, InputError, UsageError
from geohr.scene.provenance import identify
from geohr.workflows.batch.inputs import (
    BatchInput,
    check_template,
    find_sources,
    is_growing,
    output_path,
)
from geohr.workflows.batch.manifest import Entry, Manifest
from geohr.workflows.batch.options import BatchOptions


def names(
    folder: Path, *named: str, pattern: str | None = None, asset: str | None = None
) -> list[str]:
    found = find_sources([str(folder / name) for name in named], pattern=pattern, asset=asset)
    return [os.path.relpath(source.name, folder) for source in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.tif", "a.TIF", "c.jp2", "notes.md", ".hidden.tif", "deep/d.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_globs_and_files(tree: Path) -> None:
    assert names(tree, ".") == ["a.TIF", "b.tif", "c.jp2"]
    assert names(tree, ".", pattern="**/*.tif") == ["b.tif", "deep/d.tif"]
    assert names(tree, "*.tif", "b.tif", "deep/d.tif") == ["b.tif", "deep/d.tif"]
    with pytest.raises(InputError, match="no such file, folder or list"):
        names(tree, "none.tif")


def test_lists_tables_and_stac(tree: Path) -> None:
    (tree / "list.txt").write_text("# scenes\nb.tif\n\nhttps://host/x.tif\n")
    (tree / "table.csv").write_text("id,path\n1,b.tif\n2,deep/d.tif\n")
    item = {
        "type": "Feature",
        "id": "i",
        "assets": {
            "thumb": {"href": "t.gif"},
            "image": {"href": "./b.tif", "type": "image/tiff; application=geotiff"},
            "other": {"href": "c.jp2"},
        },
    }
    (tree / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    assert [each.name for each in find_sources([str(tree / "list.txt")])] == [
        str(tree / "b.tif"),
        "https://host/x.tif",
    ]
    assert names(tree, "table.csv") == ["b.tif", "deep/d.tif"]
    assert names(tree, "items.json") == ["b.tif"]
    assert names(tree, "items.json", asset="other") == ["c.jp2"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.txt", "vrt://b.tif?bands=1", "URLs of kind vrt:// are not read"),
        ("x.txt", "\xff", "cannot be read as a list"),
        ("x.csv", "id,place\n1,2\n", "has no column scene, path, url, href or file"),
        ("x.json", "[", "not a STAC Item"),
        ("x.json", '{"type": "Feature"}', "not a STAC Item"),
        ("x.json", "[" * 100_000, "not a STAC Item"),
        ("x.json", '{"type": "Feature", "assets": {}}', "no asset is a raster"),
    ],
)
def test_broken_lists_are_refused(name: str, text: str, line: str, tree: Path) -> None:
    (tree / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=line):
        names(tree, name)


def test_a_file_is_growing_until_it_has_settled(tree: Path) -> None:
    source = BatchInput(str(tree / "b.tif"))
    assert is_growing(source, 30)
    os.utime(source.name, (1, 1))
    assert not is_growing(source, 30)
    assert not is_growing(BatchInput("https://host/x.tif"), 30)


@pytest.mark.parametrize(
    ("template", "scene", "expected"),
    [
        ("{stem}.gpkg", "in/a b.tif", "a b.gpkg"),
        ("{parent}/{stem}.{suffix}.gpkg", "in/a.tif", "in/a.tif.gpkg"),
        ("{stem}.gpkg", "https://h/x/..%2F..%2Fetc.tif?sig=1", "etc.gpkg"),
        ("{stem}.gpkg", "in/a\nb\x00.tif", "a_b_.gpkg"),
        ("{stem}.gpkg", "in/.tif", "tif.gpkg"),
        ("{parent}/{stem}.gpkg", "../a.tif", "scenes/a.gpkg"),
    ],
)
def test_outputs_stay_in_their_folder(
    template: str, scene: str, expected: str, tmp_path: Path
) -> None:
    check_template(template)
    path = output_path(tmp_path, template, scene)
    assert path.resolve().relative_to(tmp_path.resolve()).as_posix() == expected


@pytest.mark.parametrize(
    "template",
    ["/etc/{stem}.gpkg", "../{stem}.gpkg", "{stem.__class__}.gpkg", "{0}.gpkg", "{stem!r}.gpkg",
     "{stem", "{stem:>9999999999}.gpkg"],
)  # fmt: skip
def test_templates_that_lead_elsewhere_are_refused(template: str) -> None:
    with pytest.raises(UsageError):
        check_template(template)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@host/a.tif",
        "cannot read https://host/a.tif?X-Amz-Signature=hunter2&b=1: no",
        "/vsicurl?url=hunter2",
        "AWS_SECRET_ACCESS_KEY=hunter2",
        '{"api_key": "hunter2"}',
        "token: hunter2",
    ],
)
def test_credentials_are_left_out(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "hunter2" not in str(redact_all({"a": [text, {"b": text}], "n": 1}))


@pytest.mark.parametrize(
    "text",
    [
        "out.gpkg: 3 objects; scene a/b?c.tif at https://host/x.tif, seconds=1.5 done",
        "/etc/passwd: not a raster that GDAL can read",
        "drop/my-token: no such file",
    ],
)
def test_plain_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_torn_manifest_goes_on(tmp_path: Path) -> None:
    entry = Entry("a.tif", "done", outputs=("a.gpkg",), fingerprint="f")
    Manifest(tmp_path).append(entry)
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"scene": "b.tif", "sta')
    Manifest(tmp_path).append(Entry("c.tif", "failed", error="x"))
    again = Manifest(tmp_path)
    assert again.last == {"a.tif": entry, "c.tif": Entry("c.tif", "failed", error="x")}
    assert again.made(entry)


def test_what_cannot_be_asked_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(np.arange(9).tobytes())
    assert identify([str(path)]) == identify([str(path)])
    address = ["http://127.0.0.1:9/a.tif?sig=hunter2"]
    assert identify(address) != identify(address)
    assert "hunter2" not in str(identify(address))


def test_options_without_an_output_are_refused() -> None:
    with pytest.raises(GeohrError, match="at least one output"):
        BatchOptions(name=())
