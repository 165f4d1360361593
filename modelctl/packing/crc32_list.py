"""crc32.txt: a line `crc32 path` a file, as PAI's Model Weight Service reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import NamedTuple

from modelctl.core.errors import Invalid
from modelctl.core.paths import check_path

CRC32_LIST = "crc32.txt"

MAX_LIST_SIZE = 64 << 20
"""Largest crc32.txt that is read [bytes]."""

_LINE = re.compile(r"([0-9a-fA-F]{8})[ \t]+\*?(?:\./)?(\S.*)")


class Crc32Line(NamedTuple):
    path: str
    crc32: int


def render_crc32_list(lines: Iterable[Crc32Line]) -> str:
    """Return one line a file, sorted by path: eight hex digits, a space, the path."""
    return "".join(f"{line.crc32:08x} {line.path}\n" for line in sorted(lines, key=lambda line: line.path.encode()))


def parse_crc32_list(data: bytes, name: str, itself: Container[str] = (CRC32_LIST,)) -> dict[str, int]:
    """Read a crc32.txt into {path: CRC-32}.

    Takes blank lines, a leading `./`, `*` or tabs as other tools write them. A line for `itself`, the paths that the
    list may have had, is not counted: it was written while the list was, so it is 00000000 or stale.

    Raises:
        Invalid: A line is not `crc32 path`, names a path that no model may have, or contradicts an earlier one;
            says which line of `name`. Or the whole list is too long, or not UTF-8.
    """
    sums: dict[str, int] = {}
    if len(data) > MAX_LIST_SIZE:
        raise Invalid(name, why=f"it is longer than {MAX_LIST_SIZE} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(name, why=f"it is not UTF-8: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.rstrip("\r"))
        if not found:
            raise Invalid(f"{name}, line {number}", why=f"{line[:100]!r} is not 'crc32 path'")
        path, value = found[2], int(found[1], 16)
        if path in itself:
            continue
        try:
            check_path(path)
        except Invalid as error:
            raise Invalid(f"{name}, line {number}", why=f"{path[:200]!r}: {error.why}") from error
        if sums.setdefault(path, value) != value:
            raise Invalid(f"{name}, line {number}", why=f"{path!r} has two CRC-32s: {sums[path]:08x} and {value:08x}")
    return sums
