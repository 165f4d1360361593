"""An artifact on its way into a store: blobs side by side, the manifest, what is attached to it, and the tag last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelctl.core.access import Access
from modelctl.core.choices import IfExists
from modelctl.core.errors import NotFound, failing
from modelctl.core.media_types import FILEPATH
from modelctl.core.protocols import Fetcher, Store
from modelctl.core.reference import Reference
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest
from modelctl.flows.attached import ALL, blobs_of, parse_attached, read_attached
from modelctl.flows.if_exists import may_tag
from modelctl.flows.stores import open_store
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import parse_manifest, read_document
from modelctl.registry.copy import Copied, copy_blob


@dataclass(frozen=True)
class Package:
    """What is delivered: its store, the manifest's descriptor, the manifest to the byte, and what is attached to it.

    `names` are those of uploads that may have been begun, by digest; `tags` point at manifests that are attached.
    """

    store: Store
    root: Descriptor
    raw: bytes
    attached: Sequence[tuple[Descriptor, bytes]]
    blobs: Sequence[Descriptor]
    names: Mapping[Digest, str] = field(default_factory=dict)
    tags: Mapping[str, Descriptor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs)


def read_package(source: Reference, access: Access, attached: str = ALL) -> Package:
    """Read an artifact's documents, and those of what is `attached` to it as the flag says; what fails is the source's.

    Raises:
        UsageProblem: `attached` asks for what cannot be attached.
    """
    wanted = parse_attached(attached)
    store = open_store(source, access)
    with failing("source"):
        root = store.resolve(source.name)
        raw = read_document(store, root, MAX_DOCUMENT_SIZE)
        found = read_attached(store, root.digest, wanted)
        blobs = blobs_of(map(parse_manifest, [raw, *(raw for _, raw in found.manifests)]))
    return Package(store, root, raw, found.manifests, blobs, tags=found.tags)


@dataclass
class Delivery:
    """A package on its way into `store`, to be tagged `tag`, if that is any. What fails there is the destination's.

    `fetcher` reads blobs in place of the package's own store; `settled` is called with each blob that is there. What
    is in `copied` from the beginning was brought before.
    """

    package: Package
    store: Store
    tag: str
    workers: Workers
    if_exists: IfExists
    fetcher: Fetcher | None = None
    settled: Callable[[Descriptor], None] = lambda _blob: None
    copied: Copied = field(default_factory=Copied)
    tagged: bool = False
    _tags: Mapping[str, Descriptor] = field(default_factory=dict)

    def look(self) -> None:
        """Say what would be sent, as if it had been."""
        with failing("destination"):
            self.ask_for_tags()
            there = self.workers.run(self.store.has, self.package.blobs)
        for blob, present in zip(self.package.blobs, there, strict=True):
            (self.copied.skipped if present else self.copied.sent).append(blob.digest)
            self.copied.sizes.append(0 if present else blob.size)

    def bring(self) -> None:
        """Bring everything but the tag.

        Raises:
            Conflict: The tag points elsewhere, and `if_exists` is "fail". Nothing was sent.
        """
        package, workers = self.package, self.workers
        with failing("destination"):
            self.ask_for_tags()
            before = {*self.copied.sent, *self.copied.skipped}
            for blob in package.blobs:
                self.settled(blob) if blob.digest in before else None
            workers.run(self._copy, [blob for blob in package.blobs if blob.digest not in before])
            there = before | {*self.copied.skipped}
            workers.run(self._check, [blob for blob in package.blobs if blob.digest in there])
            self.store.put_manifest(package.root, package.raw)
            self._attach()

    def point(self) -> None:
        """Point the tags at what was brought, unless they have to stay where they are."""
        with failing("destination"):
            for name, root in self._tags.items():
                self.store.tag(root, name)

    def ask_for_tags(self) -> None:
        """Learn which tags may be set; that of the artifact is set last.

        Raises:
            Conflict: One points elsewhere, and `if_exists` is "fail".
        """
        tags = {**self.package.tags, **({self.tag: self.package.root} if self.tag else {})}
        self._tags = {name: root for name, root in tags.items() if may_tag(self.store, name, root, self.if_exists)}
        self.tagged = self.tag in self._tags

    def _copy(self, blob: Descriptor) -> None:
        name = self.package.names.get(blob.digest, "")
        with self.workers.part(blob.annotations.get(FILEPATH, blob.digest[:19]), blob.size) as advance:
            copy_blob(self.package.store, blob, self.store, self.copied, advance, fetcher=self.fetcher, name=name)
        self.settled(blob)

    def _check(self, blob: Descriptor) -> None:
        if not self.store.has(blob):
            raise NotFound(f"blob {blob.digest} in {self.store}", why="it was there, and was removed meanwhile")

    def _attach(self) -> None:
        """Put the manifests that name the artifact their subject, unless they are there."""
        attached, subject = self.package.attached, self.package.root.digest
        there = {one.digest for one in self.store.referrers(subject)} if attached else set()
        for manifest, raw in attached:
            if manifest.digest not in there:
                self.store.put_manifest(manifest, raw)
