"""A gzip layer, read as the tar it holds: other tools compress layers that they copy (skopeo does by default).

Reading forward costs one decompression; reading back starts again.
"""

from __future__ import annotations

import gzip
import io
import threading
import zlib

from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.core.protocols import Blob


class _Compressed(io.RawIOBase):
    """A blob as the file that `gzip` wants."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._blob.size - self._position)
        self._blob.read_into(self._position, buffer[:length])
        self._position += length
        return length


class InflatedBlob:
    """The `size` bytes that a gzip blob decompresses to. Thread-safe, one reader at a time."""

    def __init__(self, blob: Blob, size: int, what: str) -> None:
        self.size = size
        self._blob, self._what = blob, what
        self._file = gzip.GzipFile(fileobj=io.BufferedReader(_Compressed(blob), 1 << 20), mode="rb")
        self._lock = threading.Lock()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` of the decompressed bytes.

        Raises:
            Invalid: Not gzip. DigestMismatch: It decompresses to fewer bytes, or, told at the end, to more.
        """
        with self._lock:
            try:
                self._file.seek(offset)
                filled = 0
                while filled < len(buffer) and (count := self._file.readinto(buffer[filled:])):
                    filled += count
                longer = offset + filled == self.size and self._file.read(1) != b""
            except EOFError as error:
                raise self._too_short() from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise Invalid(self._what, why=f"its media type says gzip, its bytes do not: {error}") from error
        if filled < len(buffer):
            raise self._too_short()
        if longer:
            raise DigestMismatch(self._what, why=f"it decompresses to more than the {self.size} bytes of its table")

    def _too_short(self) -> DigestMismatch:
        return DigestMismatch(self._what, why=f"it decompresses to less than the {self.size} bytes of its table")

    def close(self) -> None:
        self._blob.close()
