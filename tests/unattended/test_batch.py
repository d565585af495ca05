"""Many scenes unattended: what can be done is done, what fails is told, nothing is done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas
import pyogrio
import pytest
import rasterio
import shapely

from geohr._runtime.locks import locked
from geohr._runtime.stop import Stop
from geohr.engines import open_predictor
from geohr.errors import InterruptedRunError
from geohr.models.model import Model
from geohr.options import EngineOptions, SegmentOptions
from geohr.workflows.batch.manifest import Entry
from geohr.workflows.batch.options import BatchOptions
from geohr.workflows.batch.run import run_batch
from geohr.workflows.batch.worker import Task, Worker
from tests.command import Geohr
from tests.hostile import makers
from tests.makers import ORIGIN, UTM, noise, write_scene

ARGUMENTS = ("--backend", "openvino", "--tile", "64", "--settle", "0")
BROKEN = {
    "truncated": makers.truncated,
    "corrupt": makers.corrupt,
    "empty": makers.empty,
    "text": makers.text,
    "boundless": makers.boundless,
    "block": makers.one_block,
    "palette": makers.palette,
    "points": makers.control_points,
    "bands": makers.filled(noise(64, 64, bands=1)),
    "vrt": makers.virtual("scene.tif"),
}


@pytest.fixture(scope="module", autouse=True)
def compiled(model: Path, cache: None) -> None:
    """Compile the model in this process, so that those that segment need no torch."""
    open_predictor(Model.load(model), 64, EngineOptions(backend="openvino"))


def make_drop(folder: Path, *, good: int, broken: int) -> Path:
    """A folder with good scenes and broken ones of different kinds."""
    drop = folder / "drop"
    drop.mkdir()
    for number in range(good):
        write_scene(drop / f"good{number:02}.tif", noise(70, 80, seed=number))
    for name, maker in list(BROKEN.items())[:broken]:
        kept = folder / name
        kept.mkdir()
        maker(kept).rename(drop / f"x_{name}.tif")
    return drop


def manifest(out: Path) -> list[dict[str, Any]]:
    """The manifest's lines, without those of scenes that were begun."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    return [line for line in lines if line["state"] != "running"]


def check_two_runs(
    geohr: Geohr, drop: Path, out: Path, model: Path, *, good: int, broken: int
) -> None:
    """All that can be done is done and the rest reported; then only the rest is tried."""
    arguments = ("batch", drop, "--out-dir", out, "--model", model, *ARGUMENTS)
    ended = geohr(*arguments)
    assert ended.code == 4
    assert f"geohr batch: done={good} skipped=0 failed={broken} growing=0 " in ended.out
    assert f"{broken} of {good + broken} scenes failed" in ended.err.splitlines()[-1]
    first = manifest(out)
    assert Counter(line["state"] for line in first) == {"done": good, "failed": broken}
    assert all(line["error"] and line["code"] == 3 for line in first if line["state"] == "failed")
    assert not any(line["outputs"] for line in first if line["state"] == "failed")
    assert len(list(out.glob("*.gpkg"))) == good
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.gpkg")}
    ended = geohr(*arguments)
    assert ended.code == 4
    assert f"geohr batch: done=0 skipped={good} failed={broken} growing=0 " in ended.out
    tried = manifest(out)[len(first) :]
    assert sorted(line["scene"] for line in tried) == sorted(
        line["scene"] for line in first if line["state"] == "failed"
    )
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.gpkg")} == before
    assert sorted(each.suffix for each in out.iterdir()) == sorted(
        [*[".gpkg", ".qml", ".sld"] * good, ".jsonl"]
    )


