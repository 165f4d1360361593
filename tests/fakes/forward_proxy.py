"""A proxy as companies have them: it forwards whole URLs, tunnels on CONNECT, and may want a password.

Whatever host it is asked for, it goes to one server: so a request that arrives there came through it.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.fakes.serving import serving


@dataclass
class ForwardProxy:
    """`requests` are the request lines that it got; `password` is the Basic header that it wants, if any."""

    url: str
    upstream: str
    password: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def forward_proxy(upstream: str, password: str = "", *, tls: ssl.SSLContext | None = None) -> Iterator[ForwardProxy]:
    """Run a proxy that takes everything to `upstream` (`host:port`) until the `with` ends; with `tls` it speaks TLS."""
    listener = _Listener(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    proxy = ForwardProxy(f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_port}", upstream, password)
    listener.RequestHandlerClass = type("Handler", (_Handler,), {"proxy": proxy})
    with serving(listener):
        yield proxy


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up, and do not trust certificates."""


class _Handler(BaseHTTPRequestHandler):
    """Handles one request a connection: after its head the two sides are joined."""

    proxy: ForwardProxy
    rbufsize = 0

    def _serve(self) -> None:
        self.proxy.requests.append(f"{self.command} {self.path}")
        self.close_connection = True
        if self.headers.get("Proxy-Authorization", "") != self.proxy.password:
            self.send_error(407)
            return
        host, _, port = self.proxy.upstream.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            if self.command == "CONNECT":
                self.send_response_only(200)
                self.end_headers()
            else:
                upstream.sendall(self._head())
            with suppress(OSError):
                self._join(upstream)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = _serve

    def _head(self) -> bytes:
        place = urlsplit(self.path)
        target = f"{place.path}?{place.query}" if place.query else place.path
        lines = [f"{self.command} {target} HTTP/1.1", f"Host: {place.netloc}", "Connection: close"]
        dropped = ("host", "connection", "proxy-authorization")
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in dropped]
        return "\r\n".join([*lines, "", ""]).encode()

    def _join(self, upstream: socket.socket) -> None:
        """Pass bytes both ways until one side ends."""
        other = {self.connection: upstream, upstream: self.connection}
        while True:
            for side in select.select(list(other), [], [])[0]:
                data = side.recv(1 << 16)
                if not data:
                    return
                other[side].sendall(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
