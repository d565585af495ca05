"""What a Dask cluster of processes makes is what one machine makes, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from affine import Affine

from geohr._runtime.stop import Stop
from geohr.api.segment import Summary, segment_to_files
from geohr.cluster import connected, segment
from geohr.errors import EngineError, InterruptedRunError
from geohr.inference.checkpoint import WORK_FOLDER, read_journal
from geohr.options import SegmentOptions
from geohr.tiling.blocks import BlockSize
from tests.cluster.processes import scheduler, workers
from tests.command import Geohr
from tests.makers import noise, write_scene

NAMES = ("a.gpkg", "a.tif", "probs.tif")
ENGINE = ("--backend", "openvino")
OPTIONS = SegmentOptions(tile=32, backend=ENGINE[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def run(
    address: str, scene: Path, out: Path, model: Path, *, block_size: BlockSize | None = None,
    stop: Stop | None = None, watch: Callable[[int], None] = lambda _: None,
    options: SegmentOptions = OPTIONS,
) -> Summary:  # fmt: skip
    """Segment into `out` on the cluster; `watch` is told how many windows are done."""
    with connected(address) as client:
        return segment(
            client,
            scene,
            [out / name for name in NAMES[:2]],
            probs=out / NAMES[2],
            model=model,
            options=options,
            block_size=block_size,
            stop=stop,
            progress=lambda done, _: watch(done),
        )


def alone(
    scene: Path, out: Path, model: Path, options: SegmentOptions = OPTIONS
) -> dict[str, bytes]:
    """Segment into `out` in this process."""
    outputs = [out / name for name in NAMES[:2]]
    segment_to_files(scene, outputs, probs=out / NAMES[2], model=model, options=options)
    return contents(out)


@pytest.fixture(scope="module")
def whole(scene: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one machine makes."""
    return alone(scene, tmp_path_factory.mktemp("whole"), model)


