"""One blob on its way into a registry: a streamed PATCH, then a PUT with the digest.

When the connection breaks, the registry is asked how much it has; what it lacks of what was sent is read again from
the blob. Where its word cannot be had, or proves wrong at the PUT, the blob starts again.

Source: OCI distribution-spec, "Pushing a blob in chunks"; distribution 2.8 and 3.x as measured.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

from modelctl.core.chunks import BUFFER
from modelctl.core.disk import FileBlob
from modelctl.core.errors import BadAnswer, DigestMismatch, ModelctlError, NotFound, Unavailable, failing
from modelctl.core.http import MAX_ERROR_SIZE, block, described, drain, is_plain
from modelctl.core.pace import allowed
from modelctl.core.protocols import Blob
from modelctl.core.retry import retrying
from modelctl.core.types import Bytes, Checkpoint, Digest
from modelctl.registry.journal import Journal
from modelctl.registry.transport import Transport

Supply = Callable[[int, int], memoryview]
"""(offset, length) -> the blob's bytes from there, at least one and at most `length`."""


_UNREADABLE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO)
"""What sendfile says of a file system that has none, and of a disk that cannot be read."""


class UploadLost(Unavailable):
    """The registry does not have of an upload what it said; it begins again."""


class RemoteUpload:
    """An `Upload` of `blob` to the repository `name`. Only its one writer may use it.

    `sent` counts the bytes that went out: more than the blob has when some had to be sent again. With a `journal` it
    goes on where a killed upload was. Errors call it `what`.
    """

    def __init__(
        self, transport: Transport, name: str, scope: str, blob: Blob, journal: Journal | None, *, what: str
    ) -> None:
        self._transport, self._name, self._scope, self._blob = transport, name, scope, blob
        self._journal, self._what = journal, what
        self._location = journal.location if journal and transport.is_own(journal.location) else ""
        self._stream: Stream | None = None
        self._whole = False
        self._restarted = False
        self._check: Callable[[], None] = lambda: None
        self.saved: Sequence[Checkpoint] = journal.checkpoints if journal else ()
        self._position = self.saved[-1].position if self.saved else 0
        self.sent = 0

    def write(self, data: Bytes) -> None:
        """Send the next bytes, and what the registry lost of those before them."""
        view = memoryview(data)
        start = self._position
        self._position += len(view)

        def supply(offset: int, length: int) -> memoryview:
            if offset < start:
                return self._read_again(offset, min(length, start - offset))
            return view[offset - start : offset - start + length]

        if view:
            retrying(lambda: self._send_to(self._position, supply))

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint in the journal."""
        if self._journal:
            self._journal.add(checkpoint)

    def begin(self) -> int:
        """Open the upload now; return how many bytes the registry has of it already, which need not be written."""
        retrying(lambda: self._send_to(0, self._read_again))
        self._position = self._stream.position if self._stream else self._blob.size
        return self._position

    def send_file(self, blob: FileBlob, advance: Callable[[int], None]) -> None:
        """Send what is missing of a file, unread where the connection is a plain one."""
        for start in range(self._position, blob.size, 8 * BUFFER):
            self._position = min(start + 8 * BUFFER, blob.size)
            retrying(lambda: self._send_to(self._position, blob))
            advance(self._position - start)

    def commit(self, digest: Digest) -> bool:
        """Close the upload with the digest; the registry compares it with what it got.

        Raises:
            DigestMismatch: It got other bytes.
        """
        new = not self._arrived(digest)
        self.finish(digest)
        return new

    def finish(self, digest: Digest, check: Callable[[], None] = lambda: None) -> None:
        """Do as `commit` for a blob that the registry is known not to have had.

        Args:
            digest: Of the blob.
            check: Raises when the blob has other bytes; called before what has another digest there is sent again.
        """
        self._check = check
        retrying(lambda: self._complete(digest))
        if self._journal:
            self._journal.remove()

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None

    def _read_again(self, offset: int, length: int) -> memoryview:
        data = memoryview(bytearray(min(length, BUFFER)))
        self._blob.read_into(offset, data)
        return data

    def _send_to(self, target: int, supply: Supply | FileBlob) -> None:
        """Bring the registry to `target`; from a file by sendfile."""
        with self._closed_on_failure():
            stream = self._stream or self._reopen()
            while stream and stream.position < target:
                if stream.position == stream.end:
                    self._finish_patch()
                    stream = self._open_patch(stream.end)
                length = min(target, stream.end) - stream.position
                if isinstance(supply, FileBlob):
                    self.sent += stream.send_file(supply, length)
                else:
                    self.sent += stream.send(supply(stream.position, length))

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, UploadLost):
                self._location, self._whole = "", False
            raise

    def _complete(self, digest: Digest) -> None:
        if not self._whole:
            self._send_to(self._blob.size, self._read_again)
        with self._closed_on_failure():
            self._finish_patch()
            self._whole = True
            self._put(digest)

    def _reopen(self) -> Stream | None:
        """Open a PATCH: at the beginning of a new upload, or where the registry stands in the one that broke.

        None when it has all there is.
        """
        offset = self._status() if self._location and self._transport.quirks.resumes else None
        if offset is None:
            self._location = self._start()
        if self._journal:
            self._journal.set_location(self._location)
        self._whole = offset == self._blob.size or not self._blob.size
        return None if self._whole else self._open_patch(offset or 0)

    def _start(self) -> str:
        response = self._transport.request(
            "POST", f"/v2/{self._name}/blobs/uploads/", scope=self._scope, expect=(202,), body=b"", what=self._what
        )
        drain(response)
        return self._located(response.headers.get("Location", ""))

    def _located(self, location: str) -> str:
        if not location:
            raise BadAnswer(self._transport.named(self._what), why="it names no Location")
        return self._transport.url(location)

    def _open_patch(self, offset: int) -> Stream:
        most = self._transport.quirks.max_patch
        end = min(self._blob.size, offset + most) if most else self._blob.size
        self._stream = Stream(self._transport, self._location, self._scope, offset, end, what=self._what)
        return self._stream

    def _finish_patch(self) -> None:
        """Read the answer to the PATCH that is complete; it may name another Location."""
        if self._stream:
            location = self._stream.finish()
            self.close()
            self._location = self._located(location) if location else self._location

    def _status(self) -> int | None:
        """Return how many bytes the registry has of the upload, None when it does not say, or says too many."""
        try:
            response = self._transport.request("GET", self._location, scope=self._scope, expect=(204,), what=self._what)
        except (NotFound, BadAnswer):
            return None
        drain(response)
        if response.headers.get("Location"):
            self._location = self._located(response.headers["Location"])
        found = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", response.headers.get("Range", ""))
        size = int(found[1]) + 1 if found and int(found[1]) else 0
        return size if found and size <= self._blob.size else None

    def _put(self, digest: Digest) -> None:
        joint = "&" if urlsplit(self._location).query else "?"
        try:
            response = self._transport.request(
                "PUT",
                f"{self._location}{joint}{urlencode({'digest': digest})}",
                scope=self._scope,
                expect=(201, 204),
                headers={"Content-Type": "application/octet-stream"},
                body=b"",
                what=f"upload of blob {digest} to {self._name}",
            )
        except ModelctlError as error:
            if self._arrived(digest):
                return
            raise self._worse(error) from error
        drain(response)

    def _worse(self, error: ModelctlError) -> ModelctlError:
        """Say what a PUT that failed means: the registry lost bytes, so all of them are sent again once; or worse."""
        if not isinstance(error, NotFound) and not re.search("DIGEST_INVALID|RANGE_INVALID", error.why):
            return error
        if self._restarted:
            return DigestMismatch(error.what, why=f"twice the registry did not get what was sent: {error.why}")
        if "DIGEST_INVALID" in error.why:
            self._check()
        self._restarted = True
        return UploadLost(error.what, why=f"the registry lost what it had: {error.why}")

    def _arrived(self, digest: Digest) -> bool:
        """Say whether the registry has the blob: it had it before, or a PUT that was not answered did its work."""
        path = f"/v2/{self._name}/blobs/{digest}"
        try:
            drain(self._transport.request("HEAD", path, scope=self._scope, what="blob"))
        except ModelctlError:
            return False
        return True


class Stream:
    """A PATCH whose body is being sent, bytes `position` to `end` of a blob, on a connection of its own.

    Where that is plain, a registry that takes nothing is noticed after at most twice the timeout: see `block`.
    """

    def __init__(self, transport: Transport, url: str, scope: str, position: int, end: int, *, what: str) -> None:
        self._transport, self._url, self._scope, self._what = transport, url, scope, what
        self.position, self.end = position, end
        self._headers = transport.headers(url, scope)
        self._connection = transport.connect(url)
        place = urlsplit(url)
        target = f"{place.path}?{place.query}" if place.query else place.path
        with self._translated():
            self._connection.putrequest("PATCH", target, skip_accept_encoding=True)
            self._connection.putheader("Content-Type", "application/octet-stream")
            self._connection.putheader("Content-Length", str(end - position))
            self._connection.putheader("Content-Range", f"{position}-{end - 1}")
            for name, value in self._headers.items():
                self._connection.putheader(name, value)
            self._connection.endheaders()
        self._plain = is_plain(self._connection.sock)
        if self._plain:
            block(self._connection.sock, transport.access.timeout_s)

    def send(self, data: memoryview) -> int:
        """Send the next bytes; return how many."""
        with self._translated():
            sent = 0
            while sent < len(data):
                count = allowed(self._transport.paces, len(data) - sent)
                self._connection.sock.sendall(data[sent : sent + count])
                sent += count
        self.position += len(data)
        return len(data)

    def send_file(self, blob: FileBlob, length: int) -> int:
        """Send the next `length` bytes of a file, unread where connection and file system can; return how many.

        Raises:
            ChecksumMismatch, DiskProblem: The file cannot be read so far; says that it is the source's.
        """
        end = self.position + length
        self._send_unread(blob, end)
        buffer = memoryview(bytearray(min(end - self.position, BUFFER)))
        while self.position < end:
            data = buffer[: end - self.position]
            with failing("source"):
                blob.read_into(self.position, data)
            self.send(data)
        return length

    def _send_unread(self, blob: FileBlob, end: int) -> None:
        """Send up to `end` by sendfile(2), or as far as that goes: what is left is read, which says what is wrong."""
        if not self._plain:
            return
        sock = self._connection.sock
        with self._translated():
            while self.position < end:
                length = allowed(self._transport.paces, end - self.position)
                try:
                    count = os.sendfile(sock.fileno(), blob.fd, self.position, length)
                except OSError as error:
                    if error.errno in _UNREADABLE:
                        return
                    raise
                if not count:
                    return
                self.position += count

    def finish(self) -> str:
        """Read the answer; return the Location that it names, which may be none.

        Raises:
            Unavailable: Try again: the connection broke, the registry is busy, or authorization was renewed.
            Denied, BadAnswer: Do not.
        """
        with self._translated():
            self._connection.sock.settimeout(self._connection.timeout)
            response = self._connection.getresponse()
            body = response.read(MAX_ERROR_SIZE)
        if response.status in (201, 202, 204):
            return response.headers.get("Location", "")
        raise self._problem(response, body)

    def _problem(self, response: http.client.HTTPResponse, body: bytes) -> Exception:
        name = self._transport.named(self._what)
        if response.status == 401 and self._transport.is_own(self._url):
            self._transport.authorize(_fields(response), self._scope, self._headers.get("Authorization"), self._what)
            return Unavailable(name, why="authorization expired", retry_after=0.0)
        if response.status in (404, 416):
            return UploadLost(name, why=f"the upload is lost: {response.status}")
        return self._transport.problem(response.status, _fields(response), body, self._what)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn a broken connection into what the registry said before it broke, or into `Unavailable`."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            answer = self._early_answer()
            why = "timed out" if isinstance(error, BlockingIOError) else described(error)
            name = self._transport.named(self._what)
            raise answer or Unavailable(name, why=f"byte {self.position}: {why}") from error

    def _early_answer(self) -> Exception | None:
        """Return what the registry answered before it had the whole body, when it did."""
        sock = self._connection.sock
        if sock is None:
            return None
        try:
            sock.settimeout(1.0)
            response = self._connection.getresponse()
            return self._problem(response, response.read(MAX_ERROR_SIZE))
        except (OSError, http.client.HTTPException):
            return None

    def close(self) -> None:
        self._connection.close()


def _fields(response: http.client.HTTPResponse) -> dict[str, str]:
    return dict(response.headers.items())
