"""How the process ends when a signal asks for it: at once, whatever its threads wait for."""

from __future__ import annotations

import _thread
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOOK_S = 0.1
"""Those who wait look so often whether the process is ending [s]."""

_STREAMS = (0, 1, 2)
"""stdin, stdout and stderr may be connections that others use too."""

_NEVER = threading.Event()
_signals: list[int] = []
_keepers: list[None] = []


class Ended(Exception):
    """The process is ending, so nothing is waited for any more. Never reaches the user."""


def end(number: int) -> None:
    """End all waits, and all connections but those that are kept, also those still to come, because a signal came.

    It takes no lock: signal handlers call it, while the thread that they interrupt may hold any.
    """
    _signals.append(number)
    if len(_signals) == 1:
        _thread.start_new_thread(_hang_up, ())


def ended_by() -> int:
    """Return the number of the signal that came first, 0 when none did."""
    return _signals[0] if _signals else 0


@contextmanager
def keeping_connections() -> Iterator[None]:
    """Keep connections when the process is to end: for what has to learn first what it did."""
    _keepers.append(None)
    try:
        yield
    finally:
        _keepers.pop()


def check() -> None:
    """Raise `Ended` when the process is ending."""
    if _signals:
        raise Ended


def wait(seconds: float, closed: threading.Event = _NEVER) -> bool:
    """Wait so long, or until `closed` is set; say whether it is.

    Raises:
        Ended: The process is ending.
    """
    until = time.monotonic() + seconds
    check()
    while (left_s := until - time.monotonic()) > 0:
        if closed.wait(min(left_s, _LOOK_S)):
            return True
        check()
    return closed.is_set()


def _hang_up() -> None:
    """Shut down every TCP connection, again and again: what blocks in one fails, whoever opened it."""
    while True:
        with suppress(OSError):
            for name in os.listdir("/proc/self/fd") if not _keepers else ():
                _shut_down(int(name))
        time.sleep(_LOOK_S)


def _shut_down(fd: int) -> None:
    """Shut down what a file descriptor stands for, where that is a TCP connection; it stays open."""
    if fd in _STREAMS:
        return
    with suppress(OSError):
        sock = socket.socket(fileno=fd)
        try:
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if sock.family in (socket.AF_INET, socket.AF_INET6) and not listening:
                sock.shutdown(socket.SHUT_RDWR)
        finally:
            sock.detach()
