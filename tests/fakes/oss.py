"""A small OSS: buckets in memory, whose requests are really checked, and what happens to them on bad days.

Written from OSS's documentation ("ListObjects", "ListObjectsV2", "GetObject", "Error responses"), not from its SDK.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from fastcrc import crc64

from tests.fakes.oss_signatures import Asked, Key, Refused, check
from tests.fakes.serving import serving

KEY_ID, SECRET = "LTAI-test-key", "a-secret-of-a-key"

PIECE = 64 << 10


@dataclass(frozen=True)
class Object:
    """An object; `crc64` is computed once, as OSS does when it is put."""

    data: bytes
    etag: str
    crc64: int
    kind: str = "Normal"
    storage: str = "Standard"


@dataclass
class Fault:
    """Strikes requests whose "METHOD /path?query RANGE" has `pattern`: `skip` of them pass, then `times` are struck."""

    pattern: str = ""
    status: int = 0
    """Answer with it, `code` and `headers`."""
    code: str = "InternalError"
    message: str = "told to"
    headers: dict[str, str] = field(default_factory=dict)
    extra: str = ""
    """More of the error's XML."""
    cut: int | None = None
    """Hang up after so many bytes of the body."""
    stall: int | None = None
    """Send nothing more after so many bytes of the body, until the client hangs up."""
    before: Callable[[], object] | None = None
    """Is done before the request is answered, as it would have been."""
    skip: int = 0
    times: int = 1


