"""Progress as plain lines, for logs and pipes: every so often."""

from __future__ import annotations

import threading
import time
from typing import TextIO

from modelctl.cli.text import human
from modelctl.core.progress import Progress

INTERVAL_S = 5.0


class LineProgress(Progress):
    """Writes a line each `INTERVAL_S` while something moves."""

    def __init__(self, verb: str, stream: TextIO) -> None:
        self._verb, self._stream = verb, stream
        self._lock = threading.Lock()
        self._size = self._done_size = 0
        self._started = self._told = time.monotonic()

    def expect(self, files: int, size: int) -> None:
        self._size = size

    def advance(self, name: str, size: int) -> None:
        with self._lock:
            self._done_size += size
            now = time.monotonic()
            if now - self._told >= INTERVAL_S:
                self._told = now
                self._tell(now)

    def _tell(self, now: float) -> None:
        speed = self._done_size / max(now - self._started, 0.001)
        left = (self._size - self._done_size) / max(speed, 1)
        share = 100 * self._done_size / max(self._size, 1)
        print(
            f"{self._verb}: {human(self._done_size)} of {human(self._size)} ({share:.0f} %), "
            f"{human(speed)}/s, about {left:.0f} s left",
            file=self._stream,
            flush=True,
        )
