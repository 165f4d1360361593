"""A blob whose bytes are compared with its digest on their way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from modelctl.core.chunks import feed
from modelctl.core.errors import DigestMismatch, failing
from modelctl.core.protocols import Blob
from modelctl.core.types import Descriptor


class Hashed:
    """A blob that is to be copied from `place`, hashed as long as it is read in order from its beginning.

    What fails is the source's. For one reader at a time.
    """

    def __init__(self, blob: Blob, descriptor: Descriptor, place: object) -> None:
        self.size = blob.size
        self._blob, self._descriptor, self._place = blob, descriptor, place
        self._sha, self._hashed = hashlib.sha256(), 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; `DigestMismatch` in place of the end of a blob whose bytes are not those of its digest."""
        with failing("source"):
            self._blob.read_into(offset, buffer)
            if offset == self._hashed:
                self._sha.update(buffer)
                self._hashed += len(buffer)
                self._compare() if self._hashed == self.size else None

    def check(self, advance: Callable[[int], None]) -> None:
        """Compare the digest, of an empty blob too; read all of it again if it was not hashed.

        Args:
            advance: Called with 0 after each piece that is read; may raise to stop.

        Raises:
            DigestMismatch: The blob has other bytes.
        """
        if self._hashed < self.size:
            again = Hashed(self._blob, self._descriptor, self._place)
            feed(again, 0, self.size, [], lambda _size: advance(0))
            return
        with failing("source"):
            self._compare()

    def _compare(self) -> None:
        found = f"sha256:{self._sha.hexdigest()}"
        if found != self._descriptor.digest:
            raise DigestMismatch(
                f"blob {self._descriptor.digest} in {self._place}", why=f"its {self.size} bytes hash to {found}"
            )

    def close(self) -> None:
        self._blob.close()
