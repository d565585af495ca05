"""Run the geohr command and report its progress to QGIS."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import QgsProcessingException

SETTING = "GEOHR_COMMAND"
DEFAULT = "geohr"
INSTALL = "https://github.com/geohr/geohr/blob/main/docs/install.md"
PROGRESS = re.compile(r": (\d+) of (\d+)$")


def run(arguments: list[str], feedback: Any) -> str:
    """Run geohr and return what it printed.

    Raises:
        QgsProcessingException: With the last line that geohr printed, or when it cannot be run.
    """
    command = shlex.split(ProcessingConfig.getSetting(SETTING) or DEFAULT)
    # QGIS's own Python must not be mixed into that of geohr.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    feedback.pushCommandInfo(shlex.join([*command, *arguments]))
    try:
        child = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean, text=True,
        )  # fmt: skip
    except OSError as error:
        raise QgsProcessingException(
            f"{command[0]} cannot be run ({error.strerror}); install geohr ({INSTALL}), and name "
            "the command in Settings > Options > Processing > Providers > geohr"
        ) from error
    last = ""
    with child:
        for line in child.stderr or ():
            last = line.strip()
            found = PROGRESS.search(last)
            if found:
                feedback.setProgress(100 * int(found[1]) / int(found[2]))
            else:
                feedback.pushInfo(last)
            if feedback.isCanceled():
                child.terminate()
        printed = child.stdout.read() if child.stdout else ""
    if child.returncode != 0:
        raise QgsProcessingException(last or f"geohr ended with {child.returncode}")
    feedback.pushInfo(printed.strip())
    return printed
