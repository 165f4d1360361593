"""A store in a folder: an OCI image layout, which skopeo, podman, umoci, crane and others read and write too.

A blob is written under a temporary name, flushed and renamed, so that a digest never names other bytes; `index.json`
is replaced whole. `.modelctl/` in it holds the unfinished files and two locks: who writes blobs shares
`writers.lock`, `prune` has it alone; `index.lock` is held for a change of the index. What a killed writer left is
removed by the next one that finds itself alone.

Source: OCI image-spec image-layout.md.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelctl.core import media_types
from modelctl.core.disk import FileBlob, locked, on_disk, sync_folder, write_all
from modelctl.core.errors import Conflict, DigestMismatch, Invalid, NotFound
from modelctl.core.learned import learned
from modelctl.core.paths import RESERVED
from modelctl.core.protocols import Blob
from modelctl.core.reference import LATEST
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest, canonical_json, is_digest, parse_digest
from modelctl.registry.referrers import Referrer, fallback_tag, is_attachment_tag, of_type, referrer_of

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
_UNFINISHED = "unfinished-"
_OWN_NAMES = {"oci-layout", "index.json", "blobs", RESERVED}
_MAX_INDEX = 64 << 20
_MAX_MANIFEST = 4 << 20
_DOCUMENTS = ("manifest.v1+json", "index.v1+json", "manifest.v2+json", "manifest.list.v2+json")


Document = TypeVar("Document")


class _Item(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct):
    """What tools in Go write of an empty list is null."""

    manifests: list[_Item] | None


class _Document(msgspec.Struct):
    """What a manifest or an index of any tool points to."""

    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    blobs: list[Descriptor] | None = None


class OciDir:
    """A `Store` in the folder `path`. Thread-safe, and safe beside other processes that use this class."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._blobs = self.path / "blobs" / "sha256"
        self._own = self.path / RESERVED

    def __str__(self) -> str:
        return f"oci:{self.path}"

    def create(self) -> None:
        """Make the layout, or what is missing of it.

        Raises:
            Conflict: The folder holds something that is not part of a layout.
        """
        with on_disk(str(self.path)):
            present = set(os.listdir(self.path)) if self.path.exists() else set()
            if "oci-layout" not in present and present - _OWN_NAMES:
                raise Conflict(
                    f"{self.path} is not an OCI layout",
                    why=f"it holds {min(present - _OWN_NAMES)!r} and no oci-layout",
                    hint="name another folder",
                )
            self._blobs.mkdir(parents=True, exist_ok=True)
        with self._index_lock():
            for name, data in (("index.json", canonical_json(_EMPTY_INDEX)), ("oci-layout", _LAYOUT)):
                if not (self.path / name).exists():
                    self._replace(self.path / name, data)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off `prune` while blobs are written that no tag names yet; sweep up after writers that died."""
        with suppress(Conflict), self._writers_lock(fcntl.LOCK_EX | fcntl.LOCK_NB), self._index_lock():
            self._sweep()
        with self._writers_lock(fcntl.LOCK_SH):
            yield

    def _writers_lock(self, mode: int) -> AbstractContextManager[int]:
        self._make_own()
        return locked(self._own / "writers.lock", mode, busy=str(self.path))

    def _index_lock(self) -> AbstractContextManager[int]:
        self._make_own()
        return locked(self._own / "index.lock", fcntl.LOCK_EX)

    def _make_own(self) -> None:
        with on_disk(str(self._own)):
            self._own.mkdir(exist_ok=True)

    def _sweep(self) -> None:
        """Remove unfinished files. Only for who holds both locks alone."""
        for path in self._own.glob(f"{_UNFINISHED}*"):
            with on_disk(str(path)):
                path.unlink()

    def has(self, descriptor: Descriptor) -> bool:
        path = self._blob_path(descriptor.digest)
        with on_disk(str(path)):
            return path.exists() and path.stat().st_size == descriptor.size

    def open(self, descriptor: Descriptor) -> FileBlob:
        """Open a blob.

        Raises:
            NotFound: It is not there. DigestMismatch: It has another size than the descriptor says.
        """
        path = self._blob_path(descriptor.digest)
        with on_disk(f"blob {descriptor.digest} in {self.path}"):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(fd).st_size
        if size != descriptor.size:
            os.close(fd)
            raise DigestMismatch(
                f"blob {descriptor.digest} in {self.path}",
                why=f"it has {size} bytes; its descriptor says {descriptor.size}",
                hint="pack the model again; that replaces a blob which is not right",
            )
        return FileBlob(fd, size, str(path))

    @contextmanager
    def upload(self, _blob: Blob | None = None, _name: str = "", /) -> Iterator[OciDirUpload]:
        """Start a blob. It appears when it is committed; without that it leaves nothing."""
        path = self._own / f"{_UNFINISHED}{os.getpid()}-{os.urandom(8).hex()}"
        with on_disk(str(path)):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            yield OciDirUpload(fd, path, self._blobs)
        finally:
            with on_disk(str(path)):
                os.close(fd)
                path.unlink(missing_ok=True)

    def put_manifest(self, manifest: Descriptor, raw: bytes) -> None:
        """Keep a manifest under its digest; one that names a subject is listed in the index, without a tag."""
        with self.upload() as upload:
            upload.write(raw)
            upload.commit(manifest.digest)
        referrer = referrer_of(manifest, raw)
        if referrer is None or any(item.get("digest") == manifest.digest for item in self._index()["manifests"]):
            return
        with self._changing_index() as manifests:
            manifests[:] = [item for item in manifests if not _untagged(item, manifest)]
            manifests.append(
                {
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest,
                    "size": manifest.size,
                    "artifactType": referrer.descriptor.artifact_type,
                }
            )

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests here that name `subject`.

        They stand in the index, as oras writes it, or in a list under the fallback tag, as regclient does.
        """
        tags = self.tags()
        listed = [_descriptor(item) for item in self._index()["manifests"]]
        if fallback_tag(subject) in tags:
            listed += self._children(tags[fallback_tag(subject)])
        named = [self._referrer(item) for item in listed]
        found = {item.descriptor.digest: item.descriptor for item in named if item and item.subject == subject}
        return of_type(found.values(), artifact_type)

    def _referrer(self, manifest: Descriptor) -> Referrer | None:
        return referrer_of(manifest, self._manifest(manifest))

    def _manifest(self, manifest: Descriptor) -> bytes:
        """Return a manifest, or nothing when it is not here or too large to be one."""
        path = self._blob_path(manifest.digest)
        with on_disk(f"manifest {manifest.digest} in {self.path}"):
            there = path.exists() and path.stat().st_size <= _MAX_MANIFEST
            return path.read_bytes() if there else b""

    def resolve(self, name: str) -> Descriptor:
        """Return the manifest that a tag or digest names; no name is `latest`, or the only manifest there is.

        What is attached to another is not counted, unless it has a tag.

        Raises:
            NotFound: There is none; says which tags there are.
        """
        if name.startswith("sha256:"):
            return self._resolve_digest(parse_digest(name))
        tags = self.tags()
        if name in tags:
            return tags[name]
        if not name and LATEST in tags:
            return tags[LATEST]
        listed = [item for item in self._index()["manifests"] if not is_attachment_tag(_tag_of(item) or "")]
        alone = [] if name else [item for item in listed if not self._subject_of(item)]
        if len(alone) == 1:
            return _descriptor(alone[0])
        known = ", ".join(sorted(tags)) or "none"
        raise NotFound(
            f"tag {name!r} in {self.path}" if name else f"{self.path}: which tag?",
            why=f"its tags are: {known}",
        )

    def _resolve_digest(self, digest: Digest) -> Descriptor:
        listed = [_descriptor(item) for item in self._index()["manifests"] if item.get("digest") == digest]
        if listed:
            return listed[0]
        with on_disk(f"manifest {digest} in {self.path}"):
            size = self._blob_path(digest).stat().st_size
        return Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest, size=size)

    def tags(self) -> dict[str, Descriptor]:
        """Return every tag and the manifest it points to."""
        return {
            item["annotations"][media_types.REF_NAME]: _descriptor(item)
            for item in self._index()["manifests"]
            if media_types.REF_NAME in (item.get("annotations") or {})
        }

    def tag(self, manifest: Descriptor, name: str) -> None:
        """Point `name` at a manifest that is here, atomically; `NotFound` when it is not here."""
        with self._changing_index() as manifests:
            if not self.has(manifest):
                raise NotFound(f"manifest {manifest.digest} in {self.path}", why="a tag points only to what is there")
            manifests[:] = [item for item in manifests if _tag_of(item) != name and not _untagged(item, manifest)]
            manifests.append(
                {
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest,
                    "size": manifest.size,
                    "annotations": {media_types.REF_NAME: name},
                }
            )

    def untag(self, name: str) -> list[str]:
        """Forget a tag, or a digest with all its tags. Blobs stay until `prune`.

        Returns:
            The tags that were forgotten.

        Raises:
            NotFound: There is no such tag or digest in the index.
        """
        with self._changing_index() as manifests:
            gone = [item for item in manifests if name in (_tag_of(item), item.get("digest"))]
            if not gone:
                raise NotFound(f"{name} in {self.path}", why="there is no such tag or manifest in its index")
            manifests[:] = [item for item in manifests if item not in gone]
        return [tag for tag in map(_tag_of, gone) if tag]

    def _subject_of(self, item: Mapping[str, Any]) -> Digest | None:
        """Return what an entry of the index is attached to; None when it has a tag, or its subject is not here."""
        referrer = None if _tag_of(item) else self._referrer(_descriptor(item))
        here = referrer and self._blob_path(referrer.subject).exists()
        return referrer.subject if referrer and here else None

    def prune(self, *, dry_run: bool = False) -> list[Descriptor]:
        """Remove the blobs that no manifest of the index reaches; return them.

        What has no tag and names a subject that is here goes with its subject.

        Raises:
            Conflict: Somebody is writing to the store.
        """
        self._index()
        with self._writers_lock(fcntl.LOCK_EX | fcntl.LOCK_NB), self._index_lock(), on_disk(str(self._blobs)):
            index = self._index()
            kept = self._reachable(index["manifests"])
            left = [item for item in index["manifests"] if item["digest"] in kept]
            if left != index["manifests"] and not dry_run:
                self._replace(self.path / "index.json", canonical_json({**index, "manifests": left}))
            removed = []
            for path in sorted(path for path in self._blobs.iterdir() if is_digest(f"sha256:{path.name}")):
                digest = Digest(f"sha256:{path.name}")
                if digest not in kept:
                    removed.append(Descriptor(media_type="", digest=digest, size=path.stat().st_size))
                    if not dry_run:
                        path.unlink()
            if not dry_run:
                self._sweep()
            return removed

    def _reachable(self, items: Sequence[Mapping[str, Any]]) -> set[Digest]:
        """Return what these entries of the index reach, an attached one only when its subject is reached."""
        reached: set[Digest] = set()
        subjects = [(_descriptor(item), self._subject_of(item)) for item in items]
        waiting = [manifest for manifest, subject in subjects if subject is None]
        while waiting:
            self._reach(waiting, reached)
            waiting = [
                manifest for manifest, subject in subjects if subject in reached and manifest.digest not in reached
            ]
        return reached

    def _reach(self, waiting: list[Descriptor], reached: set[Digest]) -> None:
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in reached:
                continue
            reached.add(descriptor.digest)
            if descriptor.media_type.endswith(_DOCUMENTS):
                waiting += self._children(descriptor)

    def _children(self, descriptor: Descriptor) -> list[Descriptor]:
        """Return what a document points to; nothing when it is not here, as a platform that was not copied."""
        path = self._blob_path(descriptor.digest)
        with on_disk(f"manifest {descriptor.digest} in {self.path}"):
            if not path.exists():
                return []
            document = _convert(_load(path, _MAX_MANIFEST), _Document, str(path))
        lists = ([document.config] if document.config else None, document.layers, document.manifests, document.blobs)
        found = [item for items in lists for item in items or ()]
        for item in found:
            parse_digest(item.digest)
        return found

    def _blob_path(self, digest: Digest) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _index(self) -> dict[str, Any]:
        with on_disk(f"OCI layout {self.path}"):
            if not (self.path / "oci-layout").exists():
                raise NotFound(f"OCI layout {self.path}", why="there is no oci-layout file in it")
            index = _load(self.path / "index.json", _MAX_INDEX)
        listed = _convert(index, _Index, f"{self.path}/index.json")
        return index if listed.manifests else {**index, "manifests": []}

    @contextmanager
    def _changing_index(self) -> Iterator[list[dict[str, Any]]]:
        self._index()
        with self._index_lock():
            index = self._index()
            yield index["manifests"]
            self._replace(self.path / "index.json", canonical_json(index))

    def _replace(self, path: Path, data: bytes) -> None:
        with self.upload() as upload:
            upload.write(data)
            upload.rename_to(path)


