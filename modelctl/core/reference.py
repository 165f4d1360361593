"""Names of artifacts: `oci:PATH[:tag][@digest]` is one in an OCI image layout on disk. Pure.

Source: the tag's grammar is the distribution-spec's ("Pulling manifests").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelctl.core.errors import UsageProblem
from modelctl.core.types import Digest, parse_digest

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

OCI_SCHEME = "oci:"

LATEST = "latest"


@dataclass(frozen=True)
class Reference:
    """An artifact, or a whole store when it has neither tag nor digest. `path` is the layout's folder."""

    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """What to resolve: the digest when there is one, else the tag, which may be empty."""
        return self.digest or self.tag

    @property
    def store(self) -> str:
        return f"{OCI_SCHEME}{self.path}"

    def __str__(self) -> str:
        return self.store + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Parse a reference as a user writes it.

    Raises:
        UsageProblem: It is not `oci:PATH[:tag][@digest]`. Invalid: Its digest is malformed.
    """
    if not text.startswith(OCI_SCHEME):
        raise UsageProblem(
            f"not a reference: {text!r}",
            why="expected oci:PATH[:tag][@digest]",
            hint=f"{OCI_SCHEME}./store:{LATEST}",
        )
    rest, at, digest = text.removeprefix(OCI_SCHEME).partition("@sha256:")
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    elif not TAG.fullmatch(tag):
        raise UsageProblem(
            f"not a reference: {text!r}",
            why=f"{tag!r} is not a tag: letters, digits, '_', '.' and '-', at most 128, not starting with '.' or '-'",
        )
    if not path:
        raise UsageProblem(f"not a reference: {text!r}", why="the path of the layout is empty")
    return Reference(path, tag, parse_digest("sha256:" + digest) if at else None)


def check_tag(tag: str) -> str:
    """Return `tag`, or raise `UsageProblem` when it is not one."""
    if not TAG.fullmatch(tag):
        raise UsageProblem(f"not a tag: {tag!r}", why="letters, digits, '_', '.' and '-', at most 128")
    return tag
