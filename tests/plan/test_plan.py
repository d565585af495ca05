from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from geohr._runtime.messages import amount
from geohr.api.plan import make_plan, memory_bytes
from geohr.errors import OutputError
from geohr.inference.disk import OutputCounts, check_disk, check_disks, disk_bytes, reading_bytes
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model
from geohr.options import SegmentOptions, ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import open_view
from geohr.tiling.grid import Grid
from tests.command import command
from tests.makers import Constant, noise, one_class_card, random_model, write_scene

OUTPUTS = OutputCounts(1, vectors=1, rasters=1, probabilities=1)


def test_a_plan_counts_what_will_be_predicted(tmp_path: Path) -> None:
    pixels = noise(512, 512)
    pixels[:, :, 256:] = 0
    scene = Scene.open(write_scene(tmp_path / "scene.tif", pixels, nodata=0))
    grid = Grid(512, 512, 64, 0)
    plan = make_plan(scene, one_class_card(), grid, Constant(0.5), outputs=OUTPUTS)
    assert plan.valid == pytest.approx(0.5, abs=0.15)
    assert plan.windows == 64
    assert plan.predicted == pytest.approx(32, abs=10)
    assert plan.seconds > 0
    assert "windows: " in plan.describe()
    assert f", {amount(plan.workers * plan.batch, 'window')} at once" in plan.describe()
    assert "expect" not in plan.describe()


def test_a_plan_tells_both_resolutions_and_sizes(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(400, 512))
    own = Scene.open(path).gsd
    assert own is not None
    scene = open_view(path, ViewOptions(gsd=str(2 * own)))
    grid = Grid(scene.height, scene.width, 64, 0)
    plan = make_plan(scene, one_class_card(), grid, Constant(0.5), outputs=OUTPUTS)
    assert f"ground sampling distance: {own:.3g} m, read at {2 * own:.3g} m" in plan.describe()
    assert "size: 512 x 400, read as 256 x 200 pixels, " in plan.describe()


def test_memory_depends_on_the_width_alone(tmp_path: Path) -> None:
    low = Scene.open(write_scene(tmp_path / "low.tif", noise(40, 300)))
    high = Scene.open(write_scene(tmp_path / "high.tif", noise(400, 300)))
    wide = Scene.open(write_scene(tmp_path / "wide.tif", noise(40, 600)))
    takes = [
        memory_bytes(scene, Grid(scene.height, scene.width, 64, 16), classes=1)
        for scene in (low, high, wide)
    ]
    assert takes[0] == takes[1] < takes[2]


def test_a_run_that_does_not_fit_the_disk_is_refused(tmp_path: Path) -> None:
    side = 2_000_000
    source = write_scene(tmp_path / "small.tif", noise(64, 64))
    path = tmp_path / "huge.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32636</SRS>'
        "<GeoTransform>300000, 0.5, 0, 3000000, 0, -0.5</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
        '<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/>'
        '<DstRect xOff="0" yOff="0" xSize="64" ySize="64"/></SimpleSource></VRTRasterBand>'
        "</VRTDataset>"
    )
    scene = Scene.open(path)
    grid = Grid(side, side, 512, 128)
    with pytest.raises(OutputError, match="MB free, and the run needs about") as refused:
        check_disk(tmp_path, scene, grid, outputs=OUTPUTS, resume=True)
    assert refused.value.exit_code == 6
    check_disk(tmp_path, scene, grid, outputs=OUTPUTS, resume=False)


def test_blocks_on_another_disk_are_counted_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(400, 400)))
    grid, scratch = Grid(400, 400, 64, 16), Path("/dev/shm")
    outputs, _ = disk_bytes(scene, grid, 1.0, outputs=OUTPUTS, resume=False)
    room = {tmp_path: outputs, scratch: 2**40}
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(room[Path(path)]))
    check = partial(check_disks, tmp_path, scene=scene, grid=grid, outputs=OUTPUTS, keeps=True)
    check(scratch)
    with pytest.raises(OutputError, match="MB free, and the run needs about"):
        check(tmp_path / "work")
    room[scratch] = 0
    with pytest.raises(OutputError, match=r"/dev/shm: 0\.0 MB free"):
        check(scratch)


def test_coarser_readings_are_counted_where_the_work_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(160, 160))
    model = Model.load(random_model(tmp_path / "m.safetensors"))
    options = SegmentOptions(readings=(1.0,), backend="torch", gsd="native")
    job = prepare(scene, model, options, LocalExecutor())
    own, _ = disk_bytes(job.scene, job.grid, 1.0, outputs=OUTPUTS, resume=True)
    coarse = reading_bytes(job.coarser, 1.0, resume=True)
    assert 0 < coarse < own
    room = {tmp_path: own + coarse, Path("/dev/shm"): 2**40}
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(room[Path(path)]))
    check = partial(
        check_disks, tmp_path, scene=job.scene, grid=job.grid, outputs=OUTPUTS, keeps=True,
        readings=job.coarser,
    )  # fmt: skip
    check(tmp_path / "work")
    room[tmp_path] -= 1
    with pytest.raises(OutputError, match="MB free, and the run needs about"):
        check(tmp_path / "work")
    check(Path("/dev/shm"))


def test_disk_covers_real_outputs(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(256, 256)))
    while_it_runs, after = disk_bytes(
        scene, Grid(256, 256, 64, 16), 1.0, outputs=OUTPUTS, resume=False
    )
    assert 0 < after < while_it_runs
    assert np.isfinite(after)


def test_the_plan_divides_its_time_by_the_workers_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    geohr = command(monkeypatch, capsys)
    scene = write_scene(tmp_path / "scene.tif", noise(200, 200))
    model = random_model(tmp_path / "model.safetensors", card=one_class_card(threshold=0.5))
    arguments = ("plan", scene, "--model", model, "--backend", "torch")
    ended = geohr(*arguments, "--workers", "3", "--block", "1x1")
    assert ended.code == 0, ended.err
    assert "s to predict with 3 workers of one core" in ended.out.splitlines()[-1]
    ended = geohr(*arguments, "--block", "1x1")
    assert (ended.code, ended.err) == (2, "geohr: --block is for a cluster; add --workers N\n")


def test_more_workers_than_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geohr.api.plan.cores", lambda: 2)
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(64, 64)))
    made = make_plan(scene, one_class_card(), Grid(64, 64, 64, 16), Constant(0.5), outputs=OUTPUTS)
    made = replace(made, seconds=100.0, blocks=50)
    assert made.describe_cluster(10).startswith("cluster: 20 s ")
    assert made.describe_cluster(100).startswith("cluster: 4 s ")
