"""HTTP by urllib3: connections to hosts, and how answers and failures are read.

Knows nothing of who is asked, or of credentials.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeGuard
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from modelctl.core.errors import BadAnswer, Unavailable, UsageProblem
from modelctl.core.tls import hint_of, open_context

MAX_ERROR_SIZE = 64 << 10

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that say: not now."""

BROKEN = (HTTPError, OSError, http.client.HTTPException)
"""What a connection that fails raises."""


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Pools:
    """Connections to any host: through the environment's proxy for it, or direct. Thread-safe.

    `timeout_s` bounds each silence [s]; after `block` twice as much does.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        ca_file: str = "",
        client_cert: str = "",
        client_key: str = "",
        insecure: bool = False,
    ) -> None:
        if client_key and not client_cert:
            raise UsageProblem(f"client key {client_key}", why="no certificate is named with it", hint="--client-cert")
        self._timeout_s, self._insecure = timeout_s, insecure
        self._ca_file, self._client_cert, self._client_key = ca_file, client_cert, client_key
        self._proxies: dict[tuple[str, str], str] = {}
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def context(self) -> ssl.SSLContext:
        context = open_context(self._ca_file, self._client_cert, self._client_key)
        if self._insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def send(
        self, name: str, method: str, url: str, headers: Mapping[str, str], body: bytes | str | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer, its body not yet read; nothing is followed or tried again.

        `name` says in errors who is asked.

        Raises:
            Unavailable: No answer. BadAnswer: TLS that does not prove itself.
        """
        try:
            return self._pool(url).request(
                method, url, headers=headers, body=body, redirect=False, preload_content=False, decode_content=False
            )
        except SSLError as error:
            raise BadAnswer(name, why=f"TLS: {error}", hint=hint_of(error)) from error
        except BROKEN as error:
            raise Unavailable(name, why=f"{redacted(url)}: {described(error)}") from error

    def _pool(self, url: str) -> urllib3.PoolManager:
        key = urlsplit(url).scheme, self.proxy_of(url)
        with self._lock:
            if key not in self._pools:
                self._pools[key] = self._new_pool(*key)
            return self._pools[key]

    def proxy_of(self, url: str) -> str:
        """Return the environment's proxy for a URL, or nothing. Looked up once a host: it costs as much as a HEAD."""
        place = urlsplit(url)
        key = place.scheme, place.netloc
        if key not in self._proxies:
            bypass = urllib.request.proxy_bypass(place.netloc)
            self._proxies[key] = "" if bypass else urllib.request.getproxies().get(place.scheme, "")
        return self._proxies[key]

    def _new_pool(self, scheme: str, proxy: str) -> urllib3.PoolManager:
        """Make a pool; certificates are loaded, 17 ms, only where TLS is spoken."""
        timeout = urllib3.Timeout(connect=min(self._timeout_s, 20), read=self._timeout_s)
        context = self.context if "https" in (scheme, urlsplit(proxy).scheme) else None
        if proxy:
            return urllib3.ProxyManager(
                proxy,
                proxy_headers=proxy_headers(proxy),
                maxsize=32,
                retries=False,
                timeout=timeout,
                ssl_context=context,
                proxy_ssl_context=context,
            )
        return urllib3.PoolManager(maxsize=32, retries=False, timeout=timeout, ssl_context=context)


def is_plain(sock: object) -> TypeGuard[socket.socket]:
    """Say whether the kernel reads and writes a connection's bytes as they are.

    TLS is an `ssl.SSLSocket`, and inside of a proxy's TLS urllib3's `SSLTransport`, which is no socket at all.
    """
    return isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket)


def block(sock: socket.socket, timeout_s: float) -> None:
    """Leave a plain socket's timeout to the kernel: Python's own polls before each call, half of a push's CPU.

    From then on `BlockingIOError` says that nothing came or went in a call of so long; `settimeout` takes it back. A
    call that moved some bytes before the silence says so at its end, and the next one fails: 2 `timeout_s` at most.
    """
    timeval = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, timeval)
    sock.settimeout(None)


def proxy_headers(proxy: str) -> dict[str, str]:
    """Return what proves to a proxy who asks, when its URL says so."""
    place = urlsplit(proxy)
    if not place.username:
        return {}
    return urllib3.make_headers(proxy_basic_auth=f"{unquote(place.username)}:{unquote(place.password or '')}")


def drain(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read what is left of a small answer, so that its connection can be used again; one that is not is hung up on.

    Returns:
        Its beginning, for an error to quote.
    """
    data = b""
    with suppress(*BROKEN):
        data = response.read(MAX_ERROR_SIZE)
        response.read(1)
    response.close()
    return data


def read_limited(response: urllib3.BaseHTTPResponse, name: str, limit: int = MAX_ERROR_SIZE) -> bytes:
    """Read a body of at most `limit` bytes and give the connection back; `name` says in errors what is read.

    Raises:
        BadAnswer: It is longer. Unavailable: It breaks off.
    """
    try:
        data = b""
        while piece := response.read(limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                response.close()
                raise BadAnswer(name, why=f"an answer without end: at most {limit} bytes are read")
        response.release_conn()
    except BROKEN as error:
        response.close()
        raise Unavailable(name, why=f"the answer broke off: {described(error)}") from error
    return data


def split_url(url: str) -> SplitResult:
    """Take a URL apart; `ValueError` where it has no valid host and port, or not all who read it find the same one."""
    place = urlsplit(url)
    _ = place.port, (place.hostname or "").encode("idna")
    if "\\" in place.netloc or not url.isprintable():
        raise ValueError("a backslash, or what is not printed, ends the host for some")
    return place


def is_loopback(host: str) -> bool:
    """Say whether a host, without brackets, is this machine by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL in the one form that all its spellings have. Source: RFC 6454, 4."""
    place = urlsplit(url)
    return f"{place.scheme}://{place.netloc.lower().removesuffix(_DEFAULT_PORTS.get(place.scheme, ''))}"


def may_lead(base: str, target: str) -> bool:
    """Say whether `base` may lead to `target`: to HTTP(S), and not out of TLS; `ValueError` as `split_url`."""
    scheme = split_url(target).scheme
    return scheme == "https" or (scheme == "http" and urlsplit(base).scheme != "https")


def redacted(url: str) -> str:
    """Return a URL without what may be secret: user, password, query."""
    try:
        place = urlsplit(url)
    except ValueError:
        return "what is not a URL"
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}" if place.scheme and place.netloc else url


def described(error: BaseException) -> str:
    """Say in a line what went wrong on a connection, without the library's object names."""
    text = str(error.args[-1] if error.args else error) or type(error).__name__
    return text.rpartition(">: ")[2][:300]


def said(body: bytes) -> str:
    """Return what an error answer says, in a line."""
    return " ".join(body.decode("utf-8", "replace").split())[:300]
