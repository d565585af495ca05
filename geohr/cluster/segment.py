"""The front door: a scene in, files out, with the work done by a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distributed import Client

from geohr._runtime.stop import Stop
from geohr.api.segment import Summary, segment_to_files
from geohr.cluster.executor import DaskExecutor
from geohr.inference.pipeline import Progress
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.scene.prepare import SceneLike
from geohr.tiling.blocks import BlockSize


def segment(
    client: Client,
    scene: SceneLike,
    out: Sequence[str | Path],
    *,
    probs: str | Path | None = None,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    stac: bool = False,
    block_size: BlockSize | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> Summary:
    """Objects, classes and probabilities of a scene into files, predicted by a cluster.

    The same bytes as `geohr.segment_to_files` writes with the same engine on one core, whatever the
    block size, the number of workers, and what became of them.

    Args:
        client: The client of the cluster; see `geohr.cluster.connected`.
        scene: A raster that all workers find under this name.
        out: Polygons or a raster of classes, by extension; addresses in an object store need a
            `work_dir` that all share.
        probs: A raster of probabilities to write, or None.
        model: A bundled name, a model file or a `Model`; it need not be where workers find it.
        options: The options of segmentation; by default those of the model card.
        stac: Write a STAC Item beside the first output.
        block_size: Windows of a block; by default as many down as across.
        overwrite: Replace outputs that exist.
        progress: Called with windows done and windows in all.
        work_dir: Where finished blocks are kept, and all workers write; by default beside `out`.
        resume: Use the finished blocks of an earlier run.
        stop: When requested, the blocks in hand are finished and the run ends with an error.

    Raises:
        UsageError: When an output exists or its extension is not known.
        InputError: When the scene or the model cannot be used, or does not fit the other.
        OutputError: When an output or the work folder cannot be written, or is not shared.
        EngineError: When the cluster is gone, no worker can predict, or they differ.
        LockedError: When another run writes the same outputs.
        InterruptedRunError: When `stop` was requested.
    """
    return segment_to_files(
        scene,
        out,
        probs=probs,
        model=model,
        options=options,
        stac=stac,
        block_size=block_size,
        executor=DaskExecutor(client),
        overwrite=overwrite,
        progress=progress,
        work_dir=work_dir,
        resume=resume,
        stop=stop,
    )
