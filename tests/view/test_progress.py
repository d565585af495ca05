"""Who watches sees a bar; a pipe sees nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from geohr._runtime.progress import phase, watched
from geohr_cli.progress import log_lines

CALL = """
import time
from geohr._runtime.progress import note, phase, watched
with watched("auto", "segment a.tif") as report:
    phase("predicting")
    note("loss 0.25")
    for done in range(1, 4):
        if report is not None:
            report(done, 3)
            time.sleep(0.15)
    phase("writing")
    time.sleep(0.3)
"""


def test_nothing_is_shown_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""


def test_a_terminal_shows_a_bar_on_stderr() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CALL], stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as child:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # the other end has closed
        assert child.stdout is not None
        assert child.stdout.read() == b""
    os.close(ours)
    assert child.returncode == 0
    assert b"segment a.tif" in shown
    assert b"3/3" in shown
    assert b"segment a.tif: predicting" in shown
    assert b"loss 0.25" in shown
    # The bar begins anew, without a total, so that it never stands still when all is counted.
    last = shown.rpartition(b"segment a.tif: writing")
    assert last[1]
    assert b"3/3" not in last[2]


@pytest.mark.filterwarnings("default")  # what the kernel's own libraries warn of is theirs
def test_a_notebook_shows_a_bar_that_moves(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CALL)])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, startup_timeout=300, resources=place).execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["output_type"] == "display_data"
    assert "segment a.tif: writing <progress  style" in shown["data"]["text/html"]
    assert "loss 0.25" in shown["data"]["text/html"]


def test_a_function_is_called_as_it_is_and_none_stays_none() -> None:
    def own(done: int, total: int) -> None:
        raise AssertionError

    with watched(own, "x") as report:
        assert report is own
    with watched(None, "x") as report:
        assert report is None


def test_a_log_has_a_line_for_each_phase_that_lasts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geohr_cli.progress.PHASE_SECONDS", 0.01)
    with log_lines("segment a.tif") as report:
        phase("predicting")
        time.sleep(0.5)
        for done in range(1, 21):
            report(done, 20)
        phase("writing")
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "segment a.tif: predicting"
    assert lines[-2:] == ["segment a.tif: predicting: 20 of 20", "segment a.tif: writing"]
    assert len(lines) == 13
    phase("nobody hears")


def test_a_phase_that_ends_at_once_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with an input is then the only line."""
    with log_lines("vectorize a.tif"):
        phase("drawing")
    assert capsys.readouterr().err == ""
