"""The program: every command, and how it ends.

A command is imported and built when it is asked for, and imports what it needs when it runs: building all of them
costs 25 ms of CPU, a quarter of a start.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from modelctl import __version__
from modelctl.cli import report
from modelctl.core.ending import end, ended_by
from modelctl.core.errors import ModelctlError

_MODULES = {
    "pack": "pack",
    "push": "push",
    "pull": "pull",
    "verify": "verify",
    "inspect": "inspect",
    "diff": "diff",
    "digest": "store",
    "ls": "store",
    "tag": "store",
    "rm": "store",
    "prune": "store",
    "crc32": "crc32",
    "cache": "cache",
    "render": "render",
    "preload": "preload",
    "unload": "preload",
    "status": "status",
    "node": "node",
    "regions": "regions",
    "doctor": "doctor",
    "login": "login",
    "logout": "login",
}
"""Which module of this room each command is a function, or a group, of."""


class _Commands(Mapping[str, Any]):
    """The commands by name, each built when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        found = getattr(import_module(f"modelctl.cli.{_MODULES[name]}"), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name)(found)
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class _Program(TyperGroup):
    """The group of `_Commands`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]


app = typer.Typer(
    name="modelctl",
    cls=_Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pack model weights into OCI artifacts, move and prove them, and bring them into the memory of nodes.",
    epilog="Exit statuses: 0 done, 1 bug, 2 usage, 3 not found, 4 wrong bytes, 5 unavailable, 7 denied, 9 partial, "
    "10 deadline, 11 invalid input, 12 conflict, 13 disk, 14 different, 130 interrupted.",
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


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that whatever is open is closed."""


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal: nothing waits any more, and the main thread leaves what it is at."""
    end(number)
    raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt


def main() -> NoReturn:
    """Run the command line and exit with its status.

    numpy comes with the safetensors validator; its BLAS would start a thread for each core, at 70 ms of CPU a run.
    Imports make many objects and no garbage: to look for cycles in them meanwhile and at the end costs 15 ms.
    """
    gc.set_threshold(100_000)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    try:
        sys.exit(_run())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        gc.freeze()


def _run() -> int:
    """Run the command; a signal wins over what else went wrong, and one that comes after it changes nothing."""
    try:
        status = int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, Abort, _Terminated):
        status = report.INTERRUPTED
    except Exception as error:
        status = report.INTERRUPTED if ended_by() else _print_failure(error)
    number = ended_by() if status else 0
    if number:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if number == signal.SIGTERM:
        report.note("terminated: what is done stays done; the same command goes on", quiet=False)
        return report.TERMINATED
    if number or status == report.INTERRUPTED:  # typer turns most ^C into this status, without a word
        report.note("interrupted: what is done stays done; the same command goes on", quiet=False)
        return report.INTERRUPTED
    return status


def _print_failure(error: Exception) -> int:
    """Print what a command failed with; return its status."""
    debug = "--debug" in sys.argv
    if isinstance(error, ModelctlError):
        report.print_error(error, debug=debug)
        return error.exit_status
    if isinstance(error, TyperException):
        report.print_usage(error)
        return 2
    if isinstance(error, BrokenPipeError):
        raise error
    report.print_bug(error, debug=debug)
    return 1
