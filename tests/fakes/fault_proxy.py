"""A proxy before a registry that does to chosen requests what networks and registries do on bad days.

It passes everything through as it is, and counts; a `Fault` says which requests are struck, how often, and how.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from tests.fakes.serving import serving

PIECE = 16 << 10

Kind = Literal[
    "cut-request",  # after `at` bytes of the request's body, both connections break
    "cut-answer",  # after `at` bytes of the answer's body, the client's connection breaks
    "no-answer",  # the work is done and the answer never sent; the client's connection breaks
    "stall",  # after `at` bytes of the answer's body nothing more comes, until the client gives up
    "hold-request",  # after `at` bytes of the request's body no more of it is taken, until `let_go` is set
    "stall-request",  # after `at` bytes of the request's body no more of it is taken, until the client gives up
    "status",  # `status` with `headers` and `body` at once, the registry sees nothing
    "lose-upload",  # the registry forgets the upload that the request is about, then sees the request
    "less",  # the answer to the status of an upload says half of what there is
    "wrong-byte",  # byte `at` of the answer's body is another
    "short",  # the answer says `at` bytes less, and has them less
    "endless",  # the answer's body has no end
    "wrong-range",  # the answer's Content-Range starts elsewhere
    "whole",  # a range request is answered with 200 and all of it, as who does not know ranges does
    "redirect",  # 307 to `headers["Location"]`
]


@dataclass
class Fault:
    """Strike requests whose "METHOD path" matches `match`: the `skip` first pass, then `times` are struck."""

    match: str
    kind: Kind
    at: int = 0
    skip: int = 0
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    let_go: threading.Event = field(default_factory=threading.Event)


@dataclass
class Proxy:
    """What the proxy was told and what it saw.

    `patched` counts the body bytes of all PATCHes that went through, `kept` those of all requests that did not,
    `served` those of all answers to GETs of blobs.
    """

    host: str
    upstream: str
    faults: list[Fault]
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    scheme: str = "http"
    patched: int = 0
    served: int = 0
    kept: int = 0
    struck: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_for(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if re.search(fault.match, line):
                    if fault.skip:
                        fault.skip -= 1
                    elif fault.times:
                        fault.times -= 1
                        self.struck += 1
                        return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up, and do not trust certificates."""


@contextmanager
def fault_proxy(upstream: str, *faults: Fault, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy before the plain registry `upstream` (`host:port`) until the `with` ends; with `tls` over HTTPS."""
    listener = _Listener(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    proxy = Proxy(f"127.0.0.1:{listener.server_port}", upstream, list(faults), scheme="https" if tls else "http")
    listener.RequestHandlerClass = _handler(proxy)
    with serving(listener):
        yield proxy


@contextmanager
def recorder(
    status: int = 404, *, headers: dict[str, str] | None = None, body: bytes = b"", tls: ssl.SSLContext | None = None
) -> Iterator[Proxy]:
    """Run another host, which answers the same to everything and remembers what it was sent."""
    always = Fault("", "status", status=status, times=1 << 30, headers=headers or {}, body=body)
    with fault_proxy("", always, tls=tls) as proxy:
        yield proxy


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.proxy = proxy
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _serve(self) -> None:
        line = f"{self.command} {self.path}"
        with self.proxy.lock:
            self.proxy.requests.append(line)
            self.proxy.authorizations.append(self.headers.get("Authorization", ""))
            self.proxy.ranges.append(self.headers.get("Range", ""))
        fault = self.proxy.fault_for(line)
        kind = fault.kind if fault else ""
        if fault and kind in ("status", "redirect"):
            self._answer_at_once(fault.status if kind == "status" else 307, fault)
            return
        if kind == "lose-upload":
            connection = self._upstream("DELETE", {})
            connection.getresponse().read()
            connection.close()
        with suppress(OSError, http.client.HTTPException):
            dropped = "range" if kind == "whole" else ""
            headers = {name: value for name, value in self.headers.items() if name.lower() != dropped}
            with closing(self._upstream(self.command, headers)) as connection:
                if self._send_body(connection, fault):
                    self._pass_back(connection.getresponse(), fault)
                    return
        self._break()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answer_at_once(self, status: int, fault: Fault) -> None:
        left = size = int(self.headers.get("Content-Length", 0))
        while left:
            left -= len(self.rfile.read(min(PIECE, left))) or left
        with self.proxy.lock:
            self.proxy.kept += size
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(fault.body))} | fault.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(fault.body)

    def _upstream(self, method: str, headers: dict[str, str]) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        connection.putrequest(method, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": self.proxy.host, "X-Forwarded-Proto": self.proxy.scheme} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection

    def _send_body(self, connection: http.client.HTTPConnection, fault: Fault | None) -> bool:
        """Pass the request's body on; False when the fault cut it."""
        left = int(self.headers.get("Content-Length", 0))
        kind = fault.kind if fault else ""
        room = fault.at if fault and kind in ("cut-request", "hold-request", "stall-request") else -1
        while left and room:
            data = self.rfile.read1(min(PIECE, left, room) if room > 0 else min(PIECE, left))
            if not data:
                return False
            connection.send(data)
            left, room = left - len(data), room - len(data) if room > 0 else room
            if self.command == "PATCH":
                with self.proxy.lock:
                    self.proxy.patched += len(data)
            if fault and kind == "hold-request" and not room:
                fault.let_go.wait(60)
                room = -1
        if kind == "stall-request":
            self._stall()
        return kind not in ("cut-request", "stall-request")

    def _pass_back(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        at = fault.at if fault else 0
        if kind == "no-answer":
            answer.read()
            self._break()
            return
        size = int(answer.headers.get("Content-Length", 0)) - (at if kind == "short" else 0)
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "connection"}
        if "Content-Length" in headers:
            headers["Content-Length"] = str(size if kind != "endless" else 1 << 50)
        if kind == "wrong-range":
            headers["Content-Range"] = re.sub(r"bytes \d+", "bytes 7", headers.get("Content-Range", "bytes 0-1/2"))
        if kind == "less" and "Range" in headers:
            headers["Range"] = f"0-{int(headers['Range'].partition('-')[2]) // 2}"
        self.send_response_only(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._pass_body(answer, size, kind, at)

    def _pass_body(self, answer: http.client.HTTPResponse, size: int, kind: str, at: int) -> None:
        position = 0
        while position < size:
            if kind in ("cut-answer", "stall") and position >= at:
                self._stall() if kind == "stall" else None
                self._break()
                return
            room = at - position if kind in ("cut-answer", "stall") else PIECE
            data = bytearray(answer.read(min(PIECE, size - position, room)))
            if kind == "wrong-byte" and position <= at < position + len(data):
                data[at - position] ^= 1
            self.wfile.write(data)
            position += len(data)
            if self.command == "GET" and "/blobs/sha256:" in self.path:
                with self.proxy.lock:
                    self.proxy.served += len(data)
        while kind == "endless":
            self.wfile.write(bytes(PIECE))

    def _stall(self) -> None:
        """Wait until the client hangs up."""
        hung_up = select.poll()
        hung_up.register(self.connection, select.POLLRDHUP)
        hung_up.poll(60_000)

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
