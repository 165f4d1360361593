"""The only place that prints: results on stdout, everything else on stderr, errors in one form."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from typer.exceptions import TyperException

from modelctl.cli.options import NodeOutput, Output
from modelctl.cli.progress import EventProgress, LineProgress
from modelctl.core.errors import ModelctlError
from modelctl.core.progress import Progress

_STDOUT = 1
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
INTERRUPTED = 130
TERMINATED = 143


def print_result(report: object, output: Output | NodeOutput, text: str) -> None:
    """Print a result: `text` as it is, or `report` as JSON, in UTF-8 whatever the locale.

    A file name that is not UTF-8 comes out as `\\udcXX`, which JSON can say too.
    """
    if output == Output.json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        print_text(text)


def print_json(document: object) -> None:
    """Print a document as JSON."""
    print_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_event(event: str, **facts: object) -> None:
    """Print what happened as one line of JSON in ASCII, at once."""
    print_bytes(json.dumps({"event": event, **facts}).encode() + b"\n")


def print_text(text: str) -> None:
    """Print a result, without what a terminal would obey."""
    print_bytes(harmless(text).encode(errors="backslashreplace"))


def print_bytes(data: bytes) -> None:
    """Write to stdout at once; `DiskProblem` when it is full, BrokenPipeError when nobody reads it."""
    from modelctl.core.disk import write_all

    write_all(_STDOUT, data, "stdout")


def harmless(text: str) -> str:
    """Spell out control characters, which a terminal would obey: names and annotations are other people's."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def note(text: str, *, quiet: bool) -> None:
    """Print a line that is not the result."""
    if not quiet:
        print(harmless(text), file=sys.stderr)


def print_error(error: ModelctlError, *, debug: bool = False) -> None:
    """Print an error in the form of core/errors.py."""
    if debug:
        traceback.print_exception(error)
    print(harmless(str(error)), file=sys.stderr)


def print_bug(error: BaseException, *, debug: bool) -> None:
    """Print an error that nobody foresaw, in the same form."""
    if debug:
        traceback.print_exception(error)
    print(f"internal: {type(error).__name__}: {error}", file=sys.stderr)
    print("  why: modelctl did not foresee this; it is a bug", file=sys.stderr)
    if not debug:
        print("  try: the same command with --debug, and report what it prints", file=sys.stderr)


@contextmanager
def progress(verb: str, *, quiet: bool, events: bool = False) -> Iterator[Progress]:
    """Show a job's progress on stderr: bars on a terminal, else a line now and then, nothing when quiet.

    As `events` it goes to stdout, and is part of the result.
    """
    if events:
        yield EventProgress(verb, print_event)
    elif quiet:
        yield Progress()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from modelctl.cli.bars import BarProgress

        with BarProgress(verb) as bars:
            yield bars
    else:
        yield LineProgress(verb, sys.stderr)


def print_usage(error: TyperException) -> None:
    """Print what is wrong with the command line, in the same form; nothing when the help has said it."""
    if not error.format_message():
        return
    command = getattr(getattr(error, "ctx", None), "command_path", "modelctl")
    print(f"usage: {error.format_message()}", file=sys.stderr)
    print(f"  try: {command} --help", file=sys.stderr)
