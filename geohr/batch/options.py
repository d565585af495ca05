"""What `batch` can be told besides how a scene is segmented."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.errors import UsageError
from geohr.options import ClusterOptions, ResumeOptions, opt


@dataclass(frozen=True)
class BatchOptions(ClusterOptions, ResumeOptions):
    """Which scenes are taken, what their outputs are called, and what failures mean."""

    name: tuple[str, ...] = opt(
        ("{stem}.gpkg",),
        "Outputs of a scene inside the output folder, by extension; {stem}, {parent} and {suffix} "
        "are the scene's. Several are separated by commas.",
        metavar="TEMPLATE",
    )
    probs_name: str | None = opt(
        None, "The same for a raster of probabilities.", metavar="TEMPLATE"
    )
    stac: bool = opt(False, "Write a STAC Item beside each scene's first output: NAME.stac.json.")
    pattern: str | None = opt(
        None,
        "Which files of a folder are scenes, such as '**/*.tif'; by default all rasters in it.",
        metavar="GLOB",
    )
    overwrite: bool = opt(False, "Replace outputs that no earlier batch has made.")
    skip_existing: bool = opt(
        False, "Leave out scenes whose outputs are there though no earlier batch has made them."
    )
    retries: int = opt(
        2, "How often a scene that is read over a network is tried again.", low=0, high=100
    )
    max_failures: int | None = opt(
        None, "End after this many scenes have failed; by default go on to the last.", low=1
    )
    timeout: float | None = opt(
        None, "Seconds after which a scene is given up.", low=0.1, metavar="SECONDS"
    )
    settle: float = opt(
        10.0,
        "A file counts as complete when it has not changed for this long.",
        low=0,
        metavar="SECONDS",
    )
    watch: float | None = opt(
        None, "Look for new scenes every so often, until stopped.", low=0.1, metavar="SECONDS"
    )
    allow_vrt: bool = opt(False, "Take VRT files, which can read any other file or address.")

    def __post_init__(self) -> None:
        """Refuse an empty list of outputs.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        if not self.name or not all(self.name):
            raise UsageError("name must give at least one output, such as {stem}.gpkg")
