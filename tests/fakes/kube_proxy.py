"""A proxy before a real API server that does to chosen requests what networks and API servers do on bad days.

Who comes through it needs no TLS, and is who its kubeconfig says. What befalls requests, `Fault`s of `kube_api` say.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import yaml

from tests.fakes.kube_api import Fault, Object

PIECE = 64 << 10

Told = Callable[[str], None]


class HungUp(Exception):
    """The client's connection is to end here."""


def nothing(request: str) -> None:
    """Do nothing."""


@dataclass
class KubeProxy:
    """A kubeconfig that leads here, and what is to befall requests.

    `requests` are "METHOD /path?query", as they came. `before` is told of each of them before the API server sees it,
    and may raise `HungUp`. `faults` go when they have struck.
    """

    kubeconfig: Path
    upstream: str
    tls: ssl.SSLContext
    before: Told
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sockets: set[socket.socket] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_for(self, request: str) -> Fault:
        with self.lock:
            self.requests.append(request)
            found = next((fault for fault in self.faults if fault.pattern in request), Fault(""))
            found.times -= 1
            self.faults = [fault for fault in self.faults if fault.times > 0]
            return found

    def leave(self) -> None:
        """End all connections to the API server."""
        with self.lock, suppress(OSError):
            for connected in self.sockets:
                connected.shutdown(socket.SHUT_RDWR)


@contextmanager
def kube_proxy(*faults: Fault, before: Told = nothing) -> Iterator[KubeProxy]:
    """Run a proxy before the current cluster of KUBECONFIG, whose certificates are files, until the `with` ends."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kubeconfig")
        server = {"server": f"http://127.0.0.1:{listener.server_port}"}
        users = [{"name": context["user"], "user": {}}]
        clusters = [{"name": context["cluster"], "cluster": server}]
        path.write_text(json.dumps(config | {"clusters": clusters, "users": users}))
        proxy = KubeProxy(path, urlsplit(cluster["server"]).netloc, tls, before, list(faults))
        listener.proxy = proxy  # type: ignore[attr-defined]
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closed.set()
            proxy.leave()
            listener.shutdown()
            thread.join()
            listener.server_close()


def _named(found: list[Object], name: str) -> Object:
    return next(one for one in found if one["name"] == name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        self.proxy: KubeProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = f"{self.command} {self.path}"
        self.fault = self.proxy.fault_for(request)
        self.left = self.fault.cut
        try:
            self.proxy.before(request)
            if self.fault.drop or self.fault.hang == "before":
                self._hang_up()
            elif self.fault.status and not self.fault.event:
                self._refuse()
            else:
                with self._asked(body) as answer:
                    self._pass_back(answer)
        except (HungUp, OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _refuse(self) -> None:
        document = json.dumps(self._status()).encode()
        self._start(self.fault.status, {"Content-Length": str(len(document)), **self.fault.headers})
        self.wfile.write(document)

    def _status(self) -> Object:
        fault = self.fault
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": fault.status,
            "message": fault.message,
        }

    def _hang_up(self) -> NoReturn:
        """End the client's connection: at once, or with the proxy when the fault says so."""
        if self.fault.hang:
            self.proxy.closed.wait()
        raise HungUp

    @contextmanager
    def _asked(self, body: bytes) -> Iterator[http.client.HTTPResponse]:
        """Ask the API server."""
        connection = http.client.HTTPSConnection(self.proxy.upstream, context=self.proxy.tls)
        kept = ("accept", "content-type", "user-agent")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        with closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            with self.proxy.lock:
                self.proxy.sockets.add(connection.sock)
            try:
                yield connection.getresponse()
            finally:
                with self.proxy.lock:
                    self.proxy.sockets.discard(connection.sock)

    def _pass_back(self, answer: http.client.HTTPResponse) -> None:
        """Pass an answer on as it comes; of a watch every event at once."""
        self._start(answer.status, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        if self.fault.hang == "after":
            self._hang_up()
        if self.fault.event:
            self._chunk(json.dumps({"type": "ERROR", "object": self._status()}).encode() + b"\n")
        else:
            self._send(b"")
            while piece := answer.read1(PIECE):
                self._chunk(piece)
        self._send(b"0\r\n\r\n")

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _chunk(self, piece: bytes) -> None:
        self._send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def _send(self, data: bytes) -> None:
        """Send a piece of the body, and hang up where the fault says so."""
        self.wfile.write(data if self.left is None else data[: self.left])
        if self.left is not None:
            self.left -= len(data)
            if self.left <= 0:
                raise HungUp

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept, not printed."""
