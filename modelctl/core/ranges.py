"""One remote file as a `Blob`, by ranged GETs. Who is asked, and how, is the source's: see `Ask`.

Source: RFC 9110 14, "Range Requests".
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import urllib3

from modelctl.core.ending import wait
from modelctl.core.errors import BadAnswer, ChecksumMismatch, Denied, ModelctlError, Unavailable
from modelctl.core.http import BROKEN, BUSY, block, described, drain, is_plain, said
from modelctl.core.retry import retry_after, wait_after

Ask = Callable[[str], urllib3.BaseHTTPResponse]
"""Sends a GET with this `Range`, for the version that was listed and no other, and returns the answer to it.

It follows redirects where the source has any, asks for no encoding, and may raise what it knows better than a status
tells. Thread-safe.
"""

_STEP = 256 << 10
"""Bytes read from a connection at once: what is lost where it breaks without an end."""

_CHANGED = (404, 410, 412, 416)
"""Statuses of a file that is not there as it was listed."""


class RangeBlob:
    """Bytes of one version of a remote file. Thread-safe: each read, and each stream, is a request of its own."""

    def __init__(self, name: str, size: int, ask: Ask, *, hint: str = "") -> None:
        """Read with `ask` a file of `size` bytes.

        Args:
            name: The file and its source, for errors.
            size: As it was listed [bytes].
            ask: Sends a request.
            hint: What to do about credentials that do not suffice.
        """
        self.size = size
        self.name, self.ask, self.hint = name, ask, hint
        self.closed = threading.Event()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; as `Stream.read_into`."""
        self.stream(offset, offset + len(buffer)).read_into(buffer)

    def stream(self, start: int, end: int) -> Stream:
        """Return what reads the bytes from `start` to `end` in order; they are asked for at its first read.

        Raises:
            BadAnswer: The file has not so many.
        """
        if end > self.size:
            raise BadAnswer(self.name, why=f"it has {self.size} bytes; {end} were expected")
        return Stream(self, start, end)

    def check_open(self) -> None:
        if self.closed.is_set():
            raise BadAnswer(self.name, why="it was closed while it was read")

    def note(self, response: urllib3.BaseHTTPResponse) -> None:
        """Take note of an answer that is read."""
        with self._lock:
            self._open.add(response)

    def forget(self, response: urllib3.BaseHTTPResponse) -> None:
        with self._lock:
            self._open.remove(response)

    def close(self) -> None:
        """End the reads that other threads are at; those that wait for an answer end when it comes."""
        self.closed.set()
        with self._lock:
            for response in self._open:
                with suppress(OSError, ValueError, RuntimeError):
                    cast(urllib3.HTTPResponse, response).shutdown()