class OciDirUpload:
    """A blob being written. Only its one writer may use it. A killed one is not gone on with: a disk is fast."""

    saved: Sequence[Checkpoint] = ()

    def __init__(self, fd: int, path: Path, blobs: Path) -> None:
        self._fd, self._path, self._blobs = fd, path, blobs
        self._size = 0

    def write(self, data: Bytes) -> None:
        write_all(self._fd, data, str(self._path))
        self._size += len(data)

    def save(self, _checkpoint: Checkpoint) -> None:
        """Nothing is kept."""

    def commit(self, digest: Digest) -> bool:
        """Put the blob in its place, durably. It replaces one that is there, which may have rotted."""
        final = self._blobs / digest.removeprefix("sha256:")
        with on_disk(str(final)):
            new = not final.exists() or final.stat().st_size != self._size
        self.rename_to(final)
        return new

    def rename_to(self, path: Path) -> None:
        """Flush what was written and rename it to `path`."""
        with on_disk(str(path)):
            os.fsync(self._fd)
            os.rename(self._path, path)
            sync_folder(path.parent)


def _load(path: Path, limit: int) -> dict[str, Any]:
    size = path.stat().st_size
    if size > limit:
        raise Invalid(str(path), why=f"it has {size} bytes; at most {limit} are read")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Invalid(str(path), why=f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Invalid(str(path), why="it is not a JSON object")
    return document


def _descriptor(item: Mapping[str, Any]) -> Descriptor:
    descriptor = _convert(item, Descriptor, "descriptor in index.json")
    parse_digest(descriptor.digest)
    return descriptor


def _convert(document: Mapping[str, Any], kind: type[Document], what: str) -> Document:
    try:
        return msgspec.convert(document, learned(kind))
    except msgspec.ValidationError as error:
        raise Invalid(what, why=str(error)) from error


def _tag_of(item: Mapping[str, Any]) -> str | None:
    return (item.get("annotations") or {}).get(media_types.REF_NAME)


def _untagged(item: Mapping[str, Any], manifest: Descriptor) -> bool:
    return item.get("digest") == manifest.digest and _tag_of(item) is None