def test_a_few_broken_scenes_do_not_stop_the_others(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    drop = make_drop(tmp_path, good=2, broken=4)
    check_two_runs(geohr, drop, tmp_path / "out", model, good=2, broken=4)


@pytest.mark.full
def test_forty_of_fifty_scenes_are_done(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop = make_drop(tmp_path, good=40, broken=10)
    check_two_runs(geohr, drop, tmp_path / "out", model, good=40, broken=10)


def test_a_second_batch_is_turned_away(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop = make_drop(tmp_path, good=1, broken=0)
    with locked(tmp_path / "out" / ".geohr-batch.lock", what="out"):
        ended = geohr("batch", drop, "--out-dir", tmp_path / "out", "--model", model)
    assert ended.code == 5
    assert "another run is writing there" in ended.err


@pytest.mark.full
def test_of_two_batches_at_once_one_works(model: Path, tmp_path: Path) -> None:
    drop = make_drop(tmp_path, good=3, broken=0)
    root = Path(__file__).parent.parent.parent
    command = [
        *(
            sys.executable,
            "-m",
            "geohr_cli",
            "batch",
            str(drop),
            "--out-dir",
            str(tmp_path / "out"),
        ),
        *(str(tmp_path / "out"), "--model", str(model), *ARGUMENTS),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'cli'}"}
    runs = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert sorted(run.wait(timeout=300) for run in runs) == [0, 5]
    assert len(list((tmp_path / "out").glob("*.gpkg"))) == 3


def test_names_retries_metrics_and_merging(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    for name in ("a", "b"):
        write_scene(drop / f"{name}.tif", noise(64, 64))
    job = tmp_path / "job.toml"
    job.write_text(
        f'[batch]\nscenes = ["{drop}"]\nout-dir = "{tmp_path / "out"}"\nmodel = "{model}"\n'
        'name = ["{parent}/{stem}_x.gpkg", "{stem}.tif"]\nbackend = "openvino"\ntile = 64\n'
        'co = ["COMPRESS=ZSTD"]\n'
        f'settle = 0.0\nmerge = "{tmp_path / "m.fgb"}"\n'
        f'metrics-file = "{tmp_path / "geohr.prom"}"\n'
    )
    ended = geohr("batch", "--config", job)
    assert ended.code == 0, ended.err
    out = tmp_path / "out"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert [each for each in files if not each.endswith((".qml", ".sld"))] == [
        "a.tif", "b.tif", "drop/a_x.gpkg", "drop/b_x.gpkg", "manifest.jsonl"
    ]  # fmt: skip
    assert 'geohr_batch_scenes{state="done"} 2' in (tmp_path / "geohr.prom").read_text()
    with rasterio.open(out / "a.tif") as raster:
        assert raster.profile["compress"] == "zstd"
    # Both scenes show the same place, so that each object is there once, from the first.
    single = pyogrio.read_dataframe(out / "drop" / "a_x.gpkg", layer=0)
    merged = pyogrio.read_dataframe(tmp_path / "m.fgb")
    assert len(single) == len(merged) > 0
    assert set(merged["scene"]) == {"a.tif"}


def test_scenes_of_two_folders_may_share_their_name(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    for year in ("2019", "2020"):
        (tmp_path / year).mkdir()
        write_scene(tmp_path / year / "ortho.tif", noise(64, 64))
    out, merged = tmp_path / "out", tmp_path / "m.gpkg"
    ended = geohr(
        "batch", tmp_path / "2019", tmp_path / "2020", "--out-dir", out, "--model", model,
        "--name", "{parent}_{stem}.gpkg", "--merge", merged, *ARGUMENTS,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    single = pyogrio.read_dataframe(out / "2019_ortho.gpkg", layer=0)
    assert len(pyogrio.read_dataframe(merged, layer=0)) == len(single) > 0


def test_nothing_is_merged_where_every_scene_failed(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    drop = make_drop(tmp_path, good=0, broken=2)
    arguments = ("--out-dir", tmp_path / "out", "--model", model, "--merge", tmp_path / "m.gpkg")
    ended = geohr("batch", drop, *arguments, *ARGUMENTS)
    assert ended.code == 4
    assert "2 of 2 scenes failed" in ended.err
    assert not (tmp_path / "m.gpkg").exists()


def test_outputs_that_nobody_knows_are_not_replaced(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    drop = make_drop(tmp_path, good=1, broken=0)
    out = tmp_path / "out"
    out.mkdir()
    (out / "good00.gpkg").write_text("mine")
    arguments = ("batch", drop, "--out-dir", out, "--model", model, *ARGUMENTS)
    ended = geohr(*arguments)
    assert ended.code == 4
    assert "exists, and no earlier batch has made it; pass --overwrite" in ended.err
    assert geohr(*arguments, "--skip-existing").code == 0
    assert (out / "good00.gpkg").read_text() == "mine"
    for _ in range(2):
        both = (*arguments, "--skip-existing", "--name", "{stem}.gpkg,{stem}.tif")
        ended = geohr(*both)
        assert ended.code == 4
        assert "good00.tif does not; pass --overwrite" in ended.err
        assert (out / "good00.gpkg").read_text() == "mine"


def test_a_changed_area_is_a_changed_scene(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop, out, aoi = make_drop(tmp_path, good=1, broken=0), tmp_path / "out", tmp_path / "a.geojson"
    arguments = ("batch", drop, "--out-dir", out, "--model", model, "--aoi", aoi, *ARGUMENTS)
    for side, state in ((20, "done=1"), (20, "skipped=1"), (30, "done=1")):
        left, top = ORIGIN
        shape = shapely.box(left, top - side, left + side, top)
        if side == 30 or not aoi.exists():
            geopandas.GeoSeries([shape], crs=UTM).to_file(aoi)
        assert state in geohr(*arguments).out


class Busy:
    """A child that has something to say at every turn."""

    def __init__(self) -> None:
        self.said = 0
        self.ended = False

    def send(self, message: object) -> None:
        """Nothing."""

    def receive(self, timeout: float) -> tuple[int, int]:
        """One more window is done."""
        self.said += 1
        return self.said, 100_000

    def end(self, *, at_once: bool = False) -> int:
        """Take note."""
        self.ended = at_once
        return 0


def test_a_busy_scene_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an answer comes at every turn."""
    seen: list[int] = []
    busy = Busy()
    monkeypatch.setattr("geohr.workflows.batch.worker.Child", lambda *_: busy)
    with Worker(allow_vrt=False) as worker:
        outcome = worker.run(
            Task(scene="a.tif", outputs=(), probs=None, stac=False, model="m",
                 options=SegmentOptions(), overwrite=False, work_dir=None, resume=False, dask=None,
                 block="1x1"),
            timeout=0.1,
            stop=Stop(),
            progress=lambda done, _: (seen.append(done), time.sleep(0.001))[0],
        )  # fmt: skip
    assert "took longer than 0.1 s" in (outcome.error or "")
    assert 0 < len(seen) < 1000
    assert busy.ended


def test_each_scene_gets_an_item(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop, out = make_drop(tmp_path, good=2, broken=0), tmp_path / "out"
    arguments = ("batch", drop, "--out-dir", out, "--model", model, *ARGUMENTS, "--stac")
    assert geohr(*arguments).code == 0
    for name in ("good00", "good01"):
        item = json.loads((out / f"{name}.stac.json").read_text())
        assert f"{name}.gpkg" in [Path(each["href"]).name for each in item["assets"].values()]
    assert manifest(out)[-1]["outputs"] == ["good01.gpkg", "good01.stac.json"]
    (out / "good00.stac.json").unlink()
    assert geohr(*arguments).code == 0
    assert (out / "good00.stac.json").exists()


def test_the_output_folder_is_on_a_file_system(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop = make_drop(tmp_path, good=1, broken=0)
    ended = geohr("batch", drop, "--out-dir", "s3://bucket/out", "--model", model, *ARGUMENTS)
    assert ended.code == 2
    assert "--out-dir is a folder on a file system" in ended.err


def test_a_scene_that_takes_too_long_is_given_up(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    drop = make_drop(tmp_path, good=2, broken=0)
    arguments = ("--timeout", "0.2", "--max-failures", "1", *ARGUMENTS)
    ended = geohr("batch", drop, "--out-dir", tmp_path / "out", "--model", model, *arguments)
    assert ended.code == 4
    assert "took longer than 0.2 s, and was given up" in ended.err
    assert "failed=1" in ended.out
    assert len(manifest(tmp_path / "out")) == 1


def test_a_growing_file_is_left_to_the_next_run(
    geohr: Geohr, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = make_drop(tmp_path, good=1, broken=0)
    scene = drop / "good00.tif"

    def grow(*_: object) -> None:
        time.sleep(0.05)
        scene.touch()

    monkeypatch.setattr(Stop, "sleep", grow)
    arguments = ("batch", drop, "--out-dir", tmp_path / "out", "--model", model)
    ended = geohr(*arguments, "--settle", "60")
    assert ended.code == 0
    assert "growing=1" in ended.out
    assert not list((tmp_path / "out").glob("*.gpkg"))


def test_a_link_out_of_the_folder_and_a_vrt_are_refused(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "link.tif").symlink_to(makers.plain(tmp_path))
    virtual = makers.virtual(str(tmp_path / "scene.tif"))(tmp_path)
    virtual.rename(drop / "disguised.tif")
    ended = geohr("batch", drop, "--out-dir", tmp_path / "out", "--model", model, *ARGUMENTS)
    assert ended.code == 4
    assert "is a link out of" in ended.err
    assert "is a VRT, which can read other files; allow it with --allow-vrt" in ended.err
    assert "failed=2" in ended.out


class Watcher:
    """Adds a scene when the first is done, and stops the batch when the second is."""

    def __init__(self, drop: Path) -> None:
        self.drop = drop
        self.stop = Stop()
        self.ends: list[tuple[str, str]] = []

    def began(self, scene: str, *, place: int, count: int) -> None:
        """Nothing."""

    def progress(self, scene: str, done: int, total: int) -> None:
        """Nothing."""

    def ended(self, entry: Entry) -> None:
        """Take note; add a scene, or stop."""
        self.ends.append((Path(entry.scene).name, entry.state))
        if len(self.ends) == 1:
            write_scene(self.drop / "new.tif", noise(64, 64))
        else:
            self.stop.request()


@pytest.mark.full
def test_watching_takes_new_scenes_once_until_it_is_stopped(model: Path, tmp_path: Path) -> None:
    watcher = Watcher(make_drop(tmp_path, good=1, broken=0))
    with pytest.raises(InterruptedRunError, match="stopped as asked after 2 scenes"):
        run_batch(
            [str(watcher.drop)],
            tmp_path / "out",
            listener=watcher,
            model=str(model),
            segmenting=SegmentOptions(backend="openvino", tile=64),
            options=BatchOptions(watch=0.2, settle=0.5),
            stop=watcher.stop,
        )
    assert watcher.ends == [("good00.tif", "done"), ("new.tif", "done")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_does_not_end_the_batch(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    drop = make_drop(tmp_path, good=2, broken=0)
    os.rename(drop / "good00.tif", os.fsencode(drop) + b"/caf\xe9.tif")  # noqa: PTH104
    arguments = ("batch", drop, "--out-dir", tmp_path / "out", "--model", model, *ARGUMENTS)
    ended = geohr(*arguments)
    assert (tmp_path / "out" / "good01.gpkg").exists()
    lines = {Path(line["scene"]).name: line for line in manifest(tmp_path / "out")}
    assert lines.keys() == {"caf\\udce9.tif", "good01.tif"}
    assert ended.code == (0 if lines["caf\\udce9.tif"]["state"] == "done" else 4)
    assert "skipped=" in geohr(*arguments).out
