"""The page inside a notebook's cell."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import geohr
from geohr.errors import UsageError
from tests.view.makers import read_houses, write_result


def port_of(address: str) -> int:
    return int(address.rstrip("/").rpartition(":")[2])


def test_a_file_is_served_in_a_frame_until_it_is_stopped(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    page = geohr.view(scene, objects)
    shown = page._repr_html_()
    (address,) = re.findall(r'<iframe src="(http://127\.0\.0\.1:\d+/)"', shown)
    assert address == page.address
    # Of a GeoPackage as segment writes it, which holds styles beside its objects.
    assert len(page.read()) == 4
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"houses.gpkg" in answer.read()
        policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors http://localhost:* http://127.0.0.1:*" in policy
    page.stop()
    with (
        pytest.raises(OSError, match="refused"),
        socket.create_connection(("127.0.0.1", port_of(address)), 5),
    ):
        pass


def test_polygons_come_back_with_their_reviews(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    frame = read_houses(objects)
    page = geohr.view(scene, frame)
    sent = urllib.request.Request(
        f"{page.address}review", b'{"id": 2, "review": "accepted"}',
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(sent, timeout=60) as answer:
        assert answer.status == 200
    assert page.read()["review"].dropna().to_dict() == {2: "accepted"}
    assert page.read().geometry.iloc[0].equals(frame.geometry.iloc[0])
    folder = page.objects.parent
    assert folder.exists()
    del page
    assert not folder.exists()
    with pytest.raises(UsageError, match="convert with ogr2ogr"):
        geohr.view(scene, tmp_path / "a.geojson")


@pytest.mark.filterwarnings("default")  # what the kernel's own libraries warn of is theirs
def test_a_notebook_shows_it_in_the_cell(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    cell = f"import geohr\ngeohr.view({str(scene)!r}, {str(objects)!r})"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, startup_timeout=300, resources=place).execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["data"]["text/html"].startswith('<iframe src="http://127.0.0.1:')
