"""Read a safetensors header by range, and judge it without the tensors' bytes.

The official validator maps a file, so it is given a sparse one in memory: the real header, then a hole of the real
size. What it lets pass is checked here: keys that stand twice (it takes the last), and NaN.

Source: safetensors README, "Format": 8 bytes little-endian length, at most 100 MB of JSON, then the data section.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Annotated, NoReturn

import msgspec

from modelctl.core.errors import Invalid
from modelctl.core.learned import learned
from modelctl.core.protocols import Blob
from modelctl.core.types import Shard, Tensor

MAX_HEADER = 100_000_000
"""Longest header the official validator takes [bytes]."""

SUFFIX = ".safetensors"

_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Info(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[_Natural, ...]
    data_offsets: tuple[_Natural, _Natural]


def read_shard(blob: Blob, path: str, size: int, offset: int = 0) -> Shard:
    """Read and judge the header of the safetensors file whose `size` bytes start at `offset` of `blob`.

    Raises:
        Invalid: Cut short, too long, not JSON, a key twice, NaN, or refused by the official validator (tensors that
            overlap, leave gaps or do not cover the file; a shape that does not fit its bytes; an unknown dtype).
    """
    if size < 8:
        raise _broken(path, f"the file has {size} bytes; a safetensors file starts with 8 for the header's length")
    prefix = bytearray(8)
    blob.read_into(offset, memoryview(prefix))
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER:
        raise _broken(path, f"its header claims {length} bytes; the format allows {MAX_HEADER}")
    if 8 + length > size:
        raise _broken(path, f"its header claims {length} bytes; the file has {size - 8} after the length")
    header = bytearray(length)
    blob.read_into(offset + 8, memoryview(header))
    shard = parse_header(path, size, bytes(header))
    _validate(path, size, bytes(prefix) + header)
    return shard


def parse_header(path: str, size: int, header: bytes) -> Shard:
    """Parse the JSON of a header. Pure; what only the official validator knows is left to it.

    Raises:
        Invalid: As `read_shard`.
    """
    try:
        document = json.loads(header, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise _broken(path, "its header is not a JSON object")
    try:
        metadata = msgspec.convert(document.pop("__metadata__", {}), dict[str, str])
        rows = msgspec.convert(document, learned(dict[str, _Info]))
    except ValueError as error:
        raise _broken(path, f"its header is not a table of tensors: {error}") from error
    tensors = [
        Tensor(
            name=name,
            dtype=row.dtype,
            shape=row.shape,
            offset=8 + len(header) + row.data_offsets[0],
            size=row.data_offsets[1] - row.data_offsets[0],
        )
        for name, row in rows.items()
    ]
    return Shard(
        path=path,
        size=size,
        tensors=tuple(sorted(tensors, key=lambda t: (t.offset, t.name))),
        metadata=metadata,
    )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {key!r} stands twice")
        document[key] = value
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _validate(path: str, size: int, head: bytes) -> None:
    from safetensors import SafetensorError, safe_open

    fd = os.memfd_create("modelctl-header")
    try:
        os.write(fd, head)
        os.ftruncate(fd, size)
        with safe_open(f"/proc/self/fd/{fd}", framework="np"):
            return
    except (SafetensorError, MemoryError) as error:
        raise _broken(path, str(error)) from error
    finally:
        os.close(fd)


def _broken(path: str, why: str) -> Invalid:
    return Invalid(f"{path}: not a valid safetensors file", why=why, hint="download or convert the shard again")
