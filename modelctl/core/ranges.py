"""One remote file as a `Blob`, by ranged GETs. Who is asked, and how, is the source's: see `Ask`.

Source: RFC 9110 14, "Range Requests".
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import urllib3

from modelctl.core.errors import BadAnswer, ChecksumMismatch, Denied, ModelctlError, Unavailable
from modelctl.core.http import BROKEN, BUSY, described, drain, said
from modelctl.core.retry import retry_after, wait_after

Ask = Callable[[str], urllib3.BaseHTTPResponse]
"""Sends a GET with this `Range`, for the version that was listed and no other, and returns the answer to it.

It follows redirects where the source has any, asks for no encoding, and may raise what it knows better than a status
tells. Thread-safe.
"""

Renew = Callable[[], bool]
"""Looks for other credentials after a refusal; says whether there are any."""

_STEP = 256 << 10
"""Bytes read from a connection at once: what is lost where it breaks without an end."""

_CHANGED = (404, 410, 412, 416)
"""Statuses of a file that is not there as it was listed."""


class RangeBlob:
    """Bytes of one version of a remote file. Thread-safe: each read is a request of its own."""

    def __init__(self, name: str, size: int, ask: Ask, *, renew: Renew = lambda: False, hint: str = "") -> None:
        """Read with `ask` a file of `size` bytes.

        Args:
            name: The file and its source, for errors.
            size: As it was listed [bytes].
            ask: Sends a request.
            renew: Called once a read when it was refused (401, 403).
            hint: What to do about credentials that do not suffice.
        """
        self.size = size
        self._name, self._ask, self._renew, self._hint = name, ask, renew, hint
        self._closed = threading.Event()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; what breaks off, stalls or is put off is asked for again, from where it was.

        Raises:
            ChecksumMismatch: The file is not the version that was listed any more.
            Denied: 401, 403, also with new credentials.
            Unavailable: No answer, 429, 5xx, or a connection that breaks, `ATTEMPTS` times.
            BadAnswer: Another range or length than was asked for, or any other status.
        """
        if offset + len(buffer) > self.size:
            raise BadAnswer(self._name, why=f"it has {self.size} bytes; {offset + len(buffer)} were expected")
        reading = _Reading(offset, buffer)
        failures = 0
        while reading.left:
            try:
                self._go_on(reading)
            except Unavailable as error:
                failures += 1
                wait_s = wait_after(failures, error.retry_after) if error.retryable else None
                if wait_s is None or self._closed.wait(wait_s):
                    raise

    def _go_on(self, reading: _Reading) -> None:
        try:
            self._read(reading)
        except Denied:
            if reading.renewed or not self._renew():
                raise
            reading.renewed = True

    def _read(self, reading: _Reading) -> None:
        """Ask for what is missing, once."""
        first, last = reading.offset, reading.offset + len(reading.left) - 1
        response = self._ask(f"bytes={first}-{last}")
        with self._lock:
            self._open.add(response)
        try:
            self._check(response, first, last)
            self._fill(response, reading)
        except BaseException:
            response.close()
            raise
        finally:
            with self._lock:
                self._open.remove(response)
        response.release_conn()

    def _check(self, response: urllib3.BaseHTTPResponse, first: int, last: int) -> None:
        if self._closed.is_set():
            raise BadAnswer(self._name, why="it was closed while it was read")
        if response.status != 206:
            raise self._problem(response)
        found = {name: response.headers.get(name, "") for name in ("Content-Range", "Content-Length")}
        expected = {"Content-Range": f"bytes {first}-{last}/{self.size}", "Content-Length": str(last - first + 1)}
        encoding = response.headers.get("Content-Encoding", "identity")
        if found != expected or encoding != "identity":
            found["Content-Encoding"], expected["Content-Encoding"] = encoding, "identity"
            raise BadAnswer(self._name, why=f"it answered with {found}; {expected} was asked for")

    def _fill(self, response: urllib3.BaseHTTPResponse, reading: _Reading) -> None:
        """Read the body straight into the buffer: urllib3's own `readinto` copies, which costs as much as receiving."""
        raw = cast(http.client.HTTPResponse, cast(urllib3.HTTPResponse, response)._fp)
        try:
            while reading.left:
                count = raw.readinto(reading.left[:_STEP])
                if not count:
                    raise Unavailable(self._name, why=f"the answer ended at byte {reading.offset}")
                reading.advance(count)
        except BROKEN as error:
            raise Unavailable(self._name, why=f"at byte {reading.offset}: {described(error)}") from error

    def _problem(self, response: urllib3.BaseHTTPResponse) -> ModelctlError:
        body = drain(response)
        why = f"it answered {response.status}" + (f": {said(body)}" if body and response.status >= 400 else "")
        if response.status in _CHANGED:
            return changed(self._name, why)
        if response.status in (401, 403):
            return Denied(self._name, why=why, hint=self._hint)
        if response.status in BUSY:
            return Unavailable(self._name, why=why, retry_after=retry_after(response.headers))
        if response.status == 200:
            why += " and all of the file to a request for a part of it"
        return BadAnswer(self._name, why=why)

    def close(self) -> None:
        """End the reads that other threads are at; those that wait for an answer end when it comes."""
        self._closed.set()
        with self._lock:
            for response in self._open:
                with suppress(OSError, ValueError, RuntimeError):
                    cast(urllib3.HTTPResponse, response).shutdown()


class _Reading:
    """How far a read came: what is `left` of its buffer, and where that lies in the file."""

    def __init__(self, offset: int, buffer: memoryview) -> None:
        self.offset, self.left = offset, buffer
        self.renewed = False

    def advance(self, count: int) -> None:
        self.offset += count
        self.left = self.left[count:]


def changed(name: str, why: str) -> ChecksumMismatch:
    """Say that a file is not the version that was listed."""
    return ChecksumMismatch(
        f"{name} changed while it was read",
        why=why,
        hint="wait until nobody writes there, then run the same command again",
    )