@dataclass
class Oss:
    """What the service has and saw.

    `requests` are "METHOD /path?query", `hosts` the Host of each; `versions` those of the signatures that were good,
    0 for none. `sent` counts body bytes of objects, `busiest` is the most requests that were served at once.
    `latency_s` is waited before each answer, `bandwidth` [bytes/s] is a connection's. A bucket in
    `public` may be read by strangers.
    """

    url: str = ""
    buckets: dict[str, dict[str, Object]] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=lambda: {KEY_ID: Key(SECRET)})
    public: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    latency_s: float = 0.0
    bandwidth: float = 0.0
    requests: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    sent: int = 0
    serving: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, bucket: str, key: str, data: bytes, *, kind: str = "Normal", storage: str = "Standard") -> None:
        etag = hashlib.md5(data).hexdigest().upper()
        self.buckets.setdefault(bucket, {})[key] = Object(data, etag, crc64.xz(data), kind, storage)

    def gets(self) -> list[str]:
        """The GETs of objects so far."""
        return [line for line in self.requests if line.startswith("GET") and "list-type" not in line]

    def fault_for(self, line: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.pattern in line and (fault.skip or fault.times):
                    if not fault.skip:
                        fault.times -= 1
                        return fault
                    fault.skip -= 1
        return Fault()


@contextmanager
def oss(**options: object) -> Iterator[Oss]:
    """Serve OSS on loopback until the `with` ends. A Host that is an IP address is path style, any other a bucket's."""
    server = Oss(**options)  # type: ignore[arg-type]
    listener = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"oss": server}))
    server.url = f"http://127.0.0.1:{listener.server_port}"
    with serving(listener):
        yield server


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    oss: Oss

    def _serve(self) -> None:
        with self.oss.lock:
            self.oss.serving += 1
            self.oss.busiest = max(self.oss.busiest, self.oss.serving)
        try:
            self._serve_one()
        finally:
            with self.oss.lock:
                self.oss.serving -= 1

    def _serve_one(self) -> None:
        place = urlsplit(self.path)
        self._query = dict(parse_qsl(place.query, keep_blank_values=True))
        self._bucket, self._key = self._target(place.path)
        line = f"{self.command} {self.path}"
        with self.oss.lock:
            self.oss.requests.append(line)
            self.oss.hosts.append(self.headers.get("Host", ""))
        self._fault = self.oss.fault_for(f"{line} {self.headers.get('Range', '')}")
        time.sleep(self.oss.latency_s)
        try:
            self._strike()
            headers = {name.lower(): value.strip() for name, value in self.headers.items()}
            asked = Asked(self.command, self._bucket, self._key, self._query, headers)
            version = check(self.oss.keys, asked, public=self._bucket in self.oss.public)
            with self.oss.lock:
                self.oss.versions.append(version)
            self._answer()
        except Refused as error:
            self._refuse(error)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = _serve

    def _strike(self) -> None:
        if self._fault.before:
            self._fault.before()
        if self._fault.status:
            raise Refused(self._fault.status, self._fault.code, self._fault.message, self._fault.extra)

    def _target(self, path: str) -> tuple[str, str]:
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host", "")
        name = unquote(path[1:])
        with suppress(ValueError):
            ipaddress.ip_address(host)
            bucket, _, name = name.partition("/")
            return bucket, name
        return host.partition(".")[0], name

    def _answer(self) -> None:
        if self._bucket not in self.oss.buckets:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        objects = self.oss.buckets[self._bucket]
        if not self._key:
            self._send(200, {"Content-Type": "application/xml"}, render_list(self._bucket, objects, self._query))
            return
        if self._key not in objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        found = objects[self._key]
        wanted = self.headers.get("If-Match")
        if wanted is not None and wanted.strip('"') != found.etag:
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        if found.storage != "Standard" and self.command == "GET":
            raise Refused(403, "InvalidObjectState", "The operation is not valid for the object's state")
        self._send_object(found)

    def _send_object(self, found: Object) -> None:
        headers = {
            "ETag": f'"{found.etag}"',
            "x-oss-hash-crc64ecma": str(found.crc64),
            "x-oss-object-type": found.kind,
            "x-oss-storage-class": found.storage,
            "Accept-Ranges": "bytes",
            "Last-Modified": "Fri, 24 Feb 2026 06:07:48 GMT",
        }
        size = len(found.data)
        standard = self.headers.get("x-oss-range-behavior") == "standard"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or self.command == "HEAD":
            self._send(200, headers, found.data)
            return
        first, last = int(asked[1]), int(asked[2] or size - 1)
        if first >= size and standard:
            raise Refused(416, "InvalidRange", "The requested range cannot be satisfied")
        if last >= size and not standard:
            self._send(200, headers, found.data)
            return
        last = min(last, size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._send(206, headers, memoryview(found.data)[first : last + 1])

    def _refuse(self, error: Refused) -> None:
        body = (
            f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{error.code}</Code>"
            f"<Message>{escape(error.message)}</Message><RequestId>{uuid.uuid4().hex.upper()}</RequestId>"
            f"<HostId>{escape(self.headers.get('Host', ''))}</HostId>{error.extra}</Error>"
        ).encode()
        headers = {"Content-Type": "application/xml", **self._fault.headers}
        if self.command == "HEAD":
            headers["x-oss-err"], body = base64.b64encode(body).decode(), b""
        with suppress(OSError):
            self._send(error.status, headers, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes | memoryview) -> None:
        self.send_response_only(status)
        always = {"x-oss-request-id": uuid.uuid4().hex.upper(), "Content-Length": str(len(body))}
        for name, value in (always | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(memoryview(body), counted="ETag" in headers)

    def _send_body(self, body: memoryview, *, counted: bool) -> None:
        begun, position = time.monotonic(), 0
        ends = [at for at in (self._fault.cut, self._fault.stall) if at is not None]
        end = min([*ends, len(body)])
        step = PIECE if self.oss.bandwidth else 16 * PIECE
        while position < end:
            piece = body[position : min(position + step, end)]
            position += len(piece)
            with self.oss.lock:
                self.oss.sent += len(piece) if counted else 0
            self.connection.sendall(piece)
            if self.oss.bandwidth:
                time.sleep(max(0.0, begun + position / self.oss.bandwidth - time.monotonic()))
        if end < len(body) or ends:
            if self._fault.stall is not None:
                hung_up = select.poll()
                hung_up.register(self.connection, select.POLLRDHUP)
                hung_up.poll(60_000)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def render_list(bucket: str, objects: dict[str, Object], query: dict[str, str]) -> bytes:
    """Answer ListObjects or ListObjectsV2: a page of at most `max-keys` keys and prefixes, in order of UTF-8 bytes."""
    second = query.get("list-type") == "2"
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token = query.get("continuation-token", "") if second else ""
    after = base64.b64decode(token).decode() if token else query.get("start-after" if second else "marker", "")
    limit = int(query.get("max-keys") or 100)
    if not 1 <= limit <= 1000:
        raise Refused(400, "InvalidArgument", "max-keys is out of range")

    def named(name: str) -> str:
        return quote(name, safe="") if query.get("encoding-type") == "url" else escape(name)

    def group_of(key: str) -> str:
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        return key[: at + len(delimiter)] if at >= 0 else ""

    seen: dict[str, str] = {}
    for key in sorted(objects, key=str.encode):
        if key.startswith(prefix):
            group = group_of(key)
            if (group or key).encode() > after.encode():
                seen.setdefault(group or key, "" if group else key)
    names = list(seen)
    page, more = names[:limit], len(names) > limit
    rows = []
    for name in page:
        found = objects.get(seen[name])
        rows.append(
            f"<Contents><Key>{named(name)}</Key><LastModified>2026-02-24T06:07:48.000Z</LastModified>"
            f'<ETag>"{found.etag}"</ETag><Type>{found.kind}</Type><Size>{len(found.data)}</Size>'
            f"<StorageClass>{found.storage}</StorageClass></Contents>"
            if found
            else f"<CommonPrefixes><Prefix>{named(name)}</Prefix></CommonPrefixes>"
        )
    following = ""
    if more:
        mark = base64.b64encode(page[-1].encode()).decode() if second else named(page[-1])
        kind = "NextContinuationToken" if second else "NextMarker"
        following = (
            f"<{kind}>{mark if not second else quote(mark, safe='')}</{kind}>"
            if query.get("encoding-type")
            else (f"<{kind}>{mark}</{kind}>")
        )
    encoding = f"<EncodingType>{query['encoding-type']}</EncodingType>" if query.get("encoding-type") else ""
    return (
        f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>{bucket}</Name><Prefix>{named(prefix)}</Prefix>"
        f"<MaxKeys>{limit}</MaxKeys>{encoding}<IsTruncated>{str(more).lower()}</IsTruncated>{following}"
        f"<KeyCount>{len(page)}</KeyCount>{''.join(rows)}</ListBucketResult>"
    ).encode()
