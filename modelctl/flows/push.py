"""Push an artifact to registries: blobs side by side, then config, then manifest, the tag last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists
from modelctl.core.errors import NotFound, UsageProblem, failing
from modelctl.core.media_types import FILEPATH
from modelctl.core.progress import Progress
from modelctl.core.protocols import Store
from modelctl.core.reference import LATEST, Reference
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor
from modelctl.flows.if_exists import may_tag
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import parse_manifest, read_document
from modelctl.registry.copy import Copied, copy_blob


class PushReport(msgspec.Struct, kw_only=True):
    """What went to one destination: digests of blobs sent, there already, and mounted; sizes in bytes."""

    reference: str
    digest: str
    tag: str
    size: int
    sent: list[str]
    skipped: list[str]
    mounted: list[str]
    tagged: bool


def push(
    source: Reference,
    destinations: Sequence[Reference],
    progress: Progress,
    *,
    if_exists: IfExists = "replace",
    jobs: int | None = None,
    access: Access = DEFAULT,
) -> list[PushReport]:
    """Copy the artifact `source` to each destination, one after the other.

    Raises:
        Conflict: A tag points elsewhere, and `if_exists` is "fail". Nothing was sent to that destination.
        ModelctlError: Of whatever kind a store raises; its text says on which side. The tag was not touched.
    """
    origin = open_store(source, access)
    with failing("source"):
        root = origin.resolve(source.name)
        raw = read_document(origin, root, MAX_DOCUMENT_SIZE)
    reports = []
    for destination in destinations:
        if destination.digest:
            raise UsageProblem(
                f"cannot push to {destination}", why="a digest follows from the content", hint="name a tag"
            )
        workers = Workers(jobs, progress, remote=bool(source.registry or destination.registry))
        reports.append(_push_one(_Artifact(origin, root, raw), destination, workers, if_exists, access))
    return reports


@dataclass(frozen=True)
class _Artifact:
    """What is pushed: its store, the manifest's descriptor, and the manifest to the byte."""

    store: Store
    root: Descriptor
    raw: bytes

    def blobs(self) -> list[Descriptor]:
        manifest = parse_manifest(self.raw)
        return list({blob.digest: blob for blob in (*manifest.layers, manifest.config)}.values())


def _push_one(
    artifact: _Artifact, destination: Reference, workers: Workers, if_exists: IfExists, access: Access
) -> PushReport:
    store = open_store(destination, access)
    copied = Copied()
    root, tag, blobs = artifact.root, destination.tag or LATEST, artifact.blobs()
    workers.expect(len(blobs), sum(blob.size for blob in blobs))

    def copy_one(blob: Descriptor) -> None:
        with workers.part(blob.annotations.get(FILEPATH, blob.digest[:19]), blob.size) as advance:
            copy_blob(artifact.store, blob, store, copied, advance)

    def check_one(blob: Descriptor) -> None:
        if not store.has(blob):
            raise NotFound(f"blob {blob.digest} in {store}", why="it was there, and was removed meanwhile")

    with writing(store), failing("destination"):
        tagged = may_tag(store, tag, root, if_exists)
        workers.run(copy_one, blobs)
        workers.run(check_one, [blob for blob in blobs if blob.digest in copied.skipped])
        store.put_manifest(root, artifact.raw)
        if tagged:
            store.tag(root, tag)
    return PushReport(
        reference=f"{destination.store}@{root.digest}",
        digest=root.digest,
        tag=tag,
        size=sum(blob.size for blob in blobs),
        sent=list(copied.sent),
        skipped=list(copied.skipped),
        mounted=list(copied.mounted),
        tagged=tagged,
    )
