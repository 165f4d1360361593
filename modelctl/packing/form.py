"""The forms: how files become the bytes of a layer. Pure; no file content passes through here.

A tar blob is a function of its members' paths and sizes alone, but for the content: a pax header (its `comment`
record fills it up), a ustar header, and then the file's bytes, which start at a multiple of 4096. So whoever has
the files and the table can write the blob again to the byte, and can say what its headers must be.

Source: POSIX.1-2017 "pax", "ustar Interchange Format"; the alignment is ours (docs/format.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelctl.core.types import Form

VERSION = 1
"""Of the bytes that are made here: another one when equal files no longer make the blobs that they made before."""

ALIGN = 4096
_BLOCK = 512
_LONGEST_USTAR_NAME = 100
_LARGEST_USTAR_SIZE = 8**11 - 1
_SHORTEST_COMMENT = len("12 comment=\n")
_TAIL = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Member:
    """One file in a blob. `path` includes the layout's prefix."""

    path: str
    size: int


@dataclass(frozen=True)
class Piece:
    """The bytes that stand in a blob before a file's own, and where the file's then start.

    The last piece of a blob has no member: its `head` ends the blob.
    """

    head: bytes
    offset: int
    member: Member | None


def frame(form: Form, members: Sequence[Member]) -> Iterator[Piece]:
    """Yield the pieces of a blob in order. A raw blob holds exactly one member, and nothing else."""
    if form == "raw":
        (member,) = members
        yield Piece(b"", 0, member)
        yield Piece(b"", member.size, None)
        return
    position = 0
    for member in members:
        head = _padding(position) + _headers(member, position + len(_padding(position)))
        offset = position + len(head)
        yield Piece(head, offset, member)
        position = offset + member.size
    end = _padding(position) + _TAIL
    yield Piece(end, position + len(end), None)


def blob_size(form: Form, members: Sequence[Member]) -> int:
    """Return the size of the blob that `members` make [bytes]."""
    return list(frame(form, members))[-1].offset


def _padding(position: int) -> bytes:
    return bytes(-position % _BLOCK)


def _headers(member: Member, start: int) -> bytes:
    """The pax and ustar headers of a member whose first header block stands at `start`."""
    path = member.path.encode()
    records = b""
    if len(path) > _LONGEST_USTAR_NAME or not path.isascii():
        records += _record(b"path", path)
    if member.size > _LARGEST_USTAR_SIZE:
        records += _record(b"size", b"%d" % member.size)
    room = -(start + 2 * _BLOCK) % ALIGN
    while room < len(records) + _SHORTEST_COMMENT:
        room += ALIGN
    records += _comment(room - len(records))
    return (
        _ustar(b"modelctl.pax", len(records), b"x")
        + records
        + _ustar(
            path.decode("ascii", "replace").encode("ascii", "replace")[:_LONGEST_USTAR_NAME],
            member.size,
            b"0",
        )
    )


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its own length in bytes, in decimal, then `key=value`."""
    length = len(key) + len(value) + len(b" =\n")
    total = length + len(str(length))
    total += len(str(total)) - len(str(length))
    return b"%d %s=%s\n" % (total, key, value)


def _comment(size: int) -> bytes:
    """A `comment` record of exactly `size` bytes, filled with spaces."""
    fixed = len(str(size)) + len(b" comment=\n")
    return b"%d comment=%s\n" % (size, b" " * (size - fixed))


def _ustar(name: bytes, size: int, kind: bytes) -> bytes:
    """A ustar header: mode 0644, owner and time 0. A size that does not fit is 0 here and stands in the pax header."""
    fits = size if size <= _LARGEST_USTAR_SIZE else 0
    block = bytearray(_BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = b"%011o\0" % fits
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    block[329:337] = block[337:345] = b"0000000\0"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
