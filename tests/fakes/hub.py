"""What hubs share: files in commits, and another host that keeps the large ones and must not learn who asks."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.fakes.serving import serving

LFS_SIZE = 1000
"""Files of so many bytes or more are kept by LFS."""


@dataclass(frozen=True)
class File:
    """One file of a commit, as git and LFS name it."""

    data: bytes

    @property
    def lfs(self) -> bool:
        return len(self.data) >= LFS_SIZE

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git keeps of a file that LFS has. Source: git-lfs, docs/spec.md."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @functools.cached_property
    def oid(self) -> str:
        """The id of git's blob: the SHA-1 of its header and bytes."""
        kept = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()


@dataclass
class Repository:
    """`commits` are {id: {path: file}}, `refs` {branch or tag: id}. Of a private one nobody learns that it is there."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str) -> str:
        """Put `files`, and no others, on a branch; return the commit's id."""
        tree = {path: File(data) for path, data in files.items()}
        what = repr([self.refs.get(branch), [(path, file.oid) for path, file in tree.items()]])
        name = hashlib.sha1(what.encode("utf-8", "surrogatepass")).hexdigest()
        self.commits[name] = tree
        self.refs[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        found = self.refs.get(revision, revision)
        return found if found in self.commits else None


class Request(NamedTuple):
    """A request that came; the names of `headers` are lower case."""

    line: str
    headers: dict[str, str]


class Listener(ThreadingHTTPServer):
    """A server whose requests `seen` shows to `app`; each takes `latency_s` longer [s]."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count: Callable[[int], None]
    """Is told the size of each piece of a file that is sent."""

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"} | dict(headers or {}))

    def answer_range(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Answer with the range that was asked for, or all. Source: RFC 9110, 14."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            self.count(len(data))
            self.answer(200, data, {"Accept-Ranges": "bytes"} | dict(headers))
            return
        start, end = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        if start > end:
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        self.count(end + 1 - start)
        said = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        self.answer(206, data[start : end + 1], said | dict(headers))

    def seen(self) -> Request:
        return Request(f"{self.command} {self.path}", {name.lower(): value for name, value in self.headers.items()})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(handler: type[Handler], host: str = "127.0.0.1") -> Iterator[str]:
    """Run a server on loopback until the `with` ends; yield its URL, in which it is called `host`."""
    listener = Listener(("127.0.0.1", 0), handler)
    with serving(listener):
        yield f"http://{host}:{listener.server_port}"


@dataclass
class Cdn:
    """`contents` are {name: bytes}. A signed URL is good for `uses` requests, and until all are made to `expire`.

    `sent` counts the bytes of files that it and its hub sent.
    """

    url: str = ""
    contents: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    uses: int = 1 << 30
    latency_s: float = 0.0
    signed: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, file: File) -> str:
        """Keep a file, unless something is under its name; return a URL that opens it."""
        self.contents.setdefault(file.sha256, file.data)
        with self.lock:
            signature = f"sig{next(_SIGNATURES)}"
            self.signed[signature] = self.uses
        return f"{self.url}/{file.sha256}?Expires=1&Signature={signature}"

    def count(self, size: int) -> None:
        with self.lock:
            self.sent += size

    def expire(self) -> None:
        with self.lock:
            self.signed.clear()

    def use(self, signature: str) -> bool:
        """Say whether a signature is still good; it was used once more."""
        with self.lock:
            left = self.signed.get(signature, 0)
            self.signed[signature] = left - 1
            return left > 0


_SIGNATURES = itertools.count(1)


@contextmanager
def content_network() -> Iterator[Cdn]:
    """Run the host that keeps the large files. It is not the hub's, hence another name."""
    cdn = Cdn()
    handler = type("CdnHandler", (_CdnHandler,), {"cdn": cdn, "count": staticmethod(cdn.count)})
    with served(handler, "localhost") as cdn.url:
        yield cdn


class _CdnHandler(Handler):
    cdn: Cdn

    def do_GET(self) -> None:
        self.cdn.requests.append(self.seen())
        time.sleep(self.cdn.latency_s)
        place = urlsplit(self.path)
        signature = parse_qs(place.query).get("Signature", [""])[0]
        if "Authorization" in self.headers or "Cookie" in self.headers:
            self.answer(400, b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message>")
        elif not self.cdn.use(signature):
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        elif place.path[1:] not in self.cdn.contents:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            data = self.cdn.contents[place.path[1:]]
            self.answer_range(data, {"ETag": f'"{place.path[1:]}"', "Content-Type": "binary/octet-stream"})

    do_HEAD = do_GET
