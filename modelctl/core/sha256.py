"""A sha256 whose state can be saved and taken up again: hashlib cannot do that, the libcrypto under it can.

The same code on the same bytes, so the same speed; the calls release the GIL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools

from modelctl.core.types import Bytes, Digest

STATE_SIZE = 112
"""Bytes of a saved state: the SHA256_CTX of OpenSSL's sha.h (8 + 2 + 16 words, and two counters)."""


@functools.cache
def _libcrypto() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libcrypto.so.3")
    except OSError:
        library = ctypes.CDLL(ctypes.util.find_library("crypto"))
    library.SHA256_Update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    return library


class Sha256:
    """One hash in progress. Not thread-safe."""

    def __init__(self, state: bytes = b"") -> None:
        """Begin anew, or from a `state` that `save` returned."""
        self._context = ctypes.create_string_buffer(state, STATE_SIZE)
        if not state:
            _libcrypto().SHA256_Init(self._context)

    def update(self, data: Bytes) -> None:
        if isinstance(data, bytes):
            _libcrypto().SHA256_Update(self._context, data, len(data))
        elif len(data):
            address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            _libcrypto().SHA256_Update(self._context, address, len(data))

    def save(self) -> bytes:
        return self._context.raw

    def digest(self) -> Digest:
        """Return the digest of what was hashed so far."""
        copy = ctypes.create_string_buffer(self._context.raw, STATE_SIZE)
        result = ctypes.create_string_buffer(32)
        _libcrypto().SHA256_Final(result, copy)
        return Digest("sha256:" + result.raw.hex())
