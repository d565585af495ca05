"""What tasks do for each other, and what they do when something goes wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio

from geohr._runtime import file_store, stores
from geohr._runtime.file_store import FolderStore, open_file_store
from geohr._runtime.stores import gdal_options
from geohr.errors import LockedError, OutputError
from geohr.workflows.cells.plan import read_plan
from tests.cells.test_cells import assert_same, objects_of
from tests.command import Geohr
from tests.imagery.servers import Server, put_object, range_server

pytestmark = pytest.mark.usefixtures("local_predictor")
OPTIONS = ("--instances", "1", "--threshold", "0.5", "--cell", "60m")


def planned(geohr: Geohr, scenes: list[Path], model: Path, out: str | Path, *more: str) -> None:
    ended = geohr("cells", "plan", *scenes, "--model", model, "--out", out, *OPTIONS, *more)
    assert ended.code == 0, ended.err


def test_cells_in_a_bucket(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr, store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The plan, the cells and the data set lie in a bucket; the map is that of a folder."""
    put_object(store, "country", model)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    plan = "s3://country/a/plan.json"
    planned(geohr, scenes, model, plan)
    assert "exists; choose another name" in geohr(
        "cells", "plan", *scenes, "--model", model, "--out", plan, *OPTIONS
    ).err  # fmt: skip
    assert geohr("cells", "run", plan).code == 0
    again = geohr("cells", "run", plan)
    count = len(read_plan(plan).cells)
    assert f"done=0 skipped={count}" in again.out
    out = "s3://country/a/map.parquet"
    joined = geohr("cells", "join", plan, "--out", out)
    assert joined.code == 0, joined.err
    one = tmp_path / "one"
    one.mkdir()
    outputs = ["--out", one / "b.parquet", "--out", one / "classes.tif"]
    assert geohr("segment", *scenes, "--model", model, *outputs, *OPTIONS[:4]).code == 0
    bucket = open_file_store("s3://country/a")
    for name in bucket.sizes("map.parquet"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bucket.read(name) or b"")
    assert_same(objects_of(tmp_path / "map.parquet"), objects_of(one / "b.parquet"))
    with (
        rasterio.Env(**gdal_options(os.environ)),
        rasterio.open("/vsis3/country/a/map.classes.vrt") as there,
        rasterio.open(one / "classes.tif") as here,
    ):
        assert (there.read() == here.read()).all()
    assert not bucket.sizes("plan.cells/locks")


