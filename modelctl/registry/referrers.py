"""What is attached to a manifest: the manifests that name it as their subject, described and listed.

A registry without the referrers API keeps no list. Clients keep it, as an index under a tag made of the subject's
digest, and none can say "only if nobody else wrote meanwhile".

Source: OCI distribution-spec v1.1, "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag Schema".
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from modelctl.core.ending import wait
from modelctl.core.errors import BadAnswer, Conflict
from modelctl.core.learned import learned
from modelctl.core.media_types import OCI_INDEX
from modelctl.core.types import Descriptor, Digest, canonical_json, is_digest

COSIGN = ("sig", "att", "sbom")
"""What cosign attaches by tags: the fallback tag, a dot and one of these. Source: cosign, `ociremote.SignatureTag`."""

MAX_ROUNDS = 30
"""So many times a list is read before a writer gives up."""

SHORTEST_PAUSE_S = 0.02

Entries = dict[str, dict[str, Any]]
"""The entries of a list by digest, with whatever their writers put in them."""

_JITTER = random.SystemRandom()


class Referrer(NamedTuple):
    """A manifest that names a subject; `descriptor` is how lists of referrers describe it."""

    subject: Digest
    descriptor: Descriptor


class _Typed(msgspec.Struct, rename="camel"):
    media_type: str = ""


class _Document(msgspec.Struct, rename="camel"):
    artifact_type: str = ""
    config: _Typed | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class _Item(msgspec.Struct):
    digest: str


class _List(msgspec.Struct, rename="camel"):
    """What tools in Go write of an empty list is null."""

    manifests: list[_Item] | None
    media_type: str = OCI_INDEX


def referrer_of(manifest: Descriptor, raw: bytes) -> Referrer | None:
    """Return what a manifest or an index is attached to; None when it names no subject, or is neither."""
    try:
        document = msgspec.json.decode(raw, type=learned(_Document))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if document.subject is None or not is_digest(document.subject.digest):
        return None
    config_type = document.config.media_type if document.config else ""
    described = Descriptor(
        media_type=manifest.media_type,
        digest=manifest.digest,
        size=manifest.size,
        artifact_type=document.artifact_type or config_type,
        annotations=document.annotations or {},
    )
    return Referrer(document.subject.digest, described)


def fallback_tag(subject: Digest) -> str:
    """Return the tag under which clients list the referrers of `subject`."""
    return subject.replace(":", "-")


def is_attachment_tag(tag: str) -> bool:
    """Say whether a tag is made of a subject's digest: it lists what is attached, or is itself attached."""
    return bool(re.fullmatch(rf"sha256-[0-9a-f]{{64}}(\.({'|'.join(COSIGN)}))?", tag))


def parse_list(raw: bytes, where: str) -> Entries:
    """Read a list of referrers.

    Raises:
        BadAnswer: It is not an OCI index; `where` says whose list it was to be.
    """
    try:
        document = json.loads(raw)
        found = msgspec.convert(document, learned(_List))
    except (ValueError, RecursionError) as error:
        raise BadAnswer(where, why=f"not an index: {str(error)[:200]}") from error
    if found.media_type != OCI_INDEX:
        raise BadAnswer(where, why=f"it is {found.media_type[:100]!r}; expected {OCI_INDEX!r}")
    return {item["digest"]: item for item in document["manifests"] or []}


def render_list(entries: Entries) -> bytes:
    """Return the index of these entries, by digest: writers who know the same write the same."""
    listed = [entries[digest] for digest in sorted(entries)]
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})


def descriptors_in(entries: Entries, artifact_type: str, where: str) -> list[Descriptor]:
    """Return the entries of a type, or of any, by digest; those whose digest is no sha256 are left out.

    Raises:
        BadAnswer: One is not a descriptor.
    """
    try:
        found = [msgspec.convert(entry, learned(Descriptor)) for digest, entry in entries.items() if is_digest(digest)]
    except msgspec.ValidationError as error:
        raise BadAnswer(where, why=f"not a descriptor: {error}") from error
    return of_type(found, artifact_type)


def of_type(found: Iterable[Descriptor], artifact_type: str) -> list[Descriptor]:
    """Return the descriptors of a type, or of any, by digest."""
    chosen = [item for item in found if artifact_type in ("", item.artifact_type)]
    return sorted(chosen, key=lambda item: item.digest)


def enlist(referrer: Descriptor, read: Callable[[], Entries], write: Callable[[Entries], Entries], where: str) -> None:
    """Put a referrer into a list that others write too, and lose none of theirs.

    What was read once is written again when another writer, who had not seen it, replaced it. After a write the list
    is read twice, the second time when a writer that had read before it will have written.

    Args:
        referrer: Nothing is written when it is listed already.
        read: Returns the list.
        write: Replaces the list; returns what it then holds, which may be less.
        where: Says in errors whose list it is.

    Raises:
        Conflict: Others replaced the list again and again.
    """
    entry = msgspec.to_builtins(referrer)
    known: Entries = {}
    written = settled = False
    pause_s = SHORTEST_PAUSE_S
    for _ in range(MAX_ROUNDS):
        began = time.monotonic()
        found = read()
        known = known | found
        if referrer.digest in found and known.keys() == found.keys():
            if settled or not written:
                return
            settled = True
        else:
            known = write({referrer.digest: entry} | known)
            written, settled = True, False
            pause_s = max(pause_s, time.monotonic() - began)
        wait(pause_s * (2 if settled else _JITTER.uniform(0, 1)))
    raise Conflict(
        where,
        why=f"other writers replaced the list {MAX_ROUNDS} times meanwhile",
        hint="run the same command again",
    )
