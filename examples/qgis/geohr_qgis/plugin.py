"""The plugin and its provider."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider

from .algorithms import Evaluate, Segment
from .command import DEFAULT, SETTING


class Provider(QgsProcessingProvider):
    """The algorithms, and the setting that names the command."""

    def id(self) -> str:
        """Name in commands."""
        return "geohr"

    def name(self) -> str:
        """Name in the toolbox."""
        return "geohr"

    def load(self) -> bool:
        """Register the setting and the algorithms."""
        ProcessingConfig.addSetting(Setting("geohr", SETTING, "geohr command", DEFAULT))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add the algorithms."""
        for algorithm in (Segment(), Evaluate()):
            self.addAlgorithm(algorithm)


class Plugin:
    """What QGIS loads and unloads."""

    def __init__(self) -> None:
        self.provider: Provider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Add the provider; qgis_process calls nothing else."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802
        """Add the provider."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        QgsApplication.processingRegistry().removeProvider(self.provider)
