from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geohr._runtime.files import cache_folder
from geohr._runtime.threads import mapped
from geohr.api.export import SUFFIXES, export
from geohr.api.options import ExportOptions
from geohr.engines import FallbackWarning, backends_for, open_predictor, openvino
from geohr.engines.cache import ABANDONED, MAKING, cached
from geohr.engines.calibration import Calibration
from geohr.engines.int8 import Agreement, measure
from geohr.errors import EngineError, GeohrError, UsageError
from geohr.models.model import Model
from geohr.options import EngineOptions
from geohr.scene import Scene
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer
from geohr.tiling.spread import WINDOWS, spread
from tests.makers import Constant, noise, random_model, write_scene


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(random_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_window_scores_the_same_from_any_worker(model: Model, backend: str) -> None:
    windows = np.random.default_rng(0).standard_normal((6, 1, 3, 64, 64), np.float32)
    predictor = open_predictor(model, 64, EngineOptions(backend=backend))
    alone = [predictor.predict(window) for window in windows]
    together = list(mapped(predictor.predict, windows, workers=predictor.workers))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_auto_says_so_when_the_fastest_engine_is_broken(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "geohr.engines.openvino", None)
    with pytest.warns(FallbackWarning, match=r"openvino cannot be used .*; using onnx"):
        predictor = open_predictor(model, 64, EngineOptions())
    assert predictor.engine.startswith("onnxruntime")
    with pytest.raises(EngineError, match="openvino is installed but cannot be loaded"):
        open_predictor(model, 64, EngineOptions(backend="openvino"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (EngineOptions(backend="torch", precision="int8"), "float32 or bfloat16; got int8"),
        (EngineOptions(backend="onnx", precision="bfloat16"), "float32 or int8; got bfloat16"),
        (EngineOptions(backend="openvino", device="cuda"), "needs --backend torch"),
        (EngineOptions(precision="int8", device="cuda"), "computed on the CPU only"),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: Model, options: EngineOptions, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        open_predictor(model, 64, options)


def test_bfloat16_is_close_to_float32_or_the_processor_is_said_to_lack_it(model: Model) -> None:
    windows = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    exact = open_predictor(model, 64, EngineOptions(backend="openvino"))
    try:
        coarse = open_predictor(model, 64, EngineOptions(backend="openvino", precision="bfloat16"))
    except EngineError as error:
        assert "computes in f32 on this processor, not in bfloat16" in str(error)  # noqa: PT017
    else:
        difference = np.abs(exact.predict(windows) - coarse.predict(windows)).max()
        assert 0 < difference < 0.05
        assert "bfloat16" in coarse.engine


def test_another_format_than_the_one_asked_for_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "network.xml"
    openvino.write(model, (1, 3, 64, 64), path)
    compiled = openvino.core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    openvino.check_precision(compiled, "float32")
    with pytest.raises(EngineError, match=r"OpenVINO computes in f32 .*, not in bfloat16"):
        openvino.check_precision(compiled, "bfloat16")


def test_int8_that_cannot_be_checked_is_refused(model: Model, tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(128, 128)))
    calibration = Calibration(scene, Grid(128, 128, 64, 0), Normalizer.of(model.card, None))
    options = EngineOptions(backend="openvino", precision="int8")
    with pytest.raises(EngineError, match=r"int8 cannot be checked: .* --calibrate") as refused:
        open_predictor(model, 64, options, calibration=calibration)
    assert refused.value.exit_code == 7


def test_agreement_is_the_overlap_of_objects() -> None:
    class Left(Constant):
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            scores = np.full((1, 1, 64, 64), 0.1, np.float32)
            scores[..., :32] = 0.9
            return scores

    windows = np.zeros((3, 3, 64, 64), np.float32)
    found = measure(Constant(0.9), Left(0.9), windows, threshold=0.5)
    assert found.overlap == 0.5
    assert found.objects == 3 * 64 * 64
    assert found.largest_difference == pytest.approx(0.8)
    with pytest.raises(EngineError, match=r"overlap float32's by 0\.500, and 0\.95 is needed"):
        found.check()
    Agreement(0.96, 5000, 0.01, 0.2).check()


def test_a_damaged_entry_is_made_again() -> None:
    made: list[Path] = []

    def build(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()
        (folder / "number").write_text("7")

    def load(folder: Path) -> int:
        return int((folder / "number").read_text())

    key = {"test": "damaged"}
    assert cached(key, build, load) == cached(key, build, load) == 7
    assert len(made) == 1
    entry = next(each.parent for each in cache_folder().glob("*/number"))
    (entry / "number").write_text("gone")
    assert cached(key, build, load) == 7
    assert len(made) == 2


def test_what_a_killed_process_was_making_is_swept_after_a_day() -> None:
    folder = cache_folder()
    fresh, old = folder / f"{MAKING}fresh", folder / f"{MAKING}old"
    for left in (fresh, old):
        (left / "entry").mkdir(parents=True)
    yesterday = time.time() - ABANDONED - 60
    os.utime(old, (yesterday, yesterday))
    cached({"swept": 1}, Path.mkdir, lambda entry: None)
    assert fresh.exists()
    assert not old.exists()


def test_entries_used_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "network").write_bytes(bytes(1000))

    def entries() -> dict[str, Path]:
        keys = (each for each in cache_folder().glob("*/key.json") if '"room"' in each.read_text())
        return {json.loads(key.read_text())["room"]: key for key in keys}

    for number, name in enumerate(("first", "second", "third")):
        cached({"room": name}, build, lambda entry: None)
        os.utime(entries()[name], (2e9 + number,) * 2)
    cached({"room": "first"}, build, lambda entry: None)
    os.utime(entries()["first"], (2e9 + 9,) * 2)
    monkeypatch.setattr("geohr.engines.cache.KEPT_BYTES", 2500)
    cached({"room": "fourth"}, build, lambda entry: None)
    assert set(entries()) == {"first", "third", "fourth"}


@pytest.mark.parametrize("count", [1, 2, 30, 1000, 100_000])
def test_calibration_looks_all_over_the_scene(count: int) -> None:
    places = spread(count)
    assert len(set(places)) == len(places)
    assert all(0 <= place < count for place in places)
    gaps = np.diff(sorted([0, *places[:WINDOWS], count - 1]))
    assert gaps.max() <= 3 * count / min(count, WINDOWS) + 1


def test_results_keep_their_order_and_errors_arrive() -> None:
    assert list(mapped(lambda number: number * 2, range(50), workers=4)) == list(range(0, 100, 2))
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda number: 1 // (number - 7), range(50), workers=3))


FORMATS = ["torchscript", pytest.param("onnx", marks=pytest.mark.full), "openvino"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_exported_file_gives_what_the_network_gives(
    model: Model, tmp_path: Path, name: str
) -> None:
    out = tmp_path / f"tiny{SUFFIXES[name]}"
    made = export(model, out, options=ExportOptions(format=name, tile=64))
    assert made.agreement.largest_difference < 1e-4
    assert all(path.stat().st_size > 0 for path in made.files)
    assert sorted(made.files) == sorted(path for path in tmp_path.iterdir() if path.is_file())
    with pytest.raises(UsageError, match="--overwrite"):
        export(model, out, options=ExportOptions(format=name, tile=64))


@pytest.mark.parametrize(
    ("out", "options", "says"),
    [
        ("a.xml", ExportOptions(), r"named \*\.onnx"),
        ("a.pt", ExportOptions(format="torchscript", precision="int8"), "float32 only"),
        ("a.onnx", ExportOptions(precision="int8"), "--calibrate"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    model: Model, tmp_path: Path, out: str, options: ExportOptions, says: str
) -> None:
    with pytest.raises(GeohrError, match=says):
        export(model, tmp_path / out, options=options)
    assert not list(tmp_path.iterdir())


def test_a_warm_start_loads_no_heavy_library(model: Model, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64))
    code = (
        "import sys\n"
        "from geohr.inference.executor import LocalExecutor\n"
        "from geohr.inference.prepare import prepare\n"
        "from geohr.models.model import resolve_model\n"
        "from geohr.options import SegmentOptions\n"
        "executor = LocalExecutor()\n"
        "job = prepare(sys.argv[1], resolve_model(sys.argv[2]), SegmentOptions(), executor)\n"
        "chunk = next(executor.chunks(job))\n"
        "heavy = {'torch', 'segmentation_models_pytorch', 'geopandas', 'pandas', 'nncf'}\n"
        "print(job.engine.name, sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(scene), str(model.path)]
    open_predictor(model, 64, EngineOptions(backend="openvino"))
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.startswith("openvino")
    assert told.rstrip().endswith("[]")


def test_converting_forks_no_process_and_reports_to_nobody(model: Model, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "seen = []\n"
        "kinds = ('os.fork', 'socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, _: seen.append(event) if event in kinds else None)\n"
        "from pathlib import Path\n"
        "from geohr.api.export import export\n"
        "from geohr.api.options import ExportOptions\n"
        "from geohr.models.model import Model\n"
        "export(Model.load(Path(sys.argv[1])), Path(sys.argv[2]),"
        " options=ExportOptions(format='openvino'))\n"
        "print(seen)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(model.path), str(tmp_path / "m.xml")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert told.splitlines()[-1] == "[]"


def test_signals_are_survived_after_engines_have_gone(model: Model, tmp_path: Path) -> None:
    """Signal handlers run on a stack that an engine may have taken with it."""
    code = (
        "import gc, os, signal, sys\n"
        "from pathlib import Path\n"
        "from geohr.engines import open_predictor\n"
        "from geohr.models.model import Model\n"
        "from geohr.options import EngineOptions\n"
        "model, engines = Model.load(Path(sys.argv[1])), []\n"
        "for side in (32, 64, 96):\n"
        "    engines.append(open_predictor(model, side, EngineOptions(backend='openvino')))\n"
        "while engines:\n"
        "    engines.pop(0)\n"
        "    gc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('caught'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    command = [sys.executable, "-X", "faulthandler", "-c", code, str(model.path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["caught"]), ended.stderr


def test_only_torch_compiles_on_request(model: Model) -> None:
    assert backends_for(EngineOptions(compile=True)) == ("torch",)
    with pytest.raises(UsageError, match="backend onnx compiles by itself"):
        backends_for(EngineOptions(backend="onnx", compile=True))


def test_compiling_needs_a_compiler(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match="install g\\+\\+, or leave --compile out"):
        open_predictor(model, 64, EngineOptions(compile=True))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_scores_as_the_plain_one(model: Model) -> None:
    pixels = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    plain = open_predictor(model, 64, EngineOptions(backend="torch"))
    compiled = open_predictor(model, 64, EngineOptions(compile=True))
    assert "compiled float32" in compiled.engine
    assert np.allclose(compiled.predict(pixels), plain.predict(pixels), atol=1e-5)
