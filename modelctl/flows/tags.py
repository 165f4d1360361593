"""Tags and blobs of a store: list, resolve, add, forget, prune."""

from __future__ import annotations

import msgspec

from modelctl.core.errors import UsageProblem
from modelctl.core.reference import Reference, check_tag
from modelctl.flows.stores import open_store


class TagReport(msgspec.Struct, kw_only=True):
    """A tag and the manifest it points to; `size` is the manifest's [bytes]."""

    tag: str
    digest: str
    size: int


class RemoveReport(msgspec.Struct, kw_only=True):
    """What was forgotten, and which tags still name the same manifest."""

    digest: str
    removed: list[str]
    remaining: list[str]


class PruneReport(msgspec.Struct, kw_only=True):
    """The blobs that nothing names; removed unless it was a dry run. `size` in bytes."""

    blobs: list[str]
    size: int
    dry_run: bool


def list_tags(reference: Reference) -> list[TagReport]:
    """Return the store's tags by name; only the reference's own when it has one."""
    tags = open_store(reference).tags()
    return [
        TagReport(tag=tag, digest=root.digest, size=root.size)
        for tag, root in sorted(tags.items())
        if reference.tag in ("", tag) and reference.digest in (None, root.digest)
    ]


def resolve_digest(reference: Reference) -> str:
    return open_store(reference).resolve(reference.name).digest


def add_tag(reference: Reference, tag: str) -> TagReport:
    """Point `tag` at the manifest of `reference`."""
    store = open_store(reference)
    root = store.resolve(reference.name)
    store.tag(root, check_tag(tag))
    return TagReport(tag=tag, digest=root.digest, size=root.size)


def remove(reference: Reference) -> RemoveReport:
    """Forget a tag, or a manifest with all its tags. The blobs stay until `prune`.

    Raises:
        UsageProblem: The reference names neither. NotFound: The store has no such tag or manifest.
    """
    if not reference.name:
        raise UsageProblem(f"cannot remove {reference}", why="it names no tag and no digest", hint=f"{reference}:TAG")
    store = open_store(reference)
    root = store.resolve(reference.name)
    removed = store.untag(reference.name)
    remaining = sorted(tag for tag, other in store.tags().items() if other.digest == root.digest)
    return RemoveReport(digest=root.digest, removed=removed, remaining=remaining)


def prune(reference: Reference, *, dry_run: bool) -> PruneReport:
    """Remove the blobs that no tag or manifest of the store's index reaches.

    Raises:
        UsageProblem: The reference names one artifact, not a store. Conflict: Somebody is writing to the store.
    """
    if reference.name:
        raise UsageProblem(f"cannot prune {reference}", why="prune takes a whole store", hint=reference.store)
    removed = open_store(reference).prune(dry_run=dry_run)
    return PruneReport(
        blobs=[blob.digest for blob in removed], size=sum(blob.size for blob in removed), dry_run=dry_run
    )
