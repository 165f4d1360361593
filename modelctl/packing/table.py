"""The table: what every file of an artifact must be. Written into the last layer, and read back from it.

Three members of one tar blob, in this order: `.modelctl/files.json`, `.modelctl/chunks`, `.modelctl/crc32.txt`.
Byte by byte in docs/format.md. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from modelctl.core.chunks import CHUNK, HASH_SIZE, chunk_count
from modelctl.core.errors import Invalid
from modelctl.core.learned import learned
from modelctl.core.paths import check_path, check_paths
from modelctl.core.types import Digest, FileRow, canonical_json, parse_digest
from modelctl.packing.crc32_list import Crc32Line, render_crc32_list
from modelctl.packing.form import Member, frame

FORMAT = 1
"""The version of this format; a reader refuses a higher one."""

MAX_TABLE_SIZE = 256 << 20
"""Largest table that is read [bytes]: enough for the chunks of 64 TB."""

MEMBERS = (".modelctl/files.json", ".modelctl/chunks", ".modelctl/crc32.txt")

_Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    size: _Natural
    layer: str
    offset: _Natural
    crc32: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    crc64: Annotated[str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,19})$")]


class _Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    format: int
    chunk_size: int
    prefix: str
    files: tuple[_Row, ...]


class Table(msgspec.Struct, frozen=True):
    """All files of an artifact, sorted by path, and the prefix their names have inside the layers."""

    rows: tuple[FileRow, ...]
    prefix: str = ""


def has_all_chunks(row: FileRow) -> bool:
    """Say whether a row has one hash for each chunk of its file."""
    return len(row.chunks) == chunk_count(row.size) * HASH_SIZE


def check_chunks(row: FileRow) -> None:
    """Refuse a row that has not one hash for each chunk of its file; `Invalid`."""
    if not has_all_chunks(row):
        raise Invalid(
            row.path,
            why=f"there are hashes of {len(row.chunks) // HASH_SIZE} chunks; it has {chunk_count(row.size)}",
            hint="this is a bug of modelctl: report it, and run the same command with --no-cache",
        )


def render_table(table: Table) -> bytes:
    """Return the table's blob. Equal tables give equal bytes; the order of `rows` does not matter.

    Raises:
        Invalid: A row does not have the hashes of all chunks.
    """
    for row in table.rows:
        check_chunks(row)
    rows = sorted(table.rows, key=lambda row: row.path.encode())
    files = {
        "format": FORMAT,
        "chunkSize": CHUNK,
        "prefix": table.prefix,
        "files": [
            {
                "path": row.path,
                "size": row.size,
                "layer": row.layer,
                "offset": row.offset,
                "crc32": f"{row.crc32:08x}",
                "crc64": str(row.crc64),
            }
            for row in rows
        ],
    }
    contents = {
        MEMBERS[0]: canonical_json(files),
        MEMBERS[1]: b"".join(row.chunks for row in rows),
        MEMBERS[2]: render_crc32_list(Crc32Line(row.path, row.crc32) for row in rows).encode(),
    }
    return join_table(contents)


def join_table(contents: Mapping[str, bytes]) -> bytes:
    """Return the table's blob from the content of its three files, by name; they are not looked at."""
    members = [Member(path, len(content)) for path, content in contents.items()]
    parts: list[bytes] = []
    for piece in frame("tar", members):
        parts.append(piece.head)
        if piece.member:
            parts.append(contents[piece.member.path])
    return b"".join(parts)


def parse_table(blob: bytes) -> Table:
    """Read a table's blob back.

    Raises:
        Invalid: It is not to the byte what `render_table` would write, or its parts contradict each other.
    """
    contents = _split(blob)
    files = _decode(contents[MEMBERS[0]])
    if files.prefix:
        check_path(files.prefix.removesuffix("/"))
        if not files.prefix.endswith("/"):
            raise _broken(f"its prefix {files.prefix!r} does not end in '/'")
    check_paths(row.path for row in files.files)
    table = Table(tuple(_rows(files.files, contents[MEMBERS[1]])), files.prefix)
    if render_table(table) != blob:
        raise _broken("it is not in canonical form, or its crc32.txt says otherwise than its files.json")
    return table


def _broken(why: str) -> Invalid:
    return Invalid("the artifact's table (.modelctl/files.json)", why=why)


def _split(blob: bytes) -> dict[str, bytes]:
    """Take the three members by the sizes in their headers, then demand that the blob is just those."""
    contents: dict[str, bytes] = {}
    members: list[Member] = []
    for path in MEMBERS:
        *_, last = frame("tar", [*members, Member(path, 0)])
        start = last.offset - 1024
        field = blob[start - 512 + 124 : start - 512 + 135]
        if len(field) != 11 or not field.isdigit() or b"8" in field or b"9" in field:
            raise _broken(f"no tar header for {path} at byte {start - 512}")
        size = int(field, 8)
        members.append(Member(path, size))
        contents[path] = blob[start : start + size]
    if join_table(contents) != blob:
        raise _broken("the layer is not the tar of its three files")
    return contents


def _decode(data: bytes) -> _Files:
    try:
        files = msgspec.json.decode(data, type=learned(_Files))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(str(error)) from error
    if files.format != FORMAT:
        raise Invalid(
            "the artifact's table (.modelctl/files.json)",
            why=f"its format is {files.format}; this modelctl reads {FORMAT}",
            hint="install the modelctl that packed it, or a newer one",
        )
    if files.chunk_size != CHUNK:
        raise _broken(f"its chunks have {files.chunk_size} bytes; this format's have {CHUNK}")
    return files


def _rows(rows: Sequence[_Row], chunks: bytes) -> Iterable[FileRow]:
    counts = [chunk_count(row.size) for row in rows]
    if sum(counts) * HASH_SIZE != len(chunks):
        raise _broken(f"it has {len(chunks)} bytes of chunk hashes; its files need {sum(counts) * HASH_SIZE}")
    position = 0
    for row, count in zip(rows, counts, strict=True):
        end = position + count * HASH_SIZE
        yield FileRow(
            path=row.path,
            size=row.size,
            layer=Digest(parse_digest(row.layer)),
            offset=row.offset,
            crc32=int(row.crc32, 16),
            crc64=int(row.crc64),
            chunks=chunks[position:end],
        )
        position = end
