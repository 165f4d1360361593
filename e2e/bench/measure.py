"""Run a command or a function in a process of its own, pinned to a core, and say what it cost."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CLIENT_CORE = 0
SERVER_CORE = 1
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
MODELCTL = str(Path(sys.executable).with_name("modelctl"))


class Cost(NamedTuple):
    """Wall time and CPU time (user and system) [s], and the largest resident set [bytes]."""

    wall: float
    cpu: float
    rss: int


Rounds = dict[str, list[Cost]]
"""What each work cost, a round an item."""


def run(command: Sequence[str]) -> Cost:
    """Run a command on the client's core; its output is thrown away, a failure is raised with it."""

    def child() -> int:
        with open(os.devnull, "wb") as nothing, open(f"/tmp/bench-{os.getpid()}.err", "w+b") as errors:
            status = subprocess.call(command, stdout=nothing, stderr=errors)
            errors.seek(0)
            os.unlink(errors.name)
            if status:
                print(f"{command}: {errors.read().decode()}")
        return status

    return call(child)


def call(work: Callable[[], int | None]) -> Cost:
    """Run a function in a forked child on the client's core; a status other than 0 or None is a failure."""
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.sched_setaffinity(0, {CLIENT_CORE})
            status = work() or 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"bench: a measured process ended with {status}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def measure(works: Mapping[str, Callable[[], Cost]], before: Callable[[str], object] = lambda name: None) -> Rounds:
    """Measure each work once a round, `RUNS` rounds, so that all of a round see the machine in one mood."""
    rounds: Rounds = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            before(name)
            rounds[name].append(work())
    return rounds


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the medians of several runs, and the largest resident set of any."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        max(cost.rss for cost in costs),
    )


def bytes_read(command: list[str], folder: Path) -> tuple[int, int]:
    """Count, under strace, the bytes that a command reads from the shards of `folder`, and those that it maps.

    The command must work on one shard at a time: strace cuts the lines of calls that overlap.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".trace") as trace:
        calls = "read,pread64,readv,preadv,preadv2,sendfile,copy_file_range,mmap"
        wanted = re.escape(str(folder))
        subprocess.run(
            ["strace", "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", trace.name, *command],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [line for line in trace if re.search(rf"<{wanted}/[^>]*\.safetensors>", line)]
    results = [(re.search(r" (\w+)\(", line), re.search(r"= (\d+)\s*$", line), line) for line in lines]
    read = sum(int(end[1]) for name, end, _ in results if name and end and name[1] != "mmap")
    maps = [re.search(r"mmap\([^,]+, (\d+)", line) for name, _, line in results if name and name[1] == "mmap"]
    return read, sum(int(found[1]) for found in maps if found)