def test_a_lock_in_a_bucket_is_taken_over_from_the_dead(
    model: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_object(store, "locks", model)
    monkeypatch.setattr(file_store, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(file_store, "DEAD_SECONDS", 20.0)
    bucket = open_file_store("s3://locks/a")
    with bucket.locked("cell", what="cell r0c0"):
        with pytest.raises(LockedError, match=r"r0c0: process .* is working on it"):
            bucket.locked("cell", what="cell r0c0").__enter__()
        assert bucket.sizes("locks")
    assert not bucket.sizes("locks")
    monkeypatch.setattr(file_store, "DEAD_SECONDS", 0.3)
    bucket.put("locks/cell", json.dumps({"host": "gone", "process": 1, "beat": 0}).encode())
    with bucket.locked("cell", what="cell r0c0"):
        assert bucket.sizes("locks")
    with pytest.raises(OutputError, match="NoSuchBucket"):
        open_file_store("s3://nowhere/a").put("b", b"")


@pytest.fixture
def gateway(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server before the store, which cuts connections and refuses as it is told."""
    with range_server(upstream=store.partition("://")[2]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


def test_a_bucket_without_permission(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr, store: str, gateway: Server
) -> None:
    """Objects cannot be written, then fragments; then all can, and the same command goes on."""
    put_object(store, "denied", model)
    plan = tmp_path / "plan.json"
    planned(geohr, scenes[:1], model, plan, "--to", "s3://denied/a")
    read = read_plan(plan)
    name = read.cells[0].name
    for refused in ("/objects/", "/fragments/"):
        gateway.ask(refused=refused)
        ended = geohr("cells", "run", plan, "--cell", name)
        assert ended.code == 6, ended.err
        last = ended.err.strip().splitlines()[-1]
        assert "the store cannot be written" in last
        assert "set AWS_ACCESS_KEY_ID" in last
        assert not read.store.sizes("done")
        assert not any(each.startswith(refused[1:]) for each in read.store.sizes(""))
        told = json.loads(geohr("cells", "status", plan, "--json").out)
        assert told["failures"] == [name]
    gateway.ask(refused="")
    assert geohr("cells", "run", plan, "--cell", name).code == 0
    assert f"1 done, 0 failed, {len(read.cells) - 1} to go" in geohr("cells", "status", plan).out


def test_a_bucket_that_drops_the_connection_within_a_part(
    model: Path, tmp_path: Path, store: str, gateway: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is sent again; where that does not help, nothing has the final name."""
    put_object(store, "dropped", model)
    large = tmp_path / "large.tif"
    large.write_bytes(os.urandom(12 * 2**20))
    bucket = open_file_store("s3://dropped/a")
    gateway.ask(cut_uploads=2)
    bucket.put("classes/r0.tif", large)
    assert gateway.ask().cut_uploads == 0
    assert bucket.read("classes/r0.tif") == large.read_bytes()
    monkeypatch.setattr(stores, "RETRIES", 1)
    bucket = open_file_store("s3://dropped/a")
    gateway.ask(cut_uploads=100)
    with pytest.raises(OutputError, match=r"classes/r1.tif: the store cannot be written") as said:
        bucket.put("classes/r1.tif", large)
    assert len(str(said.value).splitlines()) == 1
    gateway.ask(cut_uploads=0)
    assert list(bucket.sizes("classes")) == ["classes/r0.tif"]
    bucket.put("classes/r1.tif", large)
    assert bucket.sizes("classes")["classes/r1.tif"] == large.stat().st_size


@pytest.fixture
def plan(scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr) -> Path:
    """A plan of a few cells of copies of the scenes, which a test may change."""
    copies = [tmp_path / each.name for each in scenes]
    for copy, scene in zip(copies, scenes, strict=True):
        copy.write_bytes(scene.read_bytes())
    planned(geohr, copies, model, tmp_path / "plan.json", "--no-classes")
    return tmp_path / "plan.json"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that begin with one of these cannot be written."""
    names: list[str] = []
    put = FolderStore.put

    def refuse(store: FolderStore, name: str, content: Any) -> None:
        if any(name.startswith(each) for each in names):
            raise OutputError(f"{store.address(name)}: no space left on the device")
        put(store, name, content)

    monkeypatch.setattr(FolderStore, "put", refuse)
    return names


def test_a_cell_that_fails_is_told_and_tried_again(
    plan: Path, tmp_path: Path, geohr: Geohr, failing: list[str]
) -> None:
    """Two cells cannot write; what is whole is joined, and the rest when they can."""
    cells = [each.name for each in read_plan(plan).cells]
    failing += [f"fragments/{name}" for name in cells[:2]]
    ended = geohr("cells", "run", plan)
    assert ended.code == 4
    assert f"2 of {len(cells)} cells failed; see geohr cells status" in ended.err
    assert not (tmp_path / "plan.cells" / "fragments" / f"{cells[0]}.npz").exists()
    told = json.loads(geohr("cells", "status", plan, "--json").out)
    assert (told["done"], told["failed"], told["to_go"]) == (len(cells) - 2, 2, 0)
    assert all("no space left" in each for each in told["reasons"])
    assert "2 failed" in geohr("cells", "status", plan).out
    out = tmp_path / "map.parquet"
    part = geohr("cells", "join", plan, "--out", out)
    assert "left out that go on in cells not done" in part.out
    before = objects_of(out)
    failing.clear()
    assert f"done=2 skipped={len(cells) - 2}" in geohr("cells", "run", plan).out
    whole = geohr("cells", "join", plan, "--out", out)
    assert "; 2 cells copied" in whole.out
    assert "left out" not in whole.out
    after = objects_of(out)
    assert len(after) > len(before)
    assert set(before["key"]) <= set(after["key"])


def test_what_is_refused_is_said_in_a_line(
    plan: Path, scenes: list[Path], tmp_path: Path, geohr: Geohr
) -> None:
    read = read_plan(plan)
    first = read.cells[0].name
    assert geohr("cells", "join", plan, "--out", tmp_path / "m").code == 3
    with read.store.locked(first, what=first):
        held = geohr("cells", "run", plan, "--cell", first)
        assert held.code == 5
        assert "another run is writing there" in held.err
        assert geohr("cells", "run", plan).code == 5
    for arguments, code, said in (
        (["--cell", "r9"], 2, "no cell r9; the plan has"),
        (["--task", "5/4"], 2, "--task must be N/COUNT"),
        (["--task", "1/4", "--cell", first], 2, "give one of them"),
    ):
        ended = geohr("cells", "run", plan, *arguments)
        assert (ended.code, said in ended.err) == (code, True), ended.err
    (tmp_path / scenes[0].name).write_bytes(scenes[1].read_bytes())
    read.store.delete(read.marker(read.cells[0]))
    changed = geohr("cells", "run", plan, "--cell", first)
    assert changed.code == 3
    assert f"{scenes[0].name}: was changed since the plan was made" in changed.err
    fragments = tmp_path / "plan.cells" / "fragments"
    for path in fragments.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    (tmp_path / scenes[0].name).unlink()
    gone = geohr("cells", "run", plan, "--cell", first)
    assert gone.code == 3
    assert len(gone.err.strip().splitlines()) <= 2
    other = tmp_path / "other.json"
    older = plan.read_text().replace('"version": "', '"version": "0.0.')
    for text, code, said in (
        ("{}", 3, "is no plan of cells"),
        ("no json", 3, "is no plan of cells"),
        (older, 2, "was made with geohr 0.0."),
    ):
        other.write_text(text)
        ended = geohr("cells", "status", other)
        assert (ended.code, said in ended.err) == (code, True), ended.err
    assert geohr("cells", "run", tmp_path / "none.json").code == 3
