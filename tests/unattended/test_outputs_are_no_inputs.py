"""No output may be an input, no input may change while it is read, and no file has two writers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import geopandas
import pytest
from shapely import box

from geohr.api.segment import segment_to_files
from geohr.errors import InputError, LockedError, OutputError, UsageError
from geohr.options import SegmentOptions
from tests.command import Geohr
from tests.makers import Local, noise, write_scene

OPTIONS = SegmentOptions(tile=32, gsd="native")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of pixels in place of the network."""
    local = Local(3, batch=2)
    monkeypatch.setattr("geohr.inference.executor.open_predictor", lambda *_, **__: local)


@pytest.fixture
def own_scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif", noise(100, 90))


@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link", "through a folder"])
def test_a_scene_is_never_written_over(
    how: str, own_scene: Path, model: Path, tmp_path: Path
) -> None:
    out = own_scene
    if how == "symbolic link":
        out = tmp_path / "link.tif"
        out.symlink_to(own_scene)
    elif how == "hard link":
        out = tmp_path / "link.tif"
        os.link(own_scene, out)
    elif how == "through a folder":
        (tmp_path / "sub").mkdir()
        out = tmp_path / "sub" / ".." / "scene.tif"
    before = own_scene.read_bytes()
    with pytest.raises(UsageError, match="is an input"):
        segment_to_files(own_scene, [out], model=model, options=OPTIONS, overwrite=True)
    assert own_scene.read_bytes() == before


def test_neither_model_nor_source_of_a_vrt_is_written_over(
    own_scene: Path, model: Path, tmp_path: Path
) -> None:
    vrt = tmp_path / "scene.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="90" rasterYSize="100"><SRS>EPSG:32636</SRS>'
        "<GeoTransform>450000, 0.5, 0, 40000, 0, -0.5</GeoTransform>"
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
            '<SourceFilename relativeToVRT="1">scene.tif</SourceFilename>'
            f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    with pytest.raises(UsageError, match="is an input"):
        segment_to_files(vrt, [own_scene], model=model, options=OPTIONS, overwrite=True)
    own = shutil.copy(model, tmp_path / "model.tif")
    with pytest.raises(UsageError, match="is an input"):
        segment_to_files(own_scene, [own], model=own, options=OPTIONS, overwrite=True)


def test_a_batch_writes_over_none_of_its_scenes(
    own_scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    before = own_scene.read_bytes()
    ended = geohr(
        "batch", tmp_path, "--pattern", "scene.tif", "--out-dir", tmp_path, "--name", "{stem}.tif",
        "--model", model, "--overwrite", "--settle", "0",
    )  # fmt: skip
    assert ended.code == 2, ended.err
    assert "is an input" in ended.err
    assert own_scene.read_bytes() == before


def test_other_commands_write_over_no_input(own_scene: Path, geohr: Geohr) -> None:
    for arguments in (
        ("stitch", own_scene, "--out", own_scene, "--scale", "0,255"),
        ("report", own_scene, own_scene, "--out", own_scene),
        ("evaluate", own_scene, own_scene, "--objects", own_scene),
    ):
        ended = geohr(*arguments, "--overwrite")
        assert (ended.code, "is an input" in ended.err) == (2, True), ended.err


def test_reports_samples_and_plans_write_over_no_input(
    own_scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    own_model, found = tmp_path / "own.safetensors", tmp_path / "found.gpkg"
    shutil.copy(model, own_model)
    geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32636").to_file(found)
    sidecar = tmp_path / "scene.tif.aux.xml"
    sidecar.write_text('<PAMDataset><Metadata><MDI key="a">b</MDI></Metadata></PAMDataset>')
    segment = ("segment", own_scene, "--model", own_model, "--out", tmp_path / "a.gpkg")
    inputs = {path: path.read_bytes() for path in (own_scene, own_model, found, sidecar)}
    for arguments in (
        (*segment, "--report", own_scene),
        (*segment, "--report", own_model),
        (*segment, "--report", sidecar),
        ("report", own_scene, found, "--out", sidecar),
        ("view", own_scene, found, "--html", sidecar),
        ("models", "card", own_model, "--out", own_model),
        ("models", "import", own_model, "--out", own_model),
        ("check", "sample", found, "--probs", own_scene, "--out", found),
        ("cells", "plan", own_scene, "--model", own_model, "--cell", "20m", "--out", own_scene),
        ("change", found, found, "--out", tmp_path / "c.gpkg", "--report", found),
    ):
        ended = geohr(*arguments, "--overwrite")
        assert (ended.code, "is an input" in ended.err) == (2, True), (arguments, ended.err)
    assert {path: path.read_bytes() for path in inputs} == inputs


def test_a_scene_that_changes_while_it_is_read_is_refused(
    own_scene: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def touch(done: int, _: int) -> None:
        os.utime(own_scene, ns=(0, done))

    with pytest.raises(InputError, match=r"scene\.tif: was changed while it was read"):
        segment_to_files(own_scene, [out / "a.tif"], model=model, options=OPTIONS, progress=touch)
    assert [path for path in out.iterdir() if path.is_file()] == []


def test_two_runs_with_one_output_in_common_do_not_both_write_it(
    own_scene: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geohr.inference.checkpoint.LOCK_WAIT_SECONDS", 0.1)
    shared, refused = tmp_path / "shared.tif", []

    def second_run(*_: int) -> None:
        if not refused:
            with pytest.raises(LockedError, match=r"shared\.tif.*another run is writing") as caught:
                segment_to_files(
                    own_scene, [tmp_path / "b.tif", shared], model=model, options=OPTIONS
                )
            refused.append(caught)

    segment_to_files(
        own_scene,
        [tmp_path / "a.tif", shared],
        model=model,
        options=OPTIONS,
        progress=second_run,
    )
    assert refused
    names = ["a.tif", "scene.tif", "shared.tif"]
    assert sorted(each.name for each in tmp_path.iterdir()) == names


@pytest.mark.parametrize("letter", ["!", "\n", "\t", "\r"])
def test_names_that_a_format_cannot_have_are_refused_in_one_line(
    letter: str, own_scene: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / f"a{letter}b"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"\.gpkg cannot be written where a name has"):
        segment_to_files(own_scene, [folder / "a.gpkg"], model=model, options=OPTIONS)
    segment_to_files(own_scene, [folder / "a.tif"], model=model, options=OPTIONS)
    assert (folder / "a.tif").exists()


def test_a_name_that_leads_nowhere_is_refused(own_scene: Path, model: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop.gpkg"
    loop.symlink_to(loop)
    for out in (loop, tmp_path / ("long" * 2000 + ".gpkg")):
        with pytest.raises(OutputError, match="cannot be written"):
            segment_to_files(own_scene, [out], model=model, options=OPTIONS)