class Stream:
    """Bytes `position` to `end` of a file, in order: one answer, more where that breaks. For one thread at a time."""

    def __init__(self, blob: RangeBlob, position: int, end: int) -> None:
        self.position, self.end = position, end
        self._blob = blob
        self._left = memoryview(b"")
        self._response: urllib3.BaseHTTPResponse | None = None

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`, which ends where the stream does at most.

        What breaks off, stalls or is put off is asked for again, from where it was. On a plain connection a silence is
        noticed after at most twice the timeout: see `block`.

        Raises:
            ChecksumMismatch: The file is not the version that was listed any more.
            Denied: 401, 403.
            Unavailable: No answer, 429, 5xx, or a connection that breaks, `ATTEMPTS` times without a byte in between.
            BadAnswer: Another range or length than was asked for, or any other status; or the blob was closed.
        """
        self._left, failures = buffer, 0
        while self._left:
            before = self.position
            try:
                self._read()
            except Unavailable as error:
                failures = failures + 1 if self.position == before else 1
                wait_s = wait_after(failures, error.retry_after) if error.retryable else None
                if wait_s is None or wait(wait_s, self._blob.closed):
                    raise

    def _read(self) -> None:
        """Read what is missing, from the answer that is there or another one."""
        response = self._response or self._begin()
        try:
            self._fill(response)
        except BaseException:
            response.close()
            self._end(response)
            raise
        if self.position == self.end:
            self._end(response)
            response.release_conn()

    def _begin(self) -> urllib3.BaseHTTPResponse:
        """Ask for all that is left of the stream."""
        self._blob.check_open()
        response = self._blob.ask(f"bytes={self.position}-{self.end - 1}")
        self._blob.note(response)
        try:
            self._check(response)
        except BaseException:
            response.close()
            self._blob.forget(response)
            raise
        self._response = response
        return response

    def close(self) -> None:
        """Hang up where not everything was read."""
        if self._response:
            self._response.close()
            self._end(self._response)

    def _end(self, response: urllib3.BaseHTTPResponse) -> None:
        self._blob.forget(response)
        self._response = None

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        self._blob.check_open()
        if response.status != 206:
            raise self._problem(response)
        found = {name: response.headers.get(name, "") for name in ("Content-Range", "Content-Length")}
        expected = {
            "Content-Range": f"bytes {self.position}-{self.end - 1}/{self._blob.size}",
            "Content-Length": str(self.end - self.position),
        }
        encoding = response.headers.get("Content-Encoding", "identity")
        if found != expected or encoding != "identity":
            found["Content-Encoding"], expected["Content-Encoding"] = encoding, "identity"
            raise BadAnswer(self._blob.name, why=f"it answered with {found}; {expected} was asked for")

    def _fill(self, response: urllib3.BaseHTTPResponse) -> None:
        """Read the body straight into the buffer: urllib3's own `readinto` copies, which costs as much as receiving."""
        answer = cast(urllib3.HTTPResponse, response)
        raw, connection = cast(http.client.HTTPResponse, answer._fp), answer.connection
        sock = connection.sock if connection else None
        try:
            if is_plain(sock) and not raw.chunked:
                self._receive(raw, sock)
            else:
                while self._left:
                    self._advance(raw.readinto(self._left[:_STEP]))
        except BROKEN as error:
            raise Unavailable(self._blob.name, why=f"at byte {self.position}: {described(error)}") from error

    def _receive(self, raw: http.client.HTTPResponse, sock: socket.socket) -> None:
        """Have the kernel fill the buffer: a third less CPU than Python's calls, which return what has come so far.

        What came with the answer's headers is read first; when that did not suffice, it is used up.
        """
        timeout_s = sock.gettimeout()
        if timeout_s is not None:
            self._advance(raw.fp.readinto1(self._left))
            if self._left:
                block(sock, timeout_s)
        while self._left:
            try:
                self._advance(sock.recv_into(self._left, 0, socket.MSG_WAITALL))
            except BlockingIOError as error:
                raise TimeoutError("timed out") from error
        if self.position == self.end:
            raw.close()

    def _advance(self, count: int) -> None:
        if not count:
            raise ConnectionError("the answer ended")
        self.position += count
        self._left = self._left[count:]

    def _problem(self, response: urllib3.BaseHTTPResponse) -> ModelctlError:
        body = drain(response)
        why = f"it answered {response.status}" + (f": {said(body)}" if body and response.status >= 400 else "")
        if response.status in _CHANGED:
            return changed(self._blob.name, why)
        if response.status in (401, 403):
            return Denied(self._blob.name, why=why, hint=self._blob.hint)
        if response.status in BUSY:
            return Unavailable(self._blob.name, why=why, retry_after=retry_after(response.headers))
        if response.status == 200:
            why += " and all of the file to a request for a part of it"
        return BadAnswer(self._blob.name, why=why)


def changed(name: str, why: str) -> ChecksumMismatch:
    """Say that a file is not the version that was listed."""
    return ChecksumMismatch(
        f"{name} changed while it was read",
        why=why,
        hint="wait until nobody writes there, then run the same command again",
    )
