"""Bringing a model into memory, against a loop of reads; and what it costs to hold one there.

The file is on a disk, below build/: on tmpfs nothing is ever cold.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from e2e.bench.measure import CLIENT_CORE, MODELCTL, Cost, call, measure
from e2e.bench.parts import read
from e2e.bench.show import compare
from modelctl.node.pages import Pages
from tests.fakes.registries import free_port

SIZE = 1 << 30
WATCHED_S = 60
INTERVAL_S = 30
"""The default of `node warm --interval`."""

POPULATE = "MADV_POPULATE_READ"


def bench_node() -> dict[str, Any]:
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-node-", dir="build") as name:
        file = Path(name, "weights")
        with file.open("wb") as written:
            block = os.urandom(1 << 20)
            for _ in range(SIZE >> 20):
                written.write(block)
        return {
            "warm, cold on disk": _compare("1 GiB cold on disk, into memory", file, _drop),
            "warm, cached": _compare("1 GiB cached, into the mapping", file, _cache),
            "hold": _hold(file.parent),
        }


def _compare(title: str, file: Path, before: Callable[[Path], None]) -> dict[str, Any]:
    works: dict[str, Callable[[], Cost]] = {
        POPULATE: partial(call, lambda: _populate(file)),
        "read() into 1 MiB": partial(call, lambda: read([file])),
    }
    return compare(title, measure(works, lambda name: before(file)), [], [POPULATE], SIZE)


def _populate(file: Path) -> None:
    with Pages(file) as pages:
        pages.populate(lambda size: None)


def _drop(file: Path) -> None:
    """Take the file out of the page cache."""
    fd = os.open(file, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def _cache(file: Path) -> None:
    read([file])


def _hold(folder: Path) -> dict[str, Any]:
    """Watch a holder for a minute: two looks, at the default interval."""
    port = free_port()
    hold = [MODELCTL, "node", "warm", str(folder), "--hold", "--interval", str(INTERVAL_S), "--listen", f":{port}"]
    with subprocess.Popen(
        ["taskset", "--cpu-list", str(CLIENT_CORE), *hold], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        time.sleep(1)
        started = _cpu(holder.pid)
        time.sleep(WATCHED_S)
        spent = _cpu(holder.pid) - started
        holder.terminate()
    print(f"holding 1 GiB, a look each {INTERVAL_S} s: {spent * 1000:.0f} ms of CPU in {WATCHED_S} s\n")
    return {"cpu_s": spent, "watched_s": WATCHED_S}


def _cpu(pid: int) -> float:
    """Return how long the threads of a process have run [s]. Source: proc(5), schedstat counts nanoseconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
