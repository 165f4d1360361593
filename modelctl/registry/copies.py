"""A blob that several stores have: one is read until it fails, then the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelctl.core.errors import ModelctlError, failing
from modelctl.core.protocols import Blob, Fetcher
from modelctl.core.types import Descriptor


class Copies:
    """A blob in one of `stores`, opened when it is read; closed, it opens again. What fails is the source's.

    `count` is called with the store that was read, and how much of it [bytes].
    """

    def __init__(
        self,
        descriptor: Descriptor,
        stores: Sequence[Fetcher],
        count: Callable[[Fetcher, int], None] = lambda _store, _size: None,
    ) -> None:
        self.size = descriptor.size
        self._descriptor, self._stores, self._count = descriptor, list(stores), count
        self._blob: Blob | None = None

    def __str__(self) -> str:
        return str(self._stores[0])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        with failing("source"):
            try:
                self._blob = self._blob or self._stores[0].open(self._descriptor)
                self._blob.read_into(offset, buffer)
            except ModelctlError:
                self.close()
                if len(self._stores) == 1:
                    raise
                self._stores.pop(0)
                self.read_into(offset, buffer)
            else:
                self._count(self._stores[0], len(buffer))

    def close(self) -> None:
        blob, self._blob = self._blob, None
        if blob:
            blob.close()
