"""The program: every command, and how it ends.

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from modelctl import __version__
from modelctl.cli import crc32, inspect, login, pack, pull, push, report, store, verify
from modelctl.core.errors import ModelctlError

app = typer.Typer(
    name="modelctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pack model weights into OCI artifacts, pull them back, and prove them.",
    epilog="Exit statuses: 0 done, 1 bug, 2 usage, 3 not found, 4 wrong bytes, 5 unavailable, 7 denied, "
    "11 invalid input, 12 conflict, 13 disk, 130 interrupted.",
)


def _print_version(value: bool) -> None:
    if value:
        report.print_bytes(f"modelctl {__version__}\n".encode())
        raise typer.Exit


@app.callback()
def modelctl(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take the flags that stand before a command."""


for module in (pack, push, pull, verify, inspect, store, crc32, login):
    module.register(app)


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that whatever is open is closed."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def main() -> NoReturn:
    """Run the command line and exit with its status.

    numpy comes with the safetensors validator; its BLAS would start a thread for each core, at 70 ms of CPU a run.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(_run())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run() -> int:
    debug = "--debug" in sys.argv
    try:
        status = int(app(standalone_mode=False) or 0)
    except ModelctlError as error:
        report.print_error(error, debug=debug)
        return error.exit_status
    except TyperException as error:
        report.print_usage(error)
        return 2
    except (KeyboardInterrupt, Abort):
        status = report.INTERRUPTED
    except _Terminated:
        report.note("terminated: what is done stays done; the same command goes on", quiet=False)
        return report.TERMINATED
    except (BrokenPipeError, SystemExit):
        raise
    except Exception as error:
        report.print_bug(error, debug=debug)
        return 1
    if status == report.INTERRUPTED:  # typer turns most ^C into this status, without a word
        report.note("interrupted: what is done stays done; the same command goes on", quiet=False)
    return status
