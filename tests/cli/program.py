"""The program as a user runs it: in a process of its own, with a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

MODELCTL = (sys.executable, "-m", "modelctl")

COMMANDS = (
    "pack",
    "push",
    "pull",
    "verify",
    "inspect",
    "diff",
    "digest",
    "ls",
    "tag",
    "rm",
    "prune",
    "crc32",
    "cache",
    "render",
    "preload",
    "unload",
    "status",
    "node",
    "regions",
    "doctor",
    "login",
    "logout",
)


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME")}
    return kept | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "TERM": "xterm", "COLUMNS": "100"} | changes


def run(
    *args: str | Path, stdin: str = "", stdout: int = subprocess.PIPE, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `modelctl` with `args` and `stdin`; `changes` are of its environment."""
    return subprocess.run(
        [*MODELCTL, *map(str, args)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        input=stdin,
        text=True,
        encoding="utf-8",
        env=environment(**changes),
        check=False,
    )


def run_into_closed_pipe(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `modelctl` when nobody reads its stdout any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return run(*args, stdout=writer)
    finally:
        os.close(writer)


def run_and_signal(number: signal.Signals, store: Path, *args: str) -> tuple[int, str]:
    """Run `modelctl` and signal it once it writes a blob to `store`; return its status and stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([*MODELCTL, *args], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        while process.poll() is None and written(store) < 1 << 20:
            time.sleep(0.002)
        process.send_signal(number)
        _, stderr = process.communicate()
        return process.returncode, stderr


def unfinished(store: Path) -> list[Path]:
    return list(store.glob(".modelctl/unfinished-*"))


def written(store: Path) -> int:
    """Return the size of the largest unfinished file [bytes]."""
    with suppress(FileNotFoundError):  # finished in this moment
        return max((path.stat().st_size for path in unfinished(store)), default=0)
    return 0


def run_on_terminal(*args: str, **changes: str) -> tuple[str, str]:
    """Run `modelctl` with a terminal as its stderr; return its stdout and what the terminal got."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*MODELCTL, *args], stdout=subprocess.PIPE, stderr=theirs, env=environment(**changes), text=True
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b""))
        stdout, _ = process.communicate()
    os.close(ours)
    return stdout, seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other side is closed
        return b""
