"""Progress as lines, for logs and pipes, every so often: plain ones, or events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from modelctl.cli.text import human
from modelctl.core.progress import Progress

INTERVAL_S = 5.0


class _Lines(Progress):
    """Adds up what is done, and tells it each `interval` [s] while something moves."""

    def __init__(self, verb: str, interval: float) -> None:
        self._verb, self._interval = verb, interval
        self._lock = threading.Lock()
        self._size = self._done_size = 0
        self._started = self._told = time.monotonic()

    def expect(self, files: int, size: int) -> None:
        self._size = size

    def advance(self, name: str, size: int) -> None:
        with self._lock:
            self._done_size += size
            now = time.monotonic()
            if now - self._told >= self._interval:
                self._told = now
                self._tell(now - self._started)

    def _tell(self, seconds: float) -> None:
        """Tell what is done after so many `seconds`."""
        raise NotImplementedError


class LineProgress(_Lines):
    """Writes them for people."""

    def __init__(self, verb: str, stream: TextIO) -> None:
        super().__init__(verb, INTERVAL_S)
        self._stream = stream

    def _tell(self, seconds: float) -> None:
        speed = self._done_size / max(seconds, 0.001)
        left = (self._size - self._done_size) / max(speed, 1)
        share = 100 * self._done_size / max(self._size, 1)
        print(
            f"{self._verb}: {human(self._done_size)} of {human(self._size)} ({share:.0f} %), "
            f"{human(speed)}/s, about {left:.0f} s left",
            file=self._stream,
            flush=True,
        )


class EventProgress(_Lines):
    """Passes them on as events, and each file that is where it belongs."""

    def __init__(self, verb: str, tell: Callable[..., None], interval: float = INTERVAL_S) -> None:
        """`tell` takes an event's name, and its facts by their names."""
        super().__init__(verb, interval)
        self._event = tell

    def _tell(self, seconds: float) -> None:
        self._event("progress", verb=self._verb, done=self._done_size, size=self._size, seconds=round(seconds, 1))

    def keep(self, path: str, size: int) -> None:
        self._event("file", path=path, size=size)
