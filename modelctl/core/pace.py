"""How fast bytes may go: a rate that several threads keep together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from modelctl.core.ending import wait

PIECE = 128 << 10
"""Bytes that go at once where there is a rate to keep."""

_CREDIT_S = 0.05
"""Time that was not used counts for so long: sleeping is not exact."""


class Pace:
    """At most `rate` bytes a second. Thread-safe: those who wait are served in turn."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until `size` bytes may go."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - _CREDIT_S) + size / self._rate
            wait_s = self._next - now
        if wait_s > 0:
            wait(wait_s)


def allowed(paces: Sequence[Pace], size: int) -> int:
    """Wait until some of the next `size` bytes may go, by every one of `paces`; return how many."""
    if not paces:
        return size
    size = min(size, PIECE)
    for pace in paces:
        pace.take(size)
    return size
