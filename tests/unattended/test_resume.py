"""A run that was cut short goes on, and its outputs are the undisturbed run's bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from geohr._runtime.files import staged
from geohr._runtime.locks import locked
from geohr._runtime.stop import Stop
from geohr.api.segment import Summary, segment_to_files
from geohr.errors import InterruptedRunError, LockedError, OutputError
from geohr.inference.checkpoint import WORK_FOLDER, read_journal, work_folder, work_name
from geohr.inference.cleanup import clean_folder
from geohr.options import SegmentOptions
from geohr.scene.provenance import identify
from tests.command import Geohr
from tests.makers import Local, noise, write_scene

NAMES = ("a.gpkg", "a.tif", "probs.tif")
OPTIONS = SegmentOptions(tile=32, backend="openvino")


def run(
    scene: Path, out: Path, model: Path, *, stop_after: int | None = None, resume: bool = True,
    options: SegmentOptions = OPTIONS,
) -> Summary:  # fmt: skip
    """Segment into `out`; asked to stop after so many windows."""
    stop = Stop()

    def progress(done: int, _: int) -> None:
        if stop_after is not None and done >= stop_after:
            stop.request()

    return segment_to_files(
        scene,
        [out / name for name in NAMES[:2]],
        probs=out / NAMES[2],
        model=model,
        options=options,
        progress=progress,
        stop=stop,
        resume=resume,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def journal(out: Path) -> list[dict[str, object]]:
    return read_journal(next(out.glob(f"{WORK_FOLDER}/*/*/")))


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of pixels in place of the network."""
    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: Local(3, batch=2)
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where an undisturbed run writes, and where a disturbed one does."""
    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "whole", tmp_path / "out"


@pytest.mark.usefixtures("cheap")
def test_a_stopped_run_goes_on_where_it_stopped(
    scene: Path, model: Path, folders: tuple[Path, Path]
) -> None:
    whole, out = folders
    undisturbed = run(scene, whole, model)
    assert sorted(contents(whole)) == sorted((*NAMES, "a.qml", "a.sld"))
    with pytest.raises(InterruptedRunError, match="goes on where it stopped"):
        run(scene, out, model, stop_after=60)
    assert contents(out) == {}
    events = journal(out)
    begun = [each["block"] for each in events if each["event"] == "begin"]
    done = [each["block"] for each in events if each["event"] == "done"]
    assert begun == done
    assert 0 < len(done) < undisturbed.blocks
    resumed = run(scene, out, model)
    assert resumed.reused == len(done)
    assert contents(out) == contents(whole)
    assert not (out / WORK_FOLDER).exists()


@pytest.mark.usefixtures("cheap")
def test_nothing_is_kept_or_used_without_resume(
    scene: Path, model: Path, folders: tuple[Path, Path]
) -> None:
    _, out = folders
    with pytest.raises(InterruptedRunError):
        run(scene, out, model, stop_after=60)
    with pytest.raises(InterruptedRunError):
        run(scene, out, model, stop_after=30, resume=False)
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("change", ["input", "option", "model"])
def test_a_change_of_anything_reuses_nothing(
    change: str, scene: Path, model: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out = folders
    with pytest.raises(InterruptedRunError):
        run(scene, out, model, stop_after=60)
    options = OPTIONS
    if change == "input":
        os.utime(scene, ns=(0, scene.stat().st_mtime_ns + 1))
    elif change == "option":
        options = replace(OPTIONS, blend="flat")
    else:
        content = model.read_bytes()
        model = tmp_path / "other.safetensors"
        model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(scene, out, model, options=options).reused == 0


@pytest.mark.usefixtures("cheap")
def test_a_damaged_block_is_predicted_again(
    scene: Path, model: Path, folders: tuple[Path, Path]
) -> None:
    whole, out = folders
    run(scene, whole, model)
    with pytest.raises(InterruptedRunError):
        run(scene, out, model, stop_after=60)
    kept = sorted(out.glob(f"{WORK_FOLDER}/*/*/block-*.npz"))
    content = bytearray(kept[0].read_bytes())
    content[len(content) // 2] ^= 255
    kept[0].write_bytes(content)
    (kept[0].parent / "block-000099.part").write_bytes(b"half")
    assert run(scene, out, model).reused == len(kept) - 1
    assert contents(out) == contents(whole)


@pytest.mark.usefixtures("cheap")
def test_a_run_cut_short_between_two_renames_goes_on(
    scene: Path, model: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = folders
    run(scene, whole, model)
    rename, renamed = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        if target.parent == out:
            renamed.append(target)
            if len(renamed) == 2:
                raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", second_fails)
        with pytest.raises(OutputError, match="Input/output error"):
            run(scene, out, model)
    assert len(contents(out)) == 1
    run(scene, out, model)
    assert contents(out) == contents(whole)


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]

    def write() -> None:
        with staged(paths, ".work/x/outputs") as names:
            names[paths[0]].write_text("whole")
            raise OutputError(f"{names[paths[1]]}: cannot be written (no ink)")

    with pytest.raises(OutputError, match=r"b\.txt: cannot be written \(no ink\)"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("cheap")
def test_one_run_at_a_time_writes_an_output(
    scene: Path, model: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = folders
    monkeypatch.setattr("geohr.inference.checkpoint.LOCK_WAIT_SECONDS", 0.1)
    name = work_name([out / name for name in NAMES])
    with (
        work_folder(out / WORK_FOLDER, name, {}),
        pytest.raises(LockedError, match="another run is writing there"),
    ):
        run(scene, out, model)


HOLD = """
import sys, time
from pathlib import Path
from geohr._runtime.locks import locked
with locked(Path(sys.argv[1]), what="it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match="it: another run"), locked(path, what="it"):
            pass
        process.kill()
    with locked(path, what="it"):
        assert path.exists()
    assert not path.exists()


@pytest.mark.usefixtures("cheap")
def test_clean_removes_what_was_left_but_not_what_is_in_use(
    scene: Path, model: Path, folders: tuple[Path, Path], geohr: Geohr
) -> None:
    _, out = folders
    with pytest.raises(InterruptedRunError):
        run(scene, out, model, stop_after=60)
    home = next((out / WORK_FOLDER).iterdir())
    assert "would remove" in geohr("clean", out, "--dry-run").out
    with locked(home / "lock", what="x"):
        assert geohr("clean", out).out == ""
    assert next(home.glob("*/block-*"))
    ended = geohr("clean", out)
    assert (ended.code, "removed" in ended.out) == (0, True)
    assert list(out.iterdir()) == []
    assert geohr("clean", out / "none").code == 2


def test_an_address_that_cannot_be_asked_counts_as_changed() -> None:
    first, second = (identify(["https://host.invalid/my scene.tif"]) for _ in range(2))
    assert first != second


@pytest.mark.usefixtures("cheap")
def test_clean_leaves_outputs_that_a_run_with_blocks_elsewhere_is_making(
    scene: Path, model: Path, folders: tuple[Path, Path]
) -> None:
    work, out = folders
    cleaned: list[tuple[Path, int]] = []
    turns: list[int] = []

    def clean(done: int, _: int) -> None:
        turns.append(done)
        cleaned.extend(clean_folder(out))

    segment_to_files(
        scene,
        [out / NAMES[0]],
        model=model,
        options=OPTIONS,
        work_dir=work,
        progress=clean,
    )
    assert (cleaned, len(turns) > 3) == ([], True)
    assert sorted(path.name for path in out.iterdir()) == [NAMES[0], "a.qml", "a.sld"]


SLOW = replace(OPTIONS, tta=True)
"""Eight predictions a window: long enough for a run to be met in the midst of it."""


def command(scene: Path, out: Path, model: Path) -> list[str]:
    """The command line of a slow run in a process of its own."""
    return [
        *(sys.executable, "-m", "geohr_cli", "segment", str(scene), "--out", str(out / "a.tif")),
        *("--model", str(model), "--tile", "32", "--backend", "openvino", "--tta"),
    ]


def environment() -> dict[str, str]:
    root = Path(__file__).parent.parent.parent
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'cli'}"}


