"""`geohr`: the group of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType

import click

from geohr import __version__
from geohr._runtime.messages import take_over_messages
from geohr._runtime.redact import redact
from geohr.errors import EngineError, GeohrError, InterruptedRunError, UsageError
from geohr_cli.adapt import adapt
from geohr_cli.batch import batch
from geohr_cli.cells import cells
from geohr_cli.change import change
from geohr_cli.check import check
from geohr_cli.clean import clean
from geohr_cli.completion import completion
from geohr_cli.doctor import doctor
from geohr_cli.evaluate import evaluate
from geohr_cli.export import export
from geohr_cli.logs import line
from geohr_cli.models import models
from geohr_cli.plan import plan
from geohr_cli.report import report
from geohr_cli.segment import segment
from geohr_cli.stitch import stitch
from geohr_cli.tile import tile
from geohr_cli.train import train
from geohr_cli.vectorize import vectorize
from geohr_cli.view import view


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: geohr segment scene.tif --out buildings.gpkg",
)
@click.version_option(__version__, prog_name="geohr")
def geohr() -> None:
    """Turn large satellite and aerial scenes into georeferenced objects."""


for command in (
    plan,
    segment,
    batch,
    cells,
    change,
    check,
    clean,
    tile,
    stitch,
    vectorize,
    train,
    adapt,
    evaluate,
    export,
    models,
    view,
    report,
    doctor,
    completion,
):
    geohr.add_command(command)


def main() -> None:
    """Run the command line; ends the process with a documented exit code."""
    signal.signal(signal.SIGTERM, interrupt)
    take_over_messages()
    # Looked for here, as a wrong option ends the parsing before --debug is known.
    debug = "--debug" in sys.argv
    try:
        code = geohr.main(standalone_mode=False, prog_name="geohr")
    except (KeyboardInterrupt, click.Abort):
        code = fail("interrupted", InterruptedRunError.exit_code, debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = UsageError.exit_code
    except click.ClickException as error:
        code = fail(click_message(error), UsageError.exit_code, debug=debug)
    except GeohrError as error:
        code = fail(str(error), error.exit_code, debug=debug)
    except MemoryError:
        code = fail("out of memory; use a smaller --tile or --batch", 1, debug=debug)
    except Exception as error:
        text, code = unforeseen(error)
        code = fail(text, code, debug=debug)
    sys.exit(code if isinstance(code, int) else 0)


def interrupt(_: int, __: FrameType | None) -> None:
    """Take SIGTERM as SIGINT is taken, so that temporary files are removed."""
    raise KeyboardInterrupt


def unforeseen(error: Exception) -> tuple[str, int]:
    """What is said of an error that is not geohr's, and its exit code."""
    # What torchvision says on import where torch, and it alone, is without CUDA.
    if isinstance(error, RuntimeError) and "operator torchvision::" in str(error):
        return (
            "torchvision does not fit the installed torch; install both from one index: pip "
            "install --force-reinstall torch torchvision --index-url "
            "https://download.pytorch.org/whl/cpu",
            EngineError.exit_code,
        )
    text = f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"
    return text, GeohrError.exit_code


def fail(message: str, code: int, *, debug: bool) -> int:
    """Print one line on stderr, with the traceback before it where asked for."""
    if debug:
        traceback.print_exc()
    text = redact(" ".join(message.split()))
    if logs_json(sys.argv):
        print(line("error", "failed", text, {"code": code}), file=sys.stderr)
    else:
        print(f"geohr: {text}", file=sys.stderr)
    return code


def logs_json(arguments: list[str]) -> bool:
    """Whether the command was told to log JSON, asked also where its options are wrong."""
    joined = "\0".join(arguments)
    return "--log-format=json" in joined or "--log-format\0json" in joined


def click_message(error: click.ClickException) -> str:
    """A usage error of click's, with where to look."""
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "geohr"
    return f"{text}; see {command} --help"
