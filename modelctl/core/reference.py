"""Names of artifacts: `registry/repository[:tag][@digest]` in a registry, `oci:PATH[:tag][@digest]` in a folder. Pure.

Source: the grammar of distribution's reference package; the tag's is also the distribution-spec's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelctl.core.errors import UsageProblem
from modelctl.core.types import Digest, is_digest

OCI_SCHEME = "oci:"

LATEST = "latest"

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.(?!$))?)+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LONGEST_REPOSITORY = 255
_LAST_PORT = 65535
_EXPECTED = "expected oci:PATH[:tag][@digest] or registry/repository[:tag][@digest]"


@dataclass(frozen=True)
class Reference:
    """An artifact, or a whole store when it has neither tag nor digest.

    `path` is the folder of a layout when `registry` is empty, else the repository in that registry (`host[:port]`).
    """

    path: str
    tag: str = ""
    digest: Digest | None = None
    registry: str = ""

    @property
    def name(self) -> str:
        """What to resolve: the digest when there is one, else the tag, which may be empty."""
        return self.digest or self.tag

    @property
    def store(self) -> str:
        return f"{self.registry}/{self.path}" if self.registry else f"{OCI_SCHEME}{self.path}"

    def __str__(self) -> str:
        return self.store + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Parse a reference as a user writes it. Docker Hub has no short form: it is `docker.io/library/NAME`.

    Raises:
        UsageProblem: It is neither form, or its digest is malformed.
    """
    rest, at, hexadecimal = text.removeprefix(OCI_SCHEME).partition("@sha256:")
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise UsageProblem(f"not a reference: {text[:300]!r}", why=f"{tag[:150]!r} is not a tag: {_TAG_RULE}")
    digest = Digest("sha256:" + hexadecimal) if at else None
    if digest and not is_digest(digest):
        why = f"{digest[:100]!r} is not a digest: expected sha256:<64 lower-case hex digits>"
        raise UsageProblem(f"not a reference: {text[:300]!r}", why=why)
    if text.startswith(OCI_SCHEME):
        if not path:
            raise UsageProblem(f"not a reference: {text[:300]!r}", why="the path of the layout is empty")
        return Reference(path, tag, digest)
    registry, _, repository = path.partition("/")
    if not _names_host(registry) or not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST_REPOSITORY:
        raise UsageProblem(f"not a reference: {text[:300]!r}", why=_EXPECTED, hint=f"{OCI_SCHEME}./store:{LATEST}")
    return Reference(repository, tag, digest, registry)


_TAG_RULE = "letters, digits, '_', '.' and '-', at most 128, not starting with '.' or '-'"


def _is_host(text: str) -> bool:
    port = re.search(r":([0-9]+)$", text)
    return bool(_HOST.fullmatch(text)) and (not port or int(port[1]) <= _LAST_PORT)


def _names_host(text: str) -> bool:
    """Say whether `text` can only be a host: it has a dot or a port, or is localhost."""
    return _is_host(text) and (text == "localhost" or any(mark in text for mark in ".:["))


def check_registry(text: str) -> str:
    """Return the name of a registry, HOST[:PORT], if it can be one."""
    if not _is_host(text):
        raise UsageProblem(f"not a registry: {text[:300]!r}", why="expected HOST[:PORT]")
    return text


def is_reference(text: str) -> bool:
    """Say whether `text` is meant as a reference rather than as a path."""
    registry = text.partition("/")[0]
    return text.startswith(OCI_SCHEME) or (registry not in (".", "..") and _names_host(registry) and "/" in text)


def check_tag(tag: str) -> str:
    """Return `tag`, or raise `UsageProblem` when it is not one."""
    if not _TAG.fullmatch(tag):
        raise UsageProblem(f"not a tag: {tag[:150]!r}", why=_TAG_RULE)
    return tag
