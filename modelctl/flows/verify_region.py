"""Prove an artifact in the registry of one region, and mend it there from another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from modelctl.core.access import Access
from modelctl.core.choices import Depth, IfExists
from modelctl.core.errors import ChecksumMismatch, Conflict, ModelctlError, NotFound, failing
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.protocols import Store
from modelctl.core.reference import LATEST, Reference
from modelctl.core.types import Descriptor
from modelctl.flows.delivery import Delivery, read_package
from modelctl.flows.good_copies import GoodCopies, Holder
from modelctl.flows.verify import FileResult, verify_layer
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import Artifact, Layer, load_artifact, read_document
from modelctl.packing.table import MAX_TABLE_SIZE
from modelctl.registry.copy import Copied, send_blob

State = Literal["Waiting", "Checking", "Good", "Bad", "Differs", "Missing", "Failed", "Repairing", "Repaired"]
"""Differs: what is there is right, and the tag points at another digest than it should."""

_UNREAD = ("unavailable", "bad-answer", "denied")
"""Codes of errors that say nothing of the bytes."""


class BadBlob(msgspec.Struct, kw_only=True):
    """A blob of `size` bytes that is not right in a region, or `missing` there.

    The problems of its `files` say what was seen and what was expected; a document is a file named for what it is.
    `repaired_from` is where it was sent from again, after which it was right. Where that did not help `hint` says what
    does.
    """

    digest: str
    size: int
    missing: bool
    files: list[FileResult]
    repaired_from: str = ""
    hint: str = ""


class RegionVerdict(msgspec.Struct, kw_only=True):
    """How a region is, at any time. Of `blobs` that were looked at, `bad` were not right.

    `digest` is what the tag points to there. `code`, `why` and `hint` are of what is wrong with it in the end.
    """

    region: str
    reference: str
    digest: str = ""
    state: State = "Waiting"
    blobs: int = 0
    bad: list[BadBlob] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    code: str = ""
    why: str = ""
    hint: str = ""

    def say(self, error: ModelctlError) -> None:
        """Say what is wrong."""
        self.code, self.hint = error.code, error.hint
        self.why = error.seen


@dataclass(frozen=True)
class _Blob:
    """A blob of an artifact: a document of a name, or what layers are made of."""

    descriptor: Descriptor
    name: str
    layers: Sequence[Layer] = ()


def _documents(artifact: Artifact) -> list[_Blob]:
    config, table = artifact.manifest.config, artifact.table_descriptor
    return [_Blob(config, "config"), _Blob(table, "table"), _Blob(artifact.root, "manifest")]


def _layers(artifact: Artifact) -> list[_Blob]:
    """Return the blobs of layers, each once: files that are equal have one."""
    found: dict[str, list[Layer]] = {}
    for layer in artifact.layers:
        found.setdefault(layer.descriptor.digest, []).append(layer)
    return [_Blob(layers[0].descriptor, layers[0].rows[0].path, layers) for layers in found.values()]


@dataclass
class RegionProof:
    """One region's part of the job; its `row` is right at any time."""

    row: RegionVerdict
    reference: Reference
    access: Access
    store: Store
    workers: Workers
    depth: Depth
    tell: Callable[[RegionVerdict], None]
    artifact: Artifact | None = None
    error: ModelctlError | None = None
    _bad: dict[str, tuple[_Blob, BadBlob]] = field(default_factory=dict)

    @property
    def holder(self) -> Holder | None:
        """What others may be sent from here."""
        if not self.artifact or self.row.state not in ("Good", "Bad"):
            return None
        bad = frozenset(blob.descriptor.digest for blob, _ in self._bad.values())
        return Holder(self.row.region, self.reference, self.access, self.store, self.artifact, bad)

    def verify(self) -> None:
        """Prove what the tag points to here, if the documents say what that is."""
        with self._working("Checking"):
            try:
                root = self.store.resolve(self.reference.name)
            except NotFound as error:
                self.row.state, self.error = "Missing", error
                return
            self.row.digest = root.digest
            try:
                self.artifact = load_artifact(self.store, root)
            except (ChecksumMismatch, NotFound) as error:
                self.row.state, self.error = "Bad", error
                return
            self._look_at(self.artifact, _layers(self.artifact))

    def go_on(self, digest: str, copies: GoodCopies, *, repair: bool) -> None:
        """Prove, by another region's documents, what could not be proved by those here; then mend what is bad."""
        missing = self.row.state == "Missing"
        source = copies.of(self.row.digest or digest)
        if not source or (not repair and (missing or self.artifact)):
            return
        with self._working("Repairing" if repair else "Checking"):
            if not self.artifact:
                self.error = self.error if missing else None
                self._look_at(source.artifact, [*_layers(source.artifact), *_documents(source.artifact)])
            if not repair:
                return
            manifests = [item for item in self._bad.values() if item[0].descriptor.media_type == OCI_MANIFEST]
            self.workers.run(
                lambda item: self._mend(*item, copies), [item for item in self._bad.values() if item not in manifests]
            )
            for item in manifests:
                self._mend(*item, copies)
            if all(bad.repaired_from for _, bad in self._bad.values()):
                if missing:
                    self._deliver(source)
                self.row.state = "Repaired"

    def judge(self, digest: str, wanted: str, *, repair: bool) -> None:
        """Say what is wrong in the end."""
        row = self.row
        left = [bad for bad in row.bad if not bad.repaired_from]
        if row.state in ("Good", "Repaired") and row.digest != digest:
            row.state = "Differs"
            self.error = Conflict(
                f"{row.reference} points elsewhere",
                why=f"to {row.digest}; " + (f"expected {digest}" if digest else "no digest is that of most regions"),
                hint=f"modelctl push REF --regions {row.region} --to {wanted}, with the REF that is right",
            )
        elif row.state == "Bad" and not self.error:
            files = [f"{file.path}, {bad.digest}: {file.problems[0]}" for bad in left for file in bad.files]
            self.error = ChecksumMismatch(
                f"{len(left)} of {row.blobs} blobs not right",
                why=files[0] + (f"; and {len(files) - 1} more files" if files[1:] else ""),
                hint=next((bad.hint for bad in left if bad.hint), "the same command with --repair sends them again"),
            )
        elif row.state == "Missing" and isinstance(self.error, NotFound):
            push = f"modelctl push REF --regions {row.region} --to {wanted}"
            hint = push if repair or not digest else f"the same command with --repair, or {push}"
            self.error.hint = next((bad.hint for bad in left if bad.hint), hint)
        if self.error:
            row.say(self.error)

    @contextmanager
    def _working(self, state: State) -> Iterator[None]:
        """Do what ends in another state; what fails in it is kept."""
        began, before = time.monotonic(), self.row.state
        self.row.state = state
        self.tell(self.row)
        try:
            yield
        except ModelctlError as error:
            self.row.state, self.error = before if before in ("Bad", "Missing") else "Failed", error
        self.row.bad = [bad for _, bad in self._bad.values()]
        if self.row.state == state:
            self.row.state = before if before == "Missing" else "Bad" if self._bad else "Good"
        self.row.seconds = round(self.row.seconds + time.monotonic() - began, 3)
        self.tell(self.row)

    def _look_at(self, artifact: Artifact, blobs: Sequence[_Blob]) -> None:
        """Prove blobs of an artifact here, and keep what is wrong with them."""
        self.row.blobs = len(_layers(artifact)) + len(_documents(artifact))
        self.workers.expect(len(artifact.table.rows), artifact.size if self.depth != "size" else 0)

        def look(blob: _Blob) -> None:
            bad = self._look(blob)
            if bad and any(file.code in _UNREAD for file in bad.files):
                self.store.has(artifact.root)  # raises where nothing is answered: that says nothing of the blob
            if bad:
                self._bad[bad.digest] = blob, bad

        self.workers.run(look, blobs)

    def _look(self, blob: _Blob) -> BadBlob | None:
        """Prove one blob here."""
        files = [found for layer in blob.layers for found in verify_layer(layer, self.store, self.depth, self.workers)]
        if not blob.layers:
            document = FileResult(path=blob.name, size=blob.descriptor.size, problems=[])
            try:
                read_document(self.store, blob.descriptor, MAX_TABLE_SIZE)
            except ModelctlError as error:
                document.code, document.problems = error.code, [f"{error.what}: {error.why}"]
            files.append(document)
        wrong = [file for file in files if file.problems]
        missing = any(file.code == "not-found" for file in wrong)
        for file in wrong if missing else ():
            file.problems = ["missing"]
        descriptor = blob.descriptor
        return BadBlob(digest=descriptor.digest, size=descriptor.size, missing=missing, files=wrong) if wrong else None

    def _mend(self, blob: _Blob, bad: BadBlob, copies: GoodCopies) -> None:
        """Send a blob again from where it is good, and see whether that helped."""
        with self.workers.part(f"a good copy of {blob.name}", blob.descriptor.size) as advance:
            source = self._good_copy(blob, bad, copies, advance)
        if not source:
            return
        with self.workers.part(blob.name, blob.descriptor.size) as advance, failing("destination"):
            if blob.descriptor.media_type == OCI_MANIFEST:
                self.store.put_manifest(
                    blob.descriptor, read_document(source.store, blob.descriptor, blob.descriptor.size)
                )
            else:
                send_blob(source.store, blob.descriptor, self.store, Copied(), advance)
        still = self._look(blob)
        if still:
            bad.files, bad.missing, bad.hint = still.files, still.missing, _kept(bad.digest)
        else:
            bad.repaired_from = source.name

    def _good_copy(
        self, blob: _Blob, bad: BadBlob, copies: GoodCopies, advance: Callable[[int], None]
    ) -> Holder | None:
        """Return where a blob is good, or say what to do when that is nowhere."""
        try:
            return copies.find(blob.descriptor, advance)
        except NotFound as error:
            bad.hint = f"{error.why}: {error.hint}"
            return None

    def _deliver(self, source: Holder) -> None:
        """Bring what is attached where all blobs are there, and set the tags; where a digest was named only its own."""
        package = read_package(replace(source.reference, digest=source.artifact.root.digest), source.access)
        by_digest = bool(self.reference.digest)
        if_exists: IfExists = "skip" if by_digest else "fail"
        tag = "" if by_digest else self.reference.tag or LATEST
        delivery = Delivery(package, self.store, tag, self.workers, if_exists)
        delivery.bring()
        delivery.point()
        self.row.digest, self.error = package.root.digest, None


def _kept(digest: str) -> str:
    """Say what to do where a registry keeps what it has. Source: distribution, `blobwriter.go`, moveBlob; measured."""
    name = digest.removeprefix("sha256:")
    return (
        "the registry keeps the bytes that it has under a digest, whatever is sent: have "
        f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data (so distribution and Harbor call it) removed from its "
        "storage, then run the same command"
    )