def wait_for(pattern: str, out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until there is such a file, or the process has ended."""
    while process.poll() is None and not list(out.glob(pattern)):
        time.sleep(0.005)


def test_kills_leave_nothing_but_blocks(
    tmp_path: Path, model: Path, folders: tuple[Path, Path]
) -> None:
    whole, out = folders
    scene = write_scene(tmp_path / "scene.tif", noise(260, 260))
    segment_to_files(scene, [whole / NAMES[1]], model=model, options=SLOW)
    process = subprocess.Popen(command(scene, out, model), env=environment())
    wait_for(f"{WORK_FOLDER}/*/*/block-000002.npz", out, process)
    process.kill()
    process.wait()
    assert contents(out) == {}
    again = segment_to_files(scene, [out / NAMES[1]], model=model, options=SLOW)
    assert again.reused >= 3
    assert contents(out) == contents(whole)


def test_a_signal_ends_a_run_in_order(
    model: Path, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    _, out = folders
    large = write_scene(tmp_path / "large.tif", noise(800, 800))
    process = subprocess.Popen(
        [*command(large, out, model), "--log-format", "json"],
        env=environment(),
        stderr=subprocess.PIPE,
    )
    wait_for(f"{WORK_FOLDER}/*/*/block-000000.npz", out, process)
    process.terminate()
    started = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 20
    assert contents(out) == {}
    assert json.loads(said.splitlines()[-1])["code"] == 130
    done = [each["block"] for each in journal(out) if each["event"] == "done"]
    assert done == [each["block"] for each in journal(out) if each["event"] == "begin"]


@pytest.mark.full
def test_a_second_signal_ends_a_run_at_once(
    model: Path, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    _, out = folders
    large = write_scene(tmp_path / "large.tif", noise(4000, 4000))
    arguments = command(large, out, model)
    arguments[arguments.index("32")] = "2048"
    arguments[arguments.index("openvino")] = "torch"
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.DEVNULL)
    wait_for(f"{WORK_FOLDER}/*/*/journal.jsonl", out, process)
    process.terminate()
    time.sleep(0.2)
    started = time.monotonic()
    process.terminate()
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("cheap")
@pytest.mark.skipif(
    not shutil.which("mount") or os.name != "posix" or os.geteuid() != 0,
    reason="a file system can be mounted by root only",
)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    scene: Path, model: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run looks at the free space before it starts; what fills up later, or a quota, it meets.
    roomy = shutil.disk_usage("/")._replace(free=10**12)
    monkeypatch.setattr("shutil.disk_usage", lambda _: roomy)
    whole, out = folders
    run(scene, whole, model)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(out)], check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(OutputError, match="no space left on the device; make room"):
            run(scene, out, model)
        assert contents(out) == {}
        subprocess.run(["mount", "-o", "remount,size=50m", str(out)], check=True)
        assert run(scene, out, model).reused > 0
        assert contents(out) == contents(whole)
    finally:
        subprocess.run(["umount", str(out)], check=True)
