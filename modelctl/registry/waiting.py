"""How fast each member of a job is of late, and how long the others wait for one that is slower."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import fmean

LOOK_S = 0.05
"""Those who wait look so often whether that is worth it [s]."""

_GRACE_S = 1.0
_SHARE = 0.05
_RECENT_S = 2.0
"""What was before that long counts a third [s]."""


class Speed:
    """How fast one upload of a member sends, of late, not counting how long it waits for more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[object, float] = {}
        self._rate = self._weight = 0.0

    def begin(self, upload: object) -> None:
        """An upload has something to send."""
        self._since[upload] = self._clock()

    def end(self, upload: object, size: int) -> None:
        """It is sent; where that was nothing, nothing follows from how long it took."""
        since = self._since.pop(upload, None)
        if since is not None and size:
            busy_s = max(self._clock() - since, 1e-6)
            left = math.exp(-busy_s / _RECENT_S)
            self._rate = self._rate * left + size / busy_s * (1 - left)
            self._weight = self._weight * left + 1 - left

    def rate(self) -> float:
        """Return how fast, on average [bytes/s]; an upload that sends nothing of what it has makes that less."""
        now = self._clock()
        left = fmean(math.exp((since - now) / _RECENT_S) for since in self._since.values()) if self._since else 1.0
        return self._rate * left / max(self._weight * left + 1 - left, 1e-9)


class Credit:
    """What is left of the time that may be waited: in all a second and 5 % of the time that has gone by."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._spent_s = 0.0

    def left_s(self) -> float:
        return _GRACE_S + _SHARE * (self._clock() - self._began) - self._spent_s

    def spend(self, waited_s: float, rate: float, fastest: float) -> None:
        """Take note of a wait for one that sends at `rate`, of one that sends at `fastest` [bytes/s].

        For one as fast it costs nothing, since each is behind at times; for one half as fast half of the time.
        """
        self._spent_s += max(0.0, 1 - rate / max(fastest, 1.0)) * waited_s
