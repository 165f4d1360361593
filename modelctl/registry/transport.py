"""HTTP to one registry: TLS, proxies, redirects, authorization.

Credentials are set only on requests to the registry's own origin; a redirect or an upload's location elsewhere gets
none. Every answer is read up to a limit. Bytes are asked for as they are (`Accept-Encoding: identity`).
"""

from __future__ import annotations

import functools
import http.client
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urljoin, urlsplit

import urllib3

from modelctl import __version__
from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, Denied, NotFound, Unavailable, UsageProblem
from modelctl.core.http import (
    BUSY,
    Pools,
    drain,
    is_loopback,
    may_lead,
    origin_of,
    proxy_headers,
    read_limited,
    redacted,
    said,
)
from modelctl.core.pace import Pace
from modelctl.core.retry import LONGEST_WAIT_S, retry_after, retrying
from modelctl.registry.auth import Authenticator
from modelctl.registry.credentials import Credentials, config_path, find_credentials
from modelctl.registry.quirks import Quirks, quirks_of

MAX_TOKEN_SIZE = 1 << 20
MAX_REDIRECTS = 5

_REDIRECTS = (301, 302, 303, 307, 308)

_HINTS = {413: "have the limit on the size of a request raised: the registry's, or that of a proxy before it"}


class Transport:
    """Requests to one registry, `host[:port]`. Blobs go there no faster than `paces` allow. Thread-safe."""

    def __init__(self, registry: str, access: Access, paces: Sequence[Pace] = ()) -> None:
        self.registry, self.access, self.paces = registry, access, paces
        host = urlsplit(f"//{registry}").hostname or ""
        self.quirks: Quirks = quirks_of(host, access.quirks)
        self._address = self.quirks.address or registry
        self._auth = Authenticator(
            registry,
            self._credentials,
            self.quirks,
            access.trust_realm,
            access.login.renew if access.login else lambda: False,
            searched=self._searched,
        )
        self._pools = Pools(
            access.timeout_s,
            ca_file=access.ca_file,
            client_cert=access.client_cert,
            client_key=access.client_key,
            insecure=access.insecure,
        )

    def _credentials(self) -> Credentials | None:
        if not self.access.credentials:
            return None
        if self.access.login:
            login = self.access.login.now()
            return Credentials(login.origin, login.user, login.password, until=login.until)
        return find_credentials(self.registry, self.access.authfile)

    def _searched(self) -> str:
        """Return the file where credentials are looked for, if there is one."""
        if self.access.login or not self.access.credentials:
            return ""
        path = config_path(self.access.authfile)
        return str(path) if path.exists() else f"{path}, which is not there"

    @functools.cached_property
    def origin(self) -> str:
        """Scheme, host and port. HTTPS; plain when told so, or on loopback when TLS does not answer there."""
        host = urlsplit(f"//{self._address}").hostname or ""
        plain = self.access.plain_http or (is_loopback(host) and not self._speaks_tls())
        return f"{'http' if plain else 'https'}://{self._address}"

    def _speaks_tls(self) -> bool:
        place = urlsplit(f"//{self._address}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(place.hostname or "", place.port or 443, timeout=5, context=context)
        try:
            connection.connect()
        except (ssl.SSLError, ConnectionResetError, TimeoutError):
            return False
        except OSError:
            return not place.port
        finally:
            connection.close()
        return True

    def connect(self, url: str) -> http.client.HTTPConnection:
        """Open a connection of one's own to the host of `url`, to stream a body over.

        Raises:
            UsageProblem: The proxy for it is one that speaks TLS.
        """
        place, timeout = urlsplit(url), self.access.timeout_s
        proxy = self._pools.proxy_of(url)
        through = urlsplit(proxy) if proxy else place
        if proxy and through.scheme == "https":
            raise UsageProblem(
                f"registry {self.registry}, proxy {redacted(proxy)}",
                why="blobs cannot be sent through a proxy that is spoken to over TLS",
                hint=f"{place.scheme}_proxy=http://..., or no_proxy={place.hostname}",
            )
        host, port = through.hostname or "", through.port or (80 if proxy else None)
        if place.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._pools.context)
            if proxy:
                connection.set_tunnel(place.hostname or "", place.port or 443, proxy_headers(proxy))
            return connection
        if proxy:
            return _ForwardedConnection(host, port, timeout, place.netloc, proxy_headers(proxy))
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def url(self, place: str) -> str:
        """Return the URL of a path, or of a place that the registry names; `BadAnswer` as `joined`."""
        known = place.startswith("/v2/") and place.isascii() and place.isprintable()
        return self.origin + place if known else self.joined(self.origin, place, place)

    def joined(self, base: str, place: str, what: str) -> str:
        """Return where `place` leads from `base`; `BadAnswer` when that is no URL, or leaves TLS."""
        name = self.named(what)
        try:
            target = urljoin(base, place).replace(" ", "%20").encode("ascii").decode()
            allowed = may_lead(base, target)
        except ValueError as error:
            raise BadAnswer(name, why="it names a place that is not a URL") from error
        if not allowed:
            raise BadAnswer(name, why=f"it leads from {urlsplit(base).scheme.upper()} to {redacted(target)}")
        return target

    def named(self, what: str) -> str:
        """Return what an error calls something of this registry."""
        return f"registry {self.registry}, {redacted(what)}"

    def headers(self, url: str, scope: str) -> dict[str, str]:
        """Return what goes with every request; credentials only when `url` is the registry's own."""
        headers = {"User-Agent": f"modelctl/{__version__}", "Accept-Encoding": "identity"}
        header = self._auth.header(scope) if self.is_own(url) else None
        return headers | ({"Authorization": header} if header else {})

    def is_own(self, url: str) -> bool:
        return origin_of(url) == origin_of(self.origin)

    @property
    def user(self) -> Credentials | None:
        """Who the user is at this registry, where that is known."""
        return self._auth.credentials

    def greet(self) -> tuple[int, Mapping[str, str]]:
        """Ask as a stranger whether a registry is there; return the status, 200, 401 or 403, and the headers.

        Raises:
            Unavailable: No answer. NotFound, BadAnswer: What answers is no registry; TLS that does not prove itself.
        """
        headers = {"User-Agent": f"modelctl/{__version__}", "Accept-Encoding": "identity"}
        response = self._send("GET", self.url("/v2/"), headers, None)
        body = drain(response)
        if response.status not in (200, 401, 403):
            raise self.problem(response.status, response.headers, body, "/v2/")
        return response.status, response.headers

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        expect: Sequence[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        what: str = "",
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return an answer of an expected status, its body not yet read.

        Follows redirects and answers challenges; does not retry: see `core/retry.py`.

        Raises:
            Unavailable: No answer, or 429, 5xx. NotFound: 404. Denied: 401, 403, after credentials were tried.
            BadAnswer: Any other status; redirects without end; TLS that does not prove itself.
        """
        url = self.url(path)
        challenged = 0
        for _ in range(MAX_REDIRECTS + 3):
            sent = self.headers(url, scope)
            response = self._send(method, url, {**sent, **(headers or {})}, body)
            if response.status == 401 and self.is_own(url) and challenged < 2:
                challenged += 1
                drain(response)
                self.authorize(response.headers, scope, sent.get("Authorization"), what or path)
            elif response.status in _REDIRECTS and response.headers.get("Location") and response.status not in expect:
                drain(response)
                url = self._redirected(method, url, response.headers["Location"], what or path)
            elif response.status in expect:
                return response
            else:
                raise self.problem(response.status, response.headers, drain(response), what or url)
        raise BadAnswer(self.named(what or path), why="redirects or challenges without end")

    def _redirected(self, method: str, url: str, location: str, what: str) -> str:
        """Return where a redirect leads: elsewhere only what has no body."""
        target = self.joined(url, location, what)
        if method not in ("GET", "HEAD") and not self.is_own(target):
            name = self.named(what)
            raise BadAnswer(name, why=f"it redirects a {method} to {redacted(target)}")
        return target

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | str | None
    ) -> urllib3.BaseHTTPResponse:
        return self._pools.send(f"registry {self.registry}", method, url, headers, body)

    def authorize(self, headers: Mapping[str, str], scope: str, used: str | None, what: str) -> None:
        """Answer the challenge in the headers of a 401, so that the request can be sent again.

        Raises:
            Denied: Nothing helps: there is nothing (else) than what was `used` to answer with.
        """
        try:
            self._auth.answer(headers.get("WWW-Authenticate", ""), scope, self.origin, used, self._fetch_token)
        except Denied as error:
            error.what = self.named(what) if error.what == f"registry {self.registry}" else error.what
            raise

    def _fetch_token(self, method: str, url: str, headers: dict[str, str], body: str) -> bytes:
        """Ask a token realm. It is not redirected: credentials go where they were allowed to go."""

        def ask() -> bytes:
            response = self._send(method, url, {"Accept-Encoding": "identity", **headers}, body or None)
            data = read_limited(response, self.named(f"token realm {redacted(url)}"), MAX_TOKEN_SIZE)
            if response.status in (400, 401, 403):
                raise self._auth.refused(f"its token realm {redacted(url)} answered {response.status}")
            if response.status != 200:
                raise self.problem(response.status, response.headers, data, redacted(url))
            return data

        return retrying(ask)

    def problem(self, status: int, headers: Mapping[str, str], body: bytes, what: str) -> Exception:
        """Translate an answer into an error."""
        why = f"it answered {status}" + (f": {said(body)}" if body else "")
        name = self.named(what)
        if status in (401, 403):
            return self._auth.refused(why, name, forbidden=status == 403)
        if status == 404:
            return NotFound(name, why=why)
        if status in BUSY:
            wait_s = retry_after(headers)
            if wait_s and wait_s > LONGEST_WAIT_S:
                why += f"; it asks to be left alone for {wait_s:.0f} s, and at most {LONGEST_WAIT_S:.0f} s are waited"
            return Unavailable(name, why=why, retry_after=wait_s)
        return BadAnswer(name, why=why, hint=_HINTS.get(status, ""))


class _ForwardedConnection(http.client.HTTPConnection):
    """A connection to `authority` through a proxy that forwards: it is asked for whole URLs."""

    def __init__(self, host: str, port: int | None, timeout: float, authority: str, headers: Mapping[str, str]) -> None:
        super().__init__(host, port, timeout=timeout)
        self._authority, self._forwarding = authority, headers

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,  # noqa: FBT001, FBT002
        skip_accept_encoding: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().putrequest(method, f"http://{self._authority}{url}", skip_host, skip_accept_encoding)
        for name, value in self._forwarding.items():
            self.putheader(name, value)
