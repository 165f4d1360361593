"""The CRCs of a file: CRC-32 and CRC-64/XZ, over bytes already in memory.

Both release the GIL on large buffers. 22-57 GB/s per core (EPYC), hence the libraries; crcmod is the reference in
tests only: 0.4 GB/s, with the GIL held.
"""

from __future__ import annotations

from fastcrc import crc64
from isal.isal_zlib import crc32


class Crcs:
    """CRC-32 and CRC-64/XZ of one file, from one pass over its bytes in order. Not thread-safe."""

    def __init__(self, crc32: int = 0, crc64: int = 0) -> None:
        """Begin anew, or go on from the CRCs of the bytes so far."""
        self.crc32 = crc32
        self.crc64 = crc64

    def update(self, data: memoryview) -> None:
        self.crc32 = crc32(data, self.crc32)
        self.crc64 = crc64.xz(data, self.crc64)
