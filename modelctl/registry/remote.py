"""A store in a registry: one repository of an OCI distribution service.

Source: OCI distribution-spec v1.1.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from modelctl.core import media_types
from modelctl.core.errors import BadAnswer, Conflict, DigestMismatch, ModelctlError, NotFound, Unavailable
from modelctl.core.http import described, drain, read_limited
from modelctl.core.protocols import Blob, BytesBlob
from modelctl.core.retry import retrying
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest, digest_of, is_digest
from modelctl.registry.journal import open_journal
from modelctl.registry.referrers import (
    Entries,
    descriptors_in,
    enlist,
    fallback_tag,
    parse_list,
    referrer_of,
    render_list,
)
from modelctl.registry.transport import Transport
from modelctl.registry.upload import RemoteUpload

FIRST_WINDOW = 1 << 20
"""Bytes asked for at first; each range that follows on is eight times as long, so that a header costs a header."""

MAX_BREAKS = 20
"""So many times the connection of one blob may break."""

_MANIFESTS = (
    media_types.OCI_MANIFEST,
    media_types.OCI_INDEX,
    media_types.DOCKER_MANIFEST,
    media_types.DOCKER_INDEX,
)
_INDEXES = (media_types.OCI_INDEX, media_types.DOCKER_INDEX)
_BLOB_UNKNOWN = '"MANIFEST_BLOB_UNKNOWN"'
_MAX_PAGES = 10_000


class RemoteStore:
    """The repository `name` of a registry, as a `Store`. Thread-safe."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport, self.name = transport, name
        self._pull = f"repository:{name}:pull"
        self._push = f"repository:{name}:pull,push"

    def __str__(self) -> str:
        return f"{self.transport.registry}/{self.name}"

    def has(self, descriptor: Descriptor) -> bool:
        """Ask whether the registry has a blob; `DigestMismatch` when it has it with another size."""
        try:
            what = f"blob {descriptor.digest} in {self.name}"
            response = self._ask("HEAD", self._blob_path(descriptor.digest), what=what)
        except NotFound:
            return False
        drain(response)
        self._check_size(descriptor, response, response.headers.get("Content-Length", "*"))
        return True

    def open(self, descriptor: Descriptor) -> Blob:
        """Open a blob or a manifest. Whether it is there shows at the first read."""
        if descriptor.media_type in _MANIFESTS:
            return BytesBlob(self._manifest(descriptor.digest, descriptor.size))
        return RemoteBlob(self, descriptor)

    def get_range(self, descriptor: Descriptor, offset: int, length: int) -> urllib3.BaseHTTPResponse:
        """Start to read a range of a blob; from its beginning the registry may answer with the whole of it.

        Raises:
            DigestMismatch: The blob has another size. BadAnswer: The registry answers with another range.
        """
        digest = descriptor.digest
        response = self.transport.request(
            "GET",
            self._blob_path(digest),
            scope=self._pull,
            expect=(200, 206),
            headers={"Range": f"bytes={offset}-{offset + length - 1}"},
            what=f"blob {digest} in {self.name}",
        )
        if response.status == 206:
            found = re.fullmatch(
                r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", "")
            )
            self._check_size(descriptor, response, found[3] if found else "*")
            if not found or (int(found[1]), int(found[2])) != (offset, offset + length - 1):
                response.close()
                raise BadAnswer(
                    f"blob {digest} in {self}",
                    why=f"asked for bytes {offset}-{offset + length - 1}, it answered "
                    f"{response.headers.get('Content-Range', 'no Content-Range')[:100]!r}",
                )
        elif offset:
            response.close()
            raise BadAnswer(f"blob {digest} in {self}", why="the registry does not read ranges: it answered 200 to one")
        else:
            self._check_size(descriptor, response, response.headers.get("Content-Length", "*"))
        return response

    def _check_size(self, descriptor: Descriptor, response: urllib3.BaseHTTPResponse, size: str) -> None:
        if size not in ("*", str(descriptor.size)):
            response.close()
            raise DigestMismatch(
                f"blob {descriptor.digest} in {self}", why=f"it has {size} bytes; its descriptor says {descriptor.size}"
            )

    def resolve(self, name: str) -> Descriptor:
        """Return the manifest that a tag or digest names; no name is `latest`."""
        what = f"manifest {name or 'latest'} in {self.name}"
        try:
            response = self._ask("HEAD", self._manifest_path(name or "latest"), what=what)
        except NotFound as error:
            error.hint = f"modelctl ls {self}"
            raise
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        digest, size = response.headers.get("Docker-Content-Digest", ""), response.headers.get("Content-Length", "")
        drain(response)
        if not digest or not re.fullmatch("[0-9]{1,18}", size):
            raw, media_type = self._get_manifest(name or "latest")
            digest, size = digest_of(raw), str(len(raw))
        if name.startswith("sha256:") and digest != name:
            raise DigestMismatch(f"manifest {name} in {self}", why=f"the registry says it is {digest[:100]}")
        if not is_digest(digest):
            why = f"its Docker-Content-Digest is {digest[:100]!r}; expected sha256:<64 lower-case hex digits>"
            raise BadAnswer(f"manifest {name or 'latest'} in {self}", why=why)
        return Descriptor(media_type=media_type or media_types.OCI_MANIFEST, digest=Digest(digest), size=int(size))

    def tags(self) -> list[str]:
        """Return the names of all tags, following pages."""
        found: list[str] = []
        for page in self._pages(f"/v2/{self.name}/tags/list?n=1000", f"tags of {self}"):
            found += _tag_names(page, str(self))
        return found

    def _pages(self, path: str, what: str) -> Iterator[bytes]:
        """Read a list page by page."""
        url: str | None = path
        for _ in range(_MAX_PAGES):
            if not url:
                return
            data, headers = self._read(url, what=what)
            yield data
            following = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', headers.get("Link", ""))
            url = self._next_page(url, following[1], what) if following else None
        raise BadAnswer(what, why=f"they have more than {_MAX_PAGES} pages")

    def _next_page(self, url: str, place: str, what: str) -> str:
        target = self.transport.joined(self.transport.url(url), place, what)
        if not self.transport.is_own(target):
            raise BadAnswer(what, why="the next page is at another place")
        return target

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests that name `subject`: as the registry lists them, or as clients do where it does not.

        Raises:
            BadAnswer: What clients keep under the tag is not a list, or a later page is not.
        """
        what = f"referrers of {subject} in {self}"
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        pages = self._pages(f"/v2/{self.name}/referrers/{subject}{query}", what)
        try:
            found = parse_list(next(pages), what)
        except (NotFound, BadAnswer):
            return descriptors_in(self._listed(subject), artifact_type, what)
        for page in pages:
            found |= parse_list(page, what)
        return descriptors_in(found, artifact_type, what)

    def _listed(self, subject: Digest) -> Entries:
        """Return the list of a subject's referrers that clients keep; empty when there is none."""
        tag = fallback_tag(subject)
        try:
            raw, _ = self._get_manifest(tag)
        except NotFound:
            return {}
        return parse_list(raw, f"{self}:{tag}")

    def _write_list(self, subject: Digest, entries: Entries, tries: int = 3) -> Entries:
        """Replace that list; return it less what is gone, where a registry takes no index that names it.

        distribution 2.8 does not know, for a moment, a manifest that another writer puts again; so it is asked again.
        """
        raw = render_list(entries)
        index = Descriptor(media_type=media_types.OCI_INDEX, digest=digest_of(raw), size=len(raw))
        try:
            self._put(index, raw, fallback_tag(subject))
        except BadAnswer:
            if tries == 1:
                raise
            there = {digest: entry for digest, entry in entries.items() if self._has_manifest(digest)}
            return self._write_list(subject, there, tries - 1)
        return entries

    def _has_manifest(self, digest: str) -> bool:
        try:
            drain(self._ask("HEAD", self._manifest_path(digest)))
        except NotFound:
            return False
        return True

    def put_manifest(self, manifest: Descriptor, raw: bytes) -> None:
        """Keep a manifest under its digest, and in its subject's list of referrers where the registry keeps none.

        Raises:
            DigestMismatch: Something else was stored. Conflict: Other writers replaced the list again and again.
        """
        response = self._put(manifest, raw, manifest.digest)
        referrer = referrer_of(manifest, raw)
        if referrer and "OCI-Subject" not in response.headers:
            subject, descriptor = referrer
            enlist(
                descriptor,
                lambda: self._listed(subject),
                lambda entries: self._write_list(subject, entries),
                f"referrers of {subject} in {self}",
            )

    def _put(self, manifest: Descriptor, raw: bytes, name: str) -> urllib3.BaseHTTPResponse:
        """Store a manifest under its digest or a tag, atomically; return the answer, read to its end.

        A registry that does not know a blob is asked again: distribution 2.8 does not, for a moment, know one that
        another client puts too (measured: 2 of 60 times that two pushed the same to three registries). An index
        is not: what it names may be gone.

        Raises:
            DigestMismatch: The registry stored something else.
        """

        def put() -> urllib3.BaseHTTPResponse:
            try:
                return self.transport.request(
                    "PUT",
                    self._manifest_path(name),
                    scope=self._push,
                    expect=(201,),
                    headers={"Content-Type": manifest.media_type},
                    body=raw,
                    what=f"manifest {name} in {self.name}",
                )
            except (BadAnswer, NotFound) as error:
                if _BLOB_UNKNOWN in error.why and manifest.media_type not in _INDEXES:
                    raise Unavailable(error.what, why=error.why) from error
                raise

        response = retrying(put)
        stored = response.headers.get("Docker-Content-Digest", manifest.digest)
        drain(response)
        if stored != manifest.digest:
            raise DigestMismatch(f"manifest {name} in {self}", why=f"it was stored as {stored[:100]}")
        return response

    def tag(self, manifest: Descriptor, name: str) -> None:
        """Point `name` at a manifest that is here."""
        self._put(manifest, self._manifest(manifest.digest, manifest.size), name)

    def untag(self, name: str) -> list[str]:
        """Forget a tag, or a manifest with all its tags.

        Not every registry can forget a tag alone: where it cannot, the manifest is deleted when no other tag names it.

        Raises:
            Conflict: Other tags name it. BadAnswer: The registry deletes nothing.
        """
        if name.startswith("sha256:"):
            gone = [tag for tag in self.tags() if self.resolve(tag).digest == name]
            self._delete_manifest(Digest(name))
            return gone
        digest = self.resolve(name).digest
        try:
            self._delete(name)
        except BadAnswer:
            others = [tag for tag in self.tags() if tag != name and self.resolve(tag).digest == digest]
            if others:
                self._check_deletes()
                raise Conflict(
                    f"{self}:{name}",
                    why=f"the registry cannot forget a tag alone, and {', '.join(others[:5])} name {digest} too",
                    hint="remove the manifest with all its tags: the same command with --digest",
                ) from None
            self._delete_manifest(digest)
        return [name]

    def _delete_manifest(self, digest: Digest) -> None:
        """Delete a manifest, and its entry in a list that clients keep."""
        raw, media_type = self._get_manifest(digest)
        self._delete(digest)
        referrer = referrer_of(Descriptor(media_type=media_type, digest=digest, size=len(raw)), raw)
        listed = self._listed(referrer.subject) if referrer else {}
        if referrer and listed.pop(digest, None):
            self._write_list(referrer.subject, listed)

    def _check_deletes(self) -> None:
        """Delete what cannot be there: `BadAnswer` when the registry says that it deletes no manifests."""
        self._delete("sha256:" + "0" * 64, expect=(202, 400, 404))

    def _delete(self, name: str, expect: tuple[int, ...] = (202,)) -> None:
        path, scope = self._manifest_path(name), f"repository:{self.name}:pull,delete"
        response = self._ask("DELETE", path, expect=(*expect, 405), scope=scope, what=f"manifest {name} in {self.name}")
        drain(response)
        if response.status == 405:
            raise BadAnswer(
                str(self),
                why="deleting is switched off in this registry: it answered 405",
                hint="have it switched on (distribution: storage.delete.enabled), or use the registry's own means",
            )

    def mount(self, descriptor: Descriptor, origin: str) -> bool:
        """Take a blob over from the repository `origin` of the same registry; say whether that worked."""
        path = f"/v2/{self.name}/blobs/uploads/?{urlencode({'mount': descriptor.digest, 'from': origin})}"
        scope = f"{self._push} repository:{origin}:pull"
        what = f"mount of blob {descriptor.digest} from {origin} in {self.name}"
        response = retrying(lambda: self.transport.request("POST", path, scope=scope, expect=(201, 202), what=what))
        drain(response)
        if response.status == 202:
            self._cancel(response.headers.get("Location", ""))
        return response.status == 201

    def try_pull(self) -> None:
        """Prove the right to read: ask for one tag. `NotFound` where there is no such repository."""
        drain(self._ask("GET", f"/v2/{self.name}/tags/list?n=1", what=f"tags of {self}"))

    def try_push(self) -> None:
        """Prove the right to write: open an upload and give it up. `Denied`, or `NotFound` where a push makes none."""
        path, what = f"/v2/{self.name}/blobs/uploads/", f"upload to {self.name}"
        response = retrying(
            lambda: self.transport.request("POST", path, scope=self._push, expect=(202,), body=b"", what=what)
        )
        drain(response)
        self._cancel(response.headers.get("Location", ""))

    def _cancel(self, location: str) -> None:
        """Give up an upload; one that can't be given up ends by itself some day."""
        with suppress(ModelctlError):
            drain(self.transport.request("DELETE", location, scope=self._push, expect=(202, 204, 404, 405)))

    @contextmanager
    def upload(self, blob: Blob, name: str = "", /) -> Iterator[RemoteUpload]:
        """Start to send `blob`, which is read again where the registry lost something.

        With a `name` for its bytes, an upload that was killed is gone on with.
        """
        with ExitStack() as stack:
            journal = stack.enter_context(open_journal(f"{self} {name}")) if name else None
            what = f"upload of blob {name} to {self.name}" if is_digest(name) else f"upload to {self.name}"
            upload = RemoteUpload(self.transport, self.name, self._push, blob, journal, what=what)
            stack.callback(upload.close)
            yield upload

    def _ask(
        self, method: str, path: str, *, what: str = "", expect: tuple[int, ...] = (200,), scope: str = ""
    ) -> urllib3.BaseHTTPResponse:
        return retrying(
            lambda: self.transport.request(
                method, path, scope=scope or self._pull, expect=expect, headers=_accept(path), what=what
            )
        )

    def _read(self, path: str, *, what: str) -> tuple[bytes, Mapping[str, str]]:
        """Return a document and the headers that it came with."""

        def get() -> tuple[bytes, Mapping[str, str]]:
            response = self.transport.request("GET", path, scope=self._pull, headers=_accept(path), what=what)
            return read_limited(response, self.transport.named(what), MAX_DOCUMENT_SIZE), response.headers

        return retrying(get)

    def _manifest(self, digest: Digest, size: int) -> bytes:
        raw, _ = self._get_manifest(digest)
        if digest_of(raw) != digest:
            raise DigestMismatch(
                f"manifest {digest} in {self}", why=f"{len(raw)} bytes, {size} expected, hash to {digest_of(raw)}"
            )
        return raw

    def _get_manifest(self, name: str) -> tuple[bytes, str]:
        raw, headers = self._read(self._manifest_path(name), what=f"manifest {name} in {self.name}")
        return raw, headers.get("Content-Type", "").partition(";")[0].strip()

    def _blob_path(self, digest: Digest) -> str:
        return f"/v2/{self.name}/blobs/{digest}"

    def _manifest_path(self, name: str) -> str:
        return f"/v2/{self.name}/manifests/{name}"


