"""What a user names as a source, and the files there."""

from __future__ import annotations

import os

import msgspec

from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.reference import OCI_SCHEME, is_reference
from modelctl.sources import open_source


class EntryReport(msgspec.Struct, kw_only=True):
    """One file, and what the listing states of its content: CRC-64 in decimal, sha256 and git's blob id in hex."""

    path: str
    size: int
    version: str
    crc64: str | None
    sha256: str | None
    git_sha1: str | None

    @property
    def stated(self) -> str:
        """The strongest checksum that is stated; empty when none is."""
        stated = {"sha256": self.sha256, "git-sha1": self.git_sha1, "crc64": self.crc64}
        return next((f"{name}:{value}" for name, value in stated.items() if value), "")


def is_url(text: str) -> bool:
    """Say whether `text` is a source's URL rather than a reference."""
    return "://" in text and not text.startswith(OCI_SCHEME)


def is_source(text: str) -> bool:
    """Say whether `text` is meant as a source: a URL, a folder, or whatever can be no reference."""
    return is_url(text) or os.path.isdir(text) or not is_reference(text)


def list_source(url: str, access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> list[EntryReport]:
    """Return every file of a source, by path; those that a layout would leave out too."""
    entries = open_source(url, access).list(lambda _: True)
    return [
        EntryReport(
            path=entry.path,
            size=entry.size,
            version=entry.version,
            crc64=None if entry.crc64 is None else str(entry.crc64),
            sha256=entry.sha256 or None,
            git_sha1=entry.git_sha1 or None,
        )
        for entry in sorted(entries, key=lambda entry: entry.path.encode(errors="surrogateescape"))
    ]
