"""Models as files for other tools, each checked against the network it was made from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from geohr._runtime.files import check_writable, staged
from geohr._runtime.progress import phase
from geohr.api.options import ExportOptions
from geohr.encoding import Batch
from geohr.engines.calibration import Calibration
from geohr.engines.compiled import Compiler, batches, split
from geohr.engines.cores import Shape, cores
from geohr.engines.int8 import Agreement, measure
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError, UsageError
from geohr.models.model import Model, resolve_model
from geohr.scene import Scene
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer

# File extensions by format; OpenVINO writes its weights to `.bin` beside it.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt"}
# The suffix of the file with the model card, which other programs need besides the network.
CARD_SUFFIX = ".card.json"
# Largest difference of a score that a float32 file may show.
DIFFERENCE_MAX = 1e-3
# Windows of noise that forms are compared on where no scene is named.
NOISE_WINDOWS = 4


@dataclass(frozen=True)
class ExportResult:
    """The result of an export, and its comparison with the original network.

    Attributes:
        files: Written.
        shape: Windows, bands, rows and columns that the file takes.
        agreement: With the network in float32 on torch.
        compared_on: The windows that both forms were compared on.
    """

    files: tuple[Path, ...]
    shape: Shape
    agreement: Agreement
    compared_on: str

    def describe(self) -> str:
        """The comparison of both forms in one line."""
        return (
            f"{', '.join(map(str, self.files))}: takes {' x '.join(map(str, self.shape))}; "
            f"beside torch float32 on {self.compared_on}: {self.agreement.describe()}"
        )


def export(
    model: str | Path | Model | None,
    out: str | Path,
    *,
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a model for another engine, with its card beside it.

    The file maps normalised pixels, named `pixels`, to scores of the foreground classes, named
    `scores`. Nothing is left behind when it does not give what the network gives.

    Args:
        model: A bundled name, a model file or a `Model`; None for the bundled building model.
        out: The file to write.
        options: Format, precision and window.
        overwrite: Replace files that exist.

    Raises:
        UsageError: When the name does not fit the format, a file exists, or options conflict.
        EngineError: When the engine is missing, the network cannot be converted, or the file
            departs too far from the network.
        InputError: When the model or the scene cannot be used.
        OutputError: When a file cannot be written.
    """
    options, out = options or ExportOptions(), Path(out)
    check_call(out, options)
    model = resolve_model(model)
    files = [out, out.with_suffix(CARD_SUFFIX)]
    if options.format == "openvino":
        files.append(out.with_suffix(".bin"))
    for path in files:
        check_writable(path, overwrite=overwrite, inputs=[model.path, options.calibrate])
    side = options.tile or model.card.tile
    shape = (options.batch, len(model.card.bands), side, side)
    windows, compared_on = shown(model, side, options)
    with staged(files, f".{out.name}.part") as names:
        names[files[1]].write_text(model.card.to_json() + "\n", encoding="utf-8")
        phase("converting")
        made = WRITERS[options.for_ or options.format](model, shape, names[out], windows, options)
        held_out = split(windows)[1] if options.precision == "int8" else windows
        phase("checking")
        agreement = measure(
            plain(model, options.batch), made, held_out, threshold=model.card.threshold
        )
        check(agreement, out, options)
    return ExportResult(tuple(files), shape, agreement, compared_on)


def check_call(out: Path, options: ExportOptions) -> None:
    """Refuse what cannot be written.

    Raises:
        UsageError: When a combination of options is not possible.
    """
    suffix = SUFFIXES[options.format]
    if out.suffix.lower() != suffix:
        raise UsageError(f"{out}: a file of format {options.format} is named *{suffix}")
    if options.for_ is not None and (options.format, options.precision) != ("onnx", "float32"):
        raise UsageError(f"a file for {options.for_} is ONNX in float32")
    if options.opset is not None and options.format != "onnx":
        raise UsageError(f"opset is ONNX's; format {options.format} has none")
    if options.precision == "int8" and options.format == "torchscript":
        raise UsageError("torchscript is written in float32 only; int8 needs onnx or openvino")
    if options.precision == "int8" and options.calibrate is None:
        raise UsageError("int8 needs a scene to calibrate on; name one with --calibrate")


def check(agreement: Agreement, out: Path, options: ExportOptions) -> None:
    """Refuse a file that gives something else than the network.

    Raises:
        EngineError: With what was measured and what is allowed.
    """
    if options.precision == "int8":
        agreement.check()
    elif agreement.largest_difference > DIFFERENCE_MAX:
        raise EngineError(
            f"{out}: scores differ by up to {agreement.largest_difference:.2g} from the network's, "
            f"and {DIFFERENCE_MAX:g} is allowed; nothing was written; try another --format"
        )


def shown(model: Model, side: int, options: ExportOptions) -> tuple[Batch, str]:
    """Windows that both forms see, and what they are."""
    if options.calibrate is None:
        shape = (NOISE_WINDOWS, len(model.card.bands), side, side)
        return np.random.default_rng(0).standard_normal(shape, np.float32), "noise"
    scene = Scene.open(options.calibrate, options).select(model.card.bands)
    grid = Grid(scene.height, scene.width, side, 0)
    calibration = Calibration(scene, grid, Normalizer.of(model.card, options.scale))
    return calibration.windows(), Path(scene.path).name


def plain(model: Model, batch: int) -> Predictor:
    """The network as it was trained, on torch."""
    from geohr.engines.torch import predictor_of

    return predictor_of(model, batch=batch)


def compiled(
    model: Model, shape: Shape, path: Path, windows: Batch, options: ExportOptions
) -> Predictor:
    """Write a network by the compiler of its engine, and read it back."""
    try:
        module = import_module(f"geohr.engines.{options.format}")
    except ImportError as error:
        raise EngineError(
            f"format {options.format} needs an engine to check the file with; "
            f"pip install 'geohr[{options.format}]'"
        ) from error
    compiler: Compiler = module.COMPILER
    # Made apart from the target, as engines leave what they compile beside a network.
    with tempfile.TemporaryDirectory() as folder:
        exact = made = Path(folder) / "float32" / compiler.network
        exact.parent.mkdir()
        if options.opset is not None:
            from geohr.engines.convert import to_onnx

            to_onnx(model, shape, exact, opset=options.opset)
        else:
            compiler.write(model, shape, exact)
        if options.precision == "int8":
            made = Path(folder) / compiler.network
            compiler.quantise(exact, batches(split(windows)[0], shape[0]), made)
        for file in made.parent.glob(f"{made.stem}.*"):
            shutil.copyfile(file, path.with_suffix(file.suffix))
        return compiler.load(made, cores(), options.precision)


def torchscript(
    model: Model, shape: Shape, path: Path, windows: Batch, options: ExportOptions
) -> Predictor:
    """Write a network as TorchScript, and read it back."""
    from geohr.engines.convert import to_torchscript
    from geohr.engines.torch import predictor_of_file

    to_torchscript(model, shape, path)
    return predictor_of_file(path, batch=options.batch)


def for_deepness(
    model: Model, shape: Shape, path: Path, windows: Batch, options: ExportOptions
) -> Predictor:
    """Write a network for Deepness, GeoDeep and WebODM, and read it back."""
    from geohr.engines.deepness import write

    return write(model, shape, path, opset=options.opset)


# The function for each format, which writes the file and returns a predictor that reads it.
WRITERS: dict[str, Callable[[Model, Shape, Path, Batch, ExportOptions], Predictor]] = {
    "onnx": compiled,
    "openvino": compiled,
    "torchscript": torchscript,
    "deepness": for_deepness,
}
