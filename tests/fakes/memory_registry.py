"""A registry in memory that knows referrers, as those from apt and Go do not: one repository, whatever it is called.

Source: OCI distribution-spec v1.1.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from modelctl.core.media_types import OCI_INDEX, OCI_MANIFEST
from modelctl.core.types import Descriptor, canonical_json, digest_of
from modelctl.registry.referrers import referrer_of
from tests.fakes.serving import serving


@dataclass
class MemoryRegistry:
    """What the registry holds, how it answers, and what it was asked.

    Without `api` it leaves lists of referrers to its clients. `page` is how many referrers it names at once, all when
    0; `filters` says whether it heeds `artifactType`; `answer` is what it says of referrers instead. `overtaken_by`
    are lists that other writers put over one right after it was written. `ahead_s` is how far its clock is
    ahead of ours [s].
    """

    api: bool = True
    page: int = 0
    filters: bool = True
    answer: bytes | None = None
    overtaken_by: list[bytes] = field(default_factory=list)
    ahead_s: float = 0.0
    host: str = ""
    requests: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, name: str, media_type: str, raw: bytes) -> str:
        """Keep a manifest under its digest and, when `name` is one, a tag; return the digest."""
        digest = digest_of(raw)
        self.manifests[digest] = media_type, raw
        if name != digest:
            self.tags[name] = digest
        return digest

    def put_list(self, subject: str, *entries: dict[str, object]) -> None:
        """Write a list of referrers as another client does."""
        self.put(subject.replace(":", "-"), OCI_INDEX, index_of(*entries))

    def referrers(self, subject: str, artifact_type: str) -> list[dict[str, object]]:
        found = []
        for _, (media_type, raw) in sorted(self.manifests.items()):
            named = referrer_of(Descriptor(media_type=media_type, digest=digest_of(raw), size=len(raw)), raw)
            if named and named.subject == subject and artifact_type in ("", named.descriptor.artifact_type):
                item = named.descriptor
                found.append(
                    {
                        "mediaType": item.media_type,
                        "digest": item.digest,
                        "size": item.size,
                        "artifactType": item.artifact_type,
                        "annotations": dict(item.annotations),
                    }
                )
        return found


def index_of(*entries: dict[str, object]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up."""


@contextmanager
def memory_registry(**options: object) -> Iterator[MemoryRegistry]:
    """Serve an empty registry on loopback until the `with` ends."""
    registry = MemoryRegistry(**options)  # type: ignore[arg-type]
    listener = _Listener(("127.0.0.1", 0), _handler(registry))
    registry.host = f"127.0.0.1:{listener.server_port}"
    with serving(listener):
        yield registry


def _handler(served: MemoryRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        registry = served

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: MemoryRegistry

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        with self.registry.lock:
            self.registry.requests.append(f"{self.command} {self.path}")
            for pattern, serve in self._routes().items():
                found = re.fullmatch(f"/v2/.+/{pattern}", place.path)
                if found:
                    serve(found[1], query, body)
                    return
            self._answer(200 if place.path == "/v2/" else 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _routes(self) -> dict[str, Callable[[str, dict[str, str], bytes], None]]:
        return {
            "blobs/uploads/(.*)": self._upload,
            "blobs/(.+)": self._blob,
            "manifests/(.+)": self._manifest,
            "tags/(list)": self._tags,
            "referrers/(.+)": self._referrers,
        }

    def _upload(self, name: str, query: dict[str, str], body: bytes) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            name = str(len(self.registry.requests))
            uploads[name] = b""
        elif name not in uploads:
            self._answer(404)
            return
        data = uploads[name] = uploads[name] + body
        headers = {"Location": f"/v2/any/blobs/uploads/{name}", "Range": f"0-{max(len(data) - 1, 0)}"}
        if self.command in ("PUT", "DELETE"):
            del uploads[name]
        if self.command == "PUT" and digest_of(data) == query["digest"]:
            self.registry.blobs[query["digest"]] = data
            self._answer(201)
        elif self.command == "PUT":
            self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
        else:
            self._answer(204 if self.command in ("GET", "DELETE") else 202, headers=headers)

    def _blob(self, digest: str, _query: dict[str, str], _body: bytes) -> None:
        data = self.registry.blobs.get(digest)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if data is None:
            self._answer(404)
        elif wanted:
            first, last = int(wanted[1]), int(wanted[2])
            self._answer(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
        else:
            self._answer(200, data)

    def _manifest(self, name: str, _query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        if self.command == "PUT":
            media_type = self.headers.get("Content-Type", OCI_MANIFEST)
            digest = registry.put(name, media_type, body)
            if name in registry.tags and name.startswith("sha256-") and registry.overtaken_by:
                registry.put(name, OCI_INDEX, registry.overtaken_by.pop(0))
            named = referrer_of(Descriptor(media_type=media_type, digest=digest_of(body), size=len(body)), body)
            subject = {"OCI-Subject": named.subject} if named and registry.api else {}
            self._answer(201, headers={"Docker-Content-Digest": digest, **subject})
            return
        digest = registry.tags.get(name, name)
        if digest not in registry.manifests:
            self._answer(404)
        elif self.command == "DELETE":
            registry.tags = {tag: to for tag, to in registry.tags.items() if name not in (tag, to)}
            registry.manifests.pop(name, None)
            self._answer(202)
        else:
            media_type, raw = registry.manifests[digest]
            self._answer(200, raw, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def _tags(self, _name: str, _query: dict[str, str], _body: bytes) -> None:
        self._answer(200, json.dumps({"tags": sorted(self.registry.tags)}).encode())

    def _referrers(self, subject: str, query: dict[str, str], _body: bytes) -> None:
        registry = self.registry
        if registry.answer is not None:
            self._answer(200, registry.answer)
            return
        if not registry.api:
            self._answer(404)
            return
        found = registry.referrers(subject, query.get("artifactType", "") if registry.filters else "")
        start = int(query.get("start", "0"))
        end = start + registry.page if registry.page else len(found)
        more = {"Link": f'</v2/any/referrers/{subject}?start={end}>; rel="next"'} if end < len(found) else {}
        self._answer(200, index_of(*found[start:end]), {"Content-Type": OCI_INDEX, **more})

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(timestamp or time.time() + self.registry.ahead_s)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
