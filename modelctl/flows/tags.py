"""Tags and blobs of a store: list, resolve, add, forget, prune."""

from __future__ import annotations

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import UsageProblem
from modelctl.core.reference import Reference, check_tag
from modelctl.flows.stores import open_store
from modelctl.registry.ocidir import OciDir
from modelctl.registry.referrers import is_attachment_tag


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


def list_tags(reference: Reference, access: Access = DEFAULT) -> list[TagReport]:
    """Return the store's tags by name, without those of what is attached; only the reference's own when it has one."""
    store = open_store(reference, access)
    shown = [tag for tag in sorted(store.tags()) if reference.tag == tag or not is_attachment_tag(tag)]
    roots = {tag: store.resolve(tag) for tag in shown if reference.tag in ("", tag)}
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
        reference: A tag, or a digest.
        with_manifest: Remove the manifest that the tag names, and so every tag of it.
        access: How to reach a registry.

    Raises:
        UsageProblem: The reference names neither. NotFound: The store has no such tag or manifest.
        Conflict: A registry can only remove the manifest, and other tags name it too.
    """
    if not reference.name:
        raise UsageProblem(f"cannot remove {reference}", why="it names no tag and no digest", hint=f"{reference}:TAG")
    store = open_store(reference, access)
    root = store.resolve(reference.name)
    name = root.digest if with_manifest else reference.name
    removed = store.untag(name)
    remaining = [tag.tag for tag in list_tags(Reference(reference.path, "", root.digest, reference.registry), access)]
    return RemoveReport(digest=root.digest, removed=removed, remaining=remaining)


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
