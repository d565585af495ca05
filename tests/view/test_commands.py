"""The commands for people: view, report, doctor, completion."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.command import Geohr
from tests.view.makers import write_result

GEOHR = (sys.executable, "-m", "geohr_cli")


def test_view_serves_until_it_is_stopped(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    with subprocess.Popen(
        [*GEOHR, "view", scene, objects, "--no-browser"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        address = child.stdout.readline().split()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"geohr" in answer.read()
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "stopped\n"
    assert child.returncode == 0


def test_view_and_report_write_one_file_and_replace_none(tmp_path: Path, geohr: Geohr) -> None:
    scene, objects = write_result(tmp_path, 4)
    for arguments in (("view", scene, objects, "--html"), ("report", scene, objects, "--out")):
        out = tmp_path / f"{arguments[0]}.html"
        done = geohr(*arguments, out)
        assert (done.code, done.err) == (0, "")
        assert out.read_text("utf-8").startswith("<!DOCTYPE html>")
        again = geohr(*arguments, out)
        assert again.code == 2
        assert "exists; choose another name or pass --overwrite" in again.err


LIBRARIES = ("starlette", "uvicorn", "rio_tiler", "morecantile")
WITHOUT_EACH = """
import sys
from geohr_cli.main import main

libraries = sys.argv.pop(1)
for missing in libraries.split(","):
    for name in [*sys.modules]:
        if name.startswith("geohr.viewer.") or name.partition(".")[0] == missing:
            del sys.modules[name]
    sys.modules[missing] = None
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
    del sys.modules[missing]
"""


def test_view_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    told = [",".join(LIBRARIES), "view", scene, objects, "--no-browser"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EACH, *told], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["7"] * len(LIBRARIES)
    assert done.stderr.splitlines() == [
        f"geohr: geohr view needs {missing}, which is not installed; "
        "install it with pip install 'geohr[view]'"
        for missing in LIBRARIES
    ]


def test_only_the_page_imports_its_libraries() -> None:
    code = (
        "import sys, geohr.viewer, geohr.viewer.plot, geohr.viewer.report, geohr_cli.main\n"
        "libraries = {'starlette', 'uvicorn', 'rio_tiler', 'morecantile'}\n"
        "print(sorted(libraries & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_segment_reports_only_on_a_geopackage(tmp_path: Path, geohr: Geohr) -> None:
    scene, _ = write_result(tmp_path, 4)
    ended = geohr("segment", scene, "--out", tmp_path / "a.tif", "--report", tmp_path / "r.html")
    assert ended.code == 2
    assert "add --out objects.gpkg" in ended.err


def test_doctor_tells_versions_engines_and_speed(geohr: Geohr) -> None:
    done = geohr("doctor")
    assert done.code == 0, done.err
    told = dict(re.findall(r"^(\S.*?)\s{2,}(.*)$", done.out, re.M))
    assert told["raster drivers"].endswith("missing: none")
    assert told["vector drivers"].endswith("missing: none")
    assert "torch" in told["engines"]
    assert re.match(r"\d+ usable of \d+", told["processors"])
    if told["bundled models"] != "none":
        assert re.match(r"\d+\.\d\d megapixels a second", told["speed"])
    assert json.loads(geohr("doctor", "--json").out).keys() == told.keys()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, geohr: Geohr) -> None:
    done = geohr("completion", shell)
    assert done.code == 0, done.err
    assert "_GEOHR_COMPLETE" in done.out
    assert "_geohr_completion" in done.out


@pytest.mark.parametrize(
    ("words", "place", "wanted"),
    [
        ("geohr seg", "1", "segment"),
        ("geohr segment --overw", "2", "--overwrite"),
        ("geohr completion ba", "2", "bash"),
    ],
)
def test_completion_knows_commands_options_and_values(words: str, place: str, wanted: str) -> None:
    asked = {"_GEOHR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": place}
    done = subprocess.run(GEOHR, capture_output=True, text=True, env={**os.environ, **asked})
    assert f"plain,{wanted}" in done.stdout.splitlines()


@pytest.mark.parametrize("command", ["view", "report", "doctor", "completion"])
def test_each_command_has_help_with_an_example(command: str, geohr: Geohr) -> None:
    assert f"Example: geohr {command}" in geohr(command, "--help").out


def test_a_name_nearly_right_is_answered_with_the_right_one(geohr: Geohr) -> None:
    done = geohr("sgment")
    assert done.code == 2
    assert "Did you mean 'segment'?" in done.err