@pytest.mark.parametrize(
    ("count", "block_size"),
    [
        ("one_worker", None),
        ("two_workers", BlockSize(2, 3)),
        pytest.param("one_worker", BlockSize(2, 3), marks=pytest.mark.full),
        pytest.param("one_worker", BlockSize(1, 16), marks=pytest.mark.full),
        pytest.param("two_workers", None, marks=pytest.mark.full),
        pytest.param("two_workers", BlockSize(1, 16), marks=pytest.mark.full),
    ],
)
def test_any_block_size_and_number_of_workers_gives_the_same_bytes(
    count: str, block_size: BlockSize | None, scene: Path, model: Path, whole: dict[str, bytes],
    tmp_path: Path, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    summary = run(request.getfixturevalue(count), scene, tmp_path, model, block_size=block_size)
    assert contents(tmp_path) == whole
    assert summary.blocks >= 16
    assert not (tmp_path / WORK_FOLDER).exists()


def test_several_readings_give_the_same_bytes(
    one_worker: str, scene: Path, model: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, readings=(2.0,), threshold=0.05)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    told = run(one_worker, scene, there, model, options=options)
    assert contents(there) == alone(scene, here, model, options)
    assert told.blocks == 17  # one of them is the coarser reading
    assert not (there / WORK_FOLDER).exists()


def test_processes_that_are_started_here_watch_themselves_little() -> None:
    with connected("local:1") as client:
        (told,) = client.run(settings_of_a_process).values()
    assert told == (False, "500ms", None, "1")


def settings_of_a_process() -> tuple[object, ...]:
    """Of Dask's profiler and loop, and of memory and threads."""
    import dask

    names = ("distributed.worker.profile.enabled", "distributed.admin.tick.interval")
    memory, threads = "MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS"
    return (*map(dask.config.get, names), os.environ.get(memory), os.environ.get(threads))


def test_workers_find_a_scene_that_is_named_from_the_drivers_folder(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, one_worker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(scene.parent)
    run(one_worker, Path(scene.name), tmp_path, model)
    # The name itself is the same in both, for only its last part is written.
    assert contents(tmp_path) == whole


def test_what_a_worker_cannot_read_is_told_as_on_one_machine(
    scene: Path, model: Path, tmp_path: Path, one_worker: str, geohr: Geohr
) -> None:
    torn = tmp_path / "torn.tif"
    torn.write_bytes(scene.read_bytes()[:-20_000])
    # With a scale no values are looked at before, which would meet the damage on this machine.
    ended = geohr(
        "segment", torn, "--model", model, "--out", tmp_path / NAMES[0], "--tile", "32",
        *ENGINE, "--dask", one_worker, "--scale", "0,255",
    )  # fmt: skip
    assert ended.code == 3, ended.err
    assert "worker tcp://" in ended.err
    assert "torn.tif: cannot be read at rows" in ended.err


def test_one_machine_takes_any_cut(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, geohr: Geohr
) -> None:
    ended = geohr(
        "segment", scene, "--model", model, "--out", tmp_path / NAMES[0], "--out",
        tmp_path / NAMES[1], "--probs", tmp_path / NAMES[2], "--tile", "32", *ENGINE,
        "--block", "3x2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert contents(tmp_path) == whole


def local(scene: Path, model: Path, out: Path) -> list[str]:
    """The command that predicts on processes that it starts."""
    return [
        *(sys.executable, "-m", "geohr_cli", "segment", str(scene), "--model", str(model)),
        *("--out", str(out / NAMES[0]), "--out", str(out / NAMES[1])),
        *("--probs", str(out / NAMES[2]), "--tile", "32", *ENGINE),
        *("--dask", "local:1", "--block", "2x2", "--quiet"),
    ]


@pytest.mark.full
def test_the_command_predicts_on_processes_that_it_starts(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    ended = subprocess.run(
        local(scene, model, tmp_path), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert contents(tmp_path) == whole


@pytest.mark.full
def test_an_interrupt_from_the_terminal_ends_it_in_order(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    command = local(scene, model, tmp_path)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_block(tmp_path, 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines() == [
        "geohr: stopping after the blocks in hand; a second signal leaves at once",
        "geohr: stopped as asked; the same command goes on where it stopped",
    ]
    subprocess.run(command, check=True)
    assert contents(tmp_path) == whole


def wait_for_block(out: Path, number: int, process: subprocess.Popen[Any]) -> None:
    """Wait until a run has finished a block."""
    deadline = time.monotonic() + 120
    while not any(out.glob(f"{WORK_FOLDER}/*/*/block-{number:06d}.npz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stopped_run_goes_on_where_it_stopped(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, two_workers: str
) -> None:
    stop = Stop()

    def ask(done: int) -> None:
        if done >= 60:
            stop.request()

    with pytest.raises(InterruptedRunError, match="goes on where it stopped"):
        run(two_workers, scene, tmp_path, model, stop=stop, watch=ask)
    assert contents(tmp_path) == {}
    events = read_journal(next(tmp_path.glob(f"{WORK_FOLDER}/*/*/")))
    done = {each["block"] for each in events if each["event"] == "done"}
    assert done <= {each["block"] for each in events if each["event"] == "begin"}
    # A worker that has just started may finish its first block when the run has left.
    assert run(two_workers, scene, tmp_path, model).reused >= len(done) > 0
    assert contents(tmp_path) == whole


def test_workers_and_schedulers_that_die_lose_no_finished_block(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, one_worker: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lost = threading.Event()
    with scheduler(tmp_path) as address, workers(address, 2, tmp_path, ["--no-nanny"]) as both:

        def kill(done: int) -> None:
            if done >= 32 and both[0].poll() is None:
                os.kill(both[0].pid, signal.SIGKILL)
            if done >= 128 and not lost.is_set():
                lost.set()
                end_scheduler(tmp_path)

        with pytest.raises(EngineError, match="the connection to the scheduler was lost"):
            run(address, scene, out, model, watch=kill, block_size=BlockSize(2, 2))
    assert both[0].returncode == -signal.SIGKILL
    assert contents(out) == {}
    # Another scheduler, and a worker that knows nothing of the run.
    again = run(one_worker, scene, out, model, block_size=BlockSize(2, 2))
    assert again.reused >= 128 // 4
    assert contents(out) == whole


def end_scheduler(home: Path) -> None:
    """Kill the scheduler whose file lies in a folder, by its id."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            command = (folder / "cmdline").read_bytes()
            if b"dask_scheduler" in command and str(home).encode() in command:
                os.kill(int(folder.name), signal.SIGKILL)


def test_a_driver_that_is_killed_goes_on(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, two_workers: str
) -> None:
    command = [
        *(sys.executable, "-m", "geohr_cli", "segment", str(scene), "--model", str(model)),
        *("--out", str(tmp_path / NAMES[0]), "--out", str(tmp_path / NAMES[1])),
        *("--probs", str(tmp_path / NAMES[2]), "--tile", "32", *ENGINE),
        *("--dask", two_workers, "--block", "1x1", "--quiet"),
    ]
    process = subprocess.Popen(command)
    wait_for_block(tmp_path, 5, process)
    process.kill()
    process.wait()
    assert contents(tmp_path) == {}
    again = run(two_workers, scene, tmp_path, model, block_size=BlockSize(1, 1))
    assert again.reused > 0
    assert contents(tmp_path) == whole


def test_a_batch_predicts_on_the_cluster(
    scene: Path, model: Path, whole: dict[str, bytes], tmp_path: Path, one_worker: str,
    geohr: Geohr,
) -> None:  # fmt: skip
    names = "a.gpkg,a.tif"
    ended = geohr(
        "batch", scene, "--out-dir", tmp_path, "--model", model, "--name", names, "--probs-name",
        "probs.tif", "--tile", "32", *ENGINE, "--settle", "0", "--dask", one_worker,
        "--block", "2x2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole


def test_a_part_of_a_scene_in_degrees_is_read_on_the_same_grid(
    model: Path, tmp_path: Path, one_worker: str
) -> None:
    pixels = noise(200, 220)
    transform = Affine(4e-6, 0, 32.58, 0, -4e-6, 0.36)
    degrees = write_scene(tmp_path / "degrees.tif", pixels, crs="EPSG:4326", transform=transform)
    options = replace(OPTIONS, bbox=(32.5801, 0.3593, 32.5808, 0.3599), gsd="0.4")
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    run(one_worker, degrees, there, model, options=options)
    assert contents(there) == alone(degrees, here, model, options)


def test_a_comparison_of_scenes_on_a_cluster_gives_the_same_bytes(
    model: Path, tmp_path: Path, one_worker: str, geohr: Geohr
) -> None:
    dates = [write_scene(tmp_path / f"{seed}.tif", noise(150, 130, seed=seed)) for seed in (0, 1)]
    for name, where in (("whole", ()), ("shared", ("--dask", one_worker))):
        out = tmp_path / name
        out.mkdir()
        ended = geohr(
            "change", *dates, "--out", out / "c.gpkg", "--out-raster", out / "c.tif", "--model",
            model, "--tile", "32", *ENGINE, "--threshold", "0.02", *where,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert "unsure: 0" not in ended.out
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
    # Both maps with a style in two files each, their probabilities, and the comparison's files.
    assert len(contents(tmp_path / "whole")) == 10
