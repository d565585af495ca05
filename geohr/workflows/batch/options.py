"""The options of `batch` that do not concern how a scene is segmented."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.errors import UsageError
from geohr.options import ClusterOptions, ResumeOptions, opt


@dataclass(frozen=True)
class BatchOptions(ClusterOptions, ResumeOptions):
    """The options of `batch`: which scenes, the names of their outputs, and what failures mean."""

    name: tuple[str, ...] = opt(
        ("{stem}.gpkg",),
        "Names of a scene's outputs inside the output folder, separated by commas; {stem}, "
        "{parent} and {suffix} stand for those of the scene.",
        metavar="TEMPLATE",
    )
    probs_name: str | None = opt(
        None, "Name of a raster of probabilities, as in --name.", metavar="TEMPLATE"
    )
    stac: bool = opt(False, "Write a STAC Item beside each scene's first output: NAME.stac.json.")
    pattern: str | None = opt(
        None,
        "Which files of a folder are scenes, such as '**/*.tif'; by default all rasters.",
        metavar="GLOB",
    )
    overwrite: bool = opt(False, "Replace outputs that no earlier batch wrote.")
    skip_existing: bool = opt(
        False, "Skip scenes whose outputs exist, even if no earlier batch wrote them."
    )
    retries: int = opt(2, "Retries for a scene that is read over a network.", low=0, high=100)
    max_failures: int | None = opt(
        None, "Stop after this many failed scenes; by default, never.", low=1
    )
    timeout: float | None = opt(
        None, "Time limit for a scene, in seconds.", low=0.1, metavar="SECONDS"
    )
    settle: float = opt(
        10.0,
        "Time without a change after which a file counts as complete.",
        low=0,
        metavar="SECONDS",
    )
    watch: float | None = opt(
        None, "Look for new scenes at this interval, until stopped.", low=0.1, metavar="SECONDS"
    )
    allow_vrt: bool = opt(False, "Accept VRT files, which can read any other file or URL.")

    def __post_init__(self) -> None:
        """Refuse an empty list of outputs.

        Raises:
            UsageError: When no output is named.
        """
        super().__post_init__()
        if not self.name or not all(self.name):
            raise UsageError("name must give at least one output, such as {stem}.gpkg")
