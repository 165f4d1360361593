"""A proxy on loopback that keeps every request's first line, and passes bytes on as they come."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 1 << 16


class Proxy:
    """Where it is, and the requests so far, as "METHOD /path?query"."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []


@contextmanager
def counting(upstream: tuple[str, int]) -> Iterator[Proxy]:
    """Run a proxy before a server that speaks HTTP/1.1 without TLS."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(upstream) as there, suppress(OSError):
                threading.Thread(target=_pump, args=(there, self.connection), daemon=True).start()
                while head := self._head():
                    proxy.requests.append(head.decode("latin-1").rpartition(" HTTP/")[0].split(" HTTP/")[0])
                    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
                    there.sendall(head + self.rfile.read(int(length[1]) if length else 0))

        def _head(self) -> bytes:
            head = b""
            while line := self.rfile.readline():
                head += line
                if line == b"\r\n":
                    return head
            return b""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, and that it ended."""
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)
