"""The one retry policy: what is worth another try, how often, and how long to wait before it.

Knows nothing of who is asked.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeVar

from modelctl.core.ending import wait
from modelctl.core.errors import Unavailable

Result = TypeVar("Result")

ATTEMPTS = 6
LONGEST_WAIT_S = 60.0

_FIRST_WAIT_S = 0.2
_LAST_WAIT_S = 20.0


class Patience(NamedTuple):
    """How long something is tried: at most `attempts` times, none begun so long after the first failed [s]."""

    attempts: int
    timeout_s: float


PATIENT = Patience(ATTEMPTS, 2 * LONGEST_WAIT_S)
"""9 s where nobody listens, and the policy wherever nothing else is said."""

BRIEF = Patience(3, 10.0)
"""2 s where nobody listens, and at most two tries that take 10 s each."""


def retrying(work: Callable[[], Result], patience: Patience = PATIENT) -> Result:
    """Do `work` again while it ends in a retryable `Unavailable`, with backoff, for a bounded time.

    The wait grows from 0.2 s with jitter; a Retry-After is honoured up to `LONGEST_WAIT_S`.
    """
    try:
        return work()
    except Unavailable as error:
        if not error.retryable:
            raise
        return _retry(work, error, patience)


def _retry(work: Callable[[], Result], failure: Unavailable, patience: Patience) -> Result:
    """Go on after a first `failure`. stamina counts; the waits are ours, for its own go on when the process ends."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])
    for attempt in stamina.retry_context(
        on=_is_worth_it,
        attempts=patience.attempts,
        timeout=patience.timeout_s,
        wait_initial=0,
        wait_jitter=0,
    ):
        with attempt:
            if attempt.num == 1:
                raise failure
            wait(0 if stamina.is_testing() else _backoff(failure, attempt.num - 1))
            try:
                return work()
            except Unavailable as error:
                failure = error
                raise
    raise failure


def _is_worth_it(error: Exception) -> bool:
    return isinstance(error, Unavailable) and error.retryable and (error.retry_after or 0) <= LONGEST_WAIT_S


def _backoff(failure: Unavailable, failures: int) -> float:
    """Return how long to wait after the last of so many failures in a row [s]."""
    if failure.retry_after is not None:
        return failure.retry_after
    wait_s = _FIRST_WAIT_S * 2 ** (failures - 1) + random.uniform(0, 0.5)  # noqa: S311
    return float(min(wait_s, _LAST_WAIT_S))


def wait_after(failures: int, asked_s: float | None = None) -> float | None:
    """Return how long to wait [s] after so many failures in a row, for a thread that waits by itself.

    Up to half as long again as it has to be: threads that were put off together do not come back together.

    Args:
        failures: At least 1.
        asked_s: The last one's `retry_after` [s].

    Returns:
        None when it is to be given up.
    """
    if failures >= ATTEMPTS or (asked_s or 0) > LONGEST_WAIT_S:
        return None
    wait_s = min(_FIRST_WAIT_S * 2 ** (failures - 1), _LAST_WAIT_S) if asked_s is None else asked_s
    return wait_s * random.uniform(1, 1.5)  # noqa: S311


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how long a Retry-After asks to wait [s]. Source: RFC 9110 10.2.3, seconds or a date."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text).replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (then - datetime.datetime.now(tz=datetime.UTC)).total_seconds())
