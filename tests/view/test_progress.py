"""Who watches sees a bar; a pipe sees nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from geohr._runtime.progress import watched

CALL = """
import time
from geohr._runtime.progress import watched
with watched("auto", "segment a.tif") as report:
    for done in range(1, 4):
        if report is not None:
            report(done, 3)
            time.sleep(0.15)
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


@pytest.mark.filterwarnings("default")  # what the kernel's own libraries warn of is theirs
def test_a_notebook_shows_a_bar_that_moves(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CALL)])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, startup_timeout=300, resources=place).execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["output_type"] == "display_data"
    assert "value='3' max='3'" in shown["data"]["text/html"]


def test_a_function_is_called_as_it_is_and_none_stays_none() -> None:
    def own(done: int, total: int) -> None:
        raise AssertionError

    with watched(own, "x") as report:
        assert report is own
    with watched(None, "x") as report:
        assert report is None