def _accept(path: str) -> dict[str, str]:
    if "/referrers/" in path:
        return {"Accept": media_types.OCI_INDEX}
    return {"Accept": ", ".join(_MANIFESTS)} if "/manifests/" in path else {}


def _tag_names(data: bytes, where: str) -> list[str]:
    try:
        document: Any = json.loads(data)
        tags = document.get("tags") or []
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadAnswer(f"tags of {where}", why="not a list of tags") from error
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise BadAnswer(f"tags of {where}", why="not a list of tags")
    return tags


class RemoteBlob:
    """A blob in a registry, read by ranges. One that is read on from where it was costs few requests.

    Thread-safe, one reader at a time: who reads a blob in several places at once opens it several times.
    """

    def __init__(self, store: RemoteStore, descriptor: Descriptor) -> None:
        self._store, self._descriptor = store, descriptor
        self.size = descriptor.size
        self._lock = threading.Lock()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._position = self._end = 0
        self._window = FIRST_WINDOW
        self._breaks = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`, going on after a connection that broke.

        Raises:
            DigestMismatch: The blob ends before that, or is not of the size that its descriptor says.
            NotFound, Denied, Unavailable, BadAnswer: As `Transport.request`.
        """
        if offset + len(buffer) > self.size:
            raise DigestMismatch(
                f"blob {self._descriptor.digest} in {self._store}",
                why=f"it has {self.size} bytes; {offset + len(buffer)} were expected",
            )
        with self._lock:
            if offset != self._position:
                self._drop()
                self._position, self._window = offset, max(FIRST_WINDOW, len(buffer))
            filled = 0
            while filled < len(buffer):
                filled += retrying(lambda: self._read(buffer[filled:]))  # noqa: B023

    def _read(self, buffer: memoryview) -> int:
        """Read some bytes at the position: at least one."""
        response = self._response
        if response is None or self._position == self._end:
            response = self._open(len(buffer))
        try:
            count = response.readinto(buffer[: self._end - self._position])
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise self._broke(described(error)) from error
        if not count:
            raise self._broke("the answer ended")
        self._position += count
        return int(count)

    def _broke(self, why: str) -> Unavailable:
        """Count a break: a blob that comes in crumbs is given up after `MAX_BREAKS`, and one more for each 64 MiB."""
        self._drop()
        self._breaks += 1
        error = BadAnswer if self._breaks > MAX_BREAKS + self._position // (64 << 20) else Unavailable
        return error(f"blob {self._descriptor.digest} in {self._store}", why=f"at byte {self._position}: {why}")

    def _open(self, needed: int) -> urllib3.BaseHTTPResponse:
        self._drop()
        length = min(max(self._window, needed), self.size - self._position)
        self._response = self._store.get_range(self._descriptor, self._position, length)
        self._end = self._position + length if self._response.status == 206 else self.size
        self._window *= 8
        return self._response

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def close(self) -> None:
        self._drop()
