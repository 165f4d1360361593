"""Tags and blobs of a store: list, resolve, add, forget, prune."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import Conflict, ModelctlError, NotFound, UsageProblem
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference, check_tag
from modelctl.core.types import Digest
from modelctl.flows.stores import open_store
from modelctl.registry.ocidir import OciDir
from modelctl.registry.referrers import is_attachment_tag

_SHOWN = 20
"""So many tags an error names."""


class TagReport(msgspec.Struct, kw_only=True):
    """A tag and the manifest it points to; `size` is the manifest's [bytes]."""

    tag: str
    digest: str
    size: int


class RemoveReport(msgspec.Struct, kw_only=True):
    """Which tags were forgotten, and which still name the same manifest; a note where that could not be asked."""

    digest: str
    removed: list[str]
    remaining: list[str]
    notes: list[str] = []


class PruneReport(msgspec.Struct, kw_only=True):
    """The blobs that nothing names; removed unless it was a dry run. `size` in bytes."""

    blobs: list[str]
    size: int
    dry_run: bool


def list_tags(reference: Reference, access: Access = DEFAULT) -> list[TagReport]:
    """Return the store's tags by name, without those of what is attached; only the reference's own when it has one.

    Raises:
        NotFound: There is no such tag; says which there are. Or it points elsewhere than the reference says.
    """
    store = open_store(reference, access)
    shown = [tag for tag in sorted(store.tags()) if reference.tag == tag or not is_attachment_tag(tag)]
    roots = {tag: store.resolve(tag) for tag in shown if reference.tag in ("", tag)}
    if reference.tag and reference.tag not in roots:
        known = ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
        raise NotFound(f"tag {reference.tag!r} in {reference.store}", why=f"its tags are: {known or 'none'}")
    if reference.tag and reference.digest not in (None, roots[reference.tag].digest):
        raise NotFound(str(reference), why=f"the tag names {roots[reference.tag].digest}")
    return [
        TagReport(tag=tag, digest=root.digest, size=root.size)
        for tag, root in roots.items()
        if reference.digest in (None, root.digest)
    ]


def resolve_digest(reference: Reference, access: Access = DEFAULT) -> str:
    return open_store(reference, access).resolve(reference.name).digest


def add_tag(reference: Reference, tag: str, access: Access = DEFAULT) -> TagReport:
    """Point `tag` at the manifest of `reference`."""
    store = open_store(reference, access)
    root = store.resolve(reference.name)
    store.tag(root, check_tag(tag))
    return TagReport(tag=tag, digest=root.digest, size=root.size)


def remove(reference: Reference, *, with_manifest: bool = False, access: Access = DEFAULT) -> RemoveReport:
    """Forget a tag, or a manifest with all its tags. The blobs of a layout stay until `prune`.

    Args:
        reference: A tag, a digest, or a tag that has to point to the digest beside it.
        with_manifest: Remove the manifest that the tag names, and so every tag of it.
        access: How to reach a registry.

    Raises:
        UsageProblem: The reference names neither. NotFound: The store has no such tag or manifest.
        Conflict: The tag points to another digest than that beside it; or a registry can only remove the manifest, and
            other tags name it too.
    """
    if not reference.name:
        raise UsageProblem(f"cannot remove {reference}", why="it names no tag and no digest", hint=f"{reference}:TAG")
    store = open_store(reference, access)
    name = reference.tag or reference.name
    digest = store.resolve(name).digest
    if reference.digest not in (None, digest):
        raise Conflict(
            f"{reference.store}:{name} points elsewhere",
            why=f"to {digest}, not to {reference.digest}",
            hint="name the tag alone, or the digest alone",
        )
    report = RemoveReport(digest=digest, removed=store.untag(digest if with_manifest else name), remaining=[])
    try:
        report.remaining = _tags_of(store, digest)
    except ModelctlError as error:
        report.notes = [f"which tags name {digest} now is not known: {error.seen}"]
    return report


def _tags_of(store: Store, digest: Digest) -> list[str]:
    """Return the tags that name a manifest, but for those of what is attached. One that goes meanwhile does not."""

    def names(tag: str) -> bool:
        with suppress(NotFound):
            return store.resolve(tag).digest == digest
        return False

    with suppress(NotFound):  # a registry may forget a repository with its last tag
        return [tag for tag in sorted(store.tags()) if not is_attachment_tag(tag) and names(tag)]
    return []


def prune(reference: Reference, *, dry_run: bool) -> PruneReport:
    """Remove the blobs that no tag or manifest of the layout's index reaches.

    Raises:
        UsageProblem: The reference names one artifact, or a registry. Conflict: Somebody is writing to the store.
    """
    if reference.name or reference.registry:
        raise UsageProblem(
            f"cannot prune {reference}",
            why="a registry collects its own garbage" if reference.registry else "prune takes a whole store",
            hint="" if reference.registry else reference.store,
        )
    removed = OciDir(reference.path).prune(dry_run=dry_run)
    return PruneReport(
        blobs=[blob.digest for blob in removed], size=sum(blob.size for blob in removed), dry_run=dry_run
    )
