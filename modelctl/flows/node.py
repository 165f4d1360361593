"""Keep models on this node: pull one into the library, list them, remove one."""

from __future__ import annotations

import msgspec

from modelctl.core.access import Access
from modelctl.core.errors import NotFound
from modelctl.core.progress import Progress
from modelctl.core.reference import Reference
from modelctl.core.types import Digest
from modelctl.flows.pull import PullOptions, restore
from modelctl.flows.stores import open_artifact
from modelctl.node.library import Library


class NodePullReport(msgspec.Struct, kw_only=True):
    """A model that is on this node, every file proved. Sizes in bytes; `shared` were there, of other models."""

    reference: str
    digest: str
    folder: str
    files: int
    size: int
    shared: int


class NodeModel(msgspec.Struct, kw_only=True):
    """A model of this node; its size in bytes."""

    digest: str
    folder: str
    files: int
    size: int


class Removed(msgspec.Struct, kw_only=True):
    """A model that is gone, and how much that freed [bytes]."""

    digest: str
    freed: int


def node_pull(reference: Reference, root: str, jobs: int | None, access: Access, progress: Progress) -> NodePullReport:
    """Bring a model into the library `root`: link what other models have, pull the rest, prove all of it.

    A file that is not what the table says is replaced.

    Raises:
        As `flows.pull.pull`. What is there already stays, and the next run goes on.
    """
    library = Library(root)
    opened = open_artifact(reference, access)
    _, artifact = opened
    digest, rows = artifact.root.digest, artifact.table.rows
    options = PullOptions(overwrite=True, jobs=jobs, access=access)
    with library.writing():
        shared = library.link(digest, rows)
        pulled = restore(reference, opened, str(library.filling(digest)), options, progress)
        library.keep(digest, rows)
    for row in rows:
        progress.keep(row.path, row.size)
    return NodePullReport(
        reference=pulled.reference,
        digest=digest,
        folder=str(library.folder(digest)),
        files=pulled.files,
        size=pulled.size,
        shared=shared,
    )


def node_models(root: str) -> list[NodeModel]:
    """Return the models of the library `root`."""
    library = Library(root)
    found = []
    for digest in library.models():
        files, size = library.size(digest)
        found.append(NodeModel(digest=digest, folder=str(library.folder(digest)), files=files, size=size))
    return found


def node_remove(root: str, digest: Digest) -> Removed:
    """Remove a model from the library `root`, whole or begun, and every content that no other model has.

    Raises:
        NotFound: Nothing of it is here.
    """
    library = Library(root)
    if not library.has(digest):
        raise NotFound(f"{digest} in {root}", why="no such model is here", hint="modelctl node ls lists those that are")
    with library.writing():
        return Removed(digest=digest, freed=library.remove(digest))
