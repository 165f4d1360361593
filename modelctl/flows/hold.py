"""Keep a model in memory: look at intervals, bring in again what the kernel took, and answer who asks how it is."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.flows.warm import Warmed, WarmReport

_MISSED = 3
"""After so many intervals without a look the holder is not healthy."""


Address = tuple[str, int]
"""A host, which may be empty for all, and a port."""


def parse_address(text: str) -> Address:
    """Parse `[HOST]:PORT`; an IPv6 address stands in brackets.

    Raises:
        UsageProblem: It is not that.
    """
    host, colon, port = text.rpartition(":")
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:]+)\]", host)
    if not (colon and port.isdigit() and int(port) < 1 << 16 and (bracketed or re.fullmatch(r"[\w.-]*", host))):
        raise UsageProblem(f"--listen {text[:200]!r}", why="expected [HOST]:PORT, such as :9464 or [::1]:9464")
    return bracketed[1] if bracketed else host, int(port)


def hold(warm: Warmed, interval: float, listen: Address | None, brought: Callable[[int], None]) -> None:
    """Hold `warm` until an exception ends it, as ^C and SIGTERM do.

    Args:
        warm: The files, mapped.
        interval: Between two looks [s].
        listen: Where to answer /metrics, /healthz and /readyz, if anywhere.
        brought: Told how much was brought in again, when it was [bytes].

    Raises:
        NotFound: The model was taken away, as `node rm` does.
        DiskProblem: A disk cannot be read, or the address cannot be listened on.
    """
    state = _State(warm, interval)
    with _serving(state, listen):
        while True:
            time.sleep(interval)
            again = state.look()
            if again:
                brought(again)


class _State:
    """What the holder knows: as metrics, and as answers to probes."""

    def __init__(self, warm: Warmed, interval: float) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        self._warm, self._interval = warm, interval
        self._size = Gauge("modelctl_model_bytes", "Size of the model's files.", registry=self.registry)
        self._resident = Gauge("modelctl_resident_bytes", "How much of it is in memory.", registry=self.registry)
        self._again = Counter(
            "modelctl_repopulated_bytes", "What the kernel took away and was brought in again.", registry=self.registry
        )
        self._touch(0)
        self._keep(warm.measure())

    def look(self) -> int:
        """Bring in what is missing; return how much that was [bytes]."""
        again, measured = self._warm.refresh(self._touch)
        self._again.inc(again)
        self._keep(measured)
        self._touch(0)
        return again

    def _touch(self, _size: int) -> None:
        self._looked = time.monotonic()

    def _keep(self, measured: WarmReport) -> None:
        self._measured = measured
        self._size.set(measured.size)
        self._resident.set(measured.resident)

    def health(self) -> tuple[bool, str]:
        """Say whether it still looks."""
        ago = time.monotonic() - self._looked
        return ago < _MISSED * self._interval + 60, f"looked {ago:.0f} s ago"

    def readiness(self) -> tuple[bool, str]:
        """Say whether all of the model was in memory at the end of the last look."""
        measured = self._measured
        return measured.resident == measured.size, f"{measured.resident} of {measured.size} bytes in memory"


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread, which ends with the process."""

    daemon_threads = True
    block_on_close = False


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 5.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not news."""


@contextmanager
def _serving(state: _State, listen: Address | None) -> Iterator[None]:
    if listen is None:
        yield
        return
    from prometheus_client import make_wsgi_app

    metrics = make_wsgi_app(state.registry)
    probes = {"/healthz": state.health, "/readyz": state.readiness}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        probe = probes.get(environ["PATH_INFO"])
        well, figures = probe() if probe else (False, "no such page")
        status = "404 Not Found" if not probe else "200 OK" if well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain")])
        return [figures.encode() + b"\n"]

    host, port = listen
    kind = _Server6 if ":" in host else _Server
    with on_disk(f"listening on {host}:{port}"):
        server = make_server(host, port, app, server_class=kind, handler_class=_Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
