"""The only place that prints: results on stdout, everything else on stderr, errors in one form."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from typer.exceptions import TyperException

from modelctl.cli.options import Output
from modelctl.cli.progress import LineProgress
from modelctl.core.errors import ModelctlError
from modelctl.core.progress import Progress

INTERRUPTED = 130
TERMINATED = 143


def print_result(report: object, output: Output, text: str) -> None:
    """Print a result: `text` as it is, or `report` as JSON."""
    if output is Output.json:
        import msgspec

        text = json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str, *, quiet: bool) -> None:
    """Print a line that is not the result."""
    if not quiet:
        print(text, file=sys.stderr)


def print_error(error: ModelctlError, *, debug: bool = False) -> None:
    """Print an error in the form of core/errors.py."""
    if debug:
        traceback.print_exception(error)
    print(error, file=sys.stderr)


def print_bug(error: BaseException, *, debug: bool) -> None:
    """Print an error that nobody foresaw, in the same form."""
    if debug:
        traceback.print_exception(error)
    print(f"internal: {type(error).__name__}: {error}", file=sys.stderr)
    print("  why: modelctl did not foresee this; it is a bug", file=sys.stderr)
    if not debug:
        print("  try: the same command with --debug, and report what it prints", file=sys.stderr)


@contextmanager
def progress(verb: str, *, quiet: bool) -> Iterator[Progress]:
    """Show a job's progress on stderr: bars on a terminal, else a line now and then, nothing when quiet."""
    if quiet:
        yield Progress()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from modelctl.cli.bars import BarProgress

        with BarProgress(verb) as bars:
            yield bars
    else:
        yield LineProgress(verb, sys.stderr)


def print_usage(error: TyperException) -> None:
    """Print what is wrong with the command line, in the same form."""
    command = getattr(getattr(error, "ctx", None), "command_path", "modelctl")
    print(f"usage: {error.format_message()}", file=sys.stderr)
    print(f"  try: {command} --help", file=sys.stderr)
