"""Tokens and passwords for one registry, and to whom they may be shown.

Credentials go to the registry's own origin, and to the realm that it names for tokens when that is the same origin,
or HTTPS on a host that may have them: of the same registrable domain, in the quirks table, or named by the user.

Source: distribution "Token Authentication Specification" and "OAuth2 Token Authentication"; RFC 9110 11.6.1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import msgspec

from modelctl.core.errors import BadAnswer, Denied
from modelctl.core.http import is_loopback, origin_of, split_url
from modelctl.core.learned import learned
from modelctl.registry.credentials import Credentials
from modelctl.registry.quirks import Quirks

EARLY_S = 20.0
"""A token is replaced this long before it expires [s]."""

_SHORTEST_LIFE_S = 60.0


@dataclass(frozen=True)
class Token:
    header: str
    expires: float


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = _SHORTEST_LIFE_S


Fetch = Callable[[str, str, dict[str, str], str], bytes]
"""(method, URL, headers, body) -> body of a 200 answer; raises otherwise."""


class Authenticator:
    """Authorization headers for one registry. Thread-safe."""

    def __init__(
        self,
        registry: str,
        credentials: Callable[[], Credentials | None],
        quirks: Quirks,
        trusted: tuple[str, ...],
        renew: Callable[[], bool] = lambda: False,
        *,
        searched: Callable[[], str] = lambda: "",
    ) -> None:
        """Find credentials by `credentials`; again where they were refused and `renew` says that there are others.

        `searched` says in errors where none were found.
        """
        self._registry, self._quirks, self._trusted = registry, quirks, trusted
        self._find, self._renew, self._searched = credentials, renew, searched
        self._found: list[Credentials | None] = []
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    @property
    def credentials(self) -> Credentials | None:
        """The user's credentials, looked for when a registry first asks, and when they have ended."""
        if not self._found or (self._found[0] and self._found[0].until <= time.time()):
            self._found = [self._find()]
        return self._found[0]

    def header(self, scope: str) -> str | None:
        """Return the header for a request in `scope`, when one is known that is still good."""
        token = self._tokens.get(scope) or self._tokens.get("")
        return token.header if token and token.expires - EARLY_S > time.monotonic() else None

    def answer(self, challenge: str, scope: str, origin: str, used: str | None, fetch: Fetch) -> str:
        """Answer a 401: return a header that was not tried yet.

        Args:
            challenge: The WWW-Authenticate header.
            scope: `repository:NAME:ACTIONS`, or "" for the whole registry.
            origin: Scheme, host and port that challenged.
            used: The header that was refused, if there was one.
            fetch: Asks the realm.

        Raises:
            Denied: There is nothing (else) to answer with; says where credentials were looked for.
            BadAnswer: The challenge or the realm's answer is not understood.
        """
        with self._lock:
            known = self.header(scope)
            if known and known != used:
                return known
            kind, _, rest = challenge.partition(" ")
            if kind.lower() not in ("basic", "bearer"):
                raise BadAnswer(
                    f"registry {self._registry}", why=f"it asks for {kind[:40]!r}; Basic and Bearer are known"
                )
            basic = kind.lower() == "basic"
            try:
                token = self._basic(used) if basic else self._bearer(rest, scope, origin, fetch)
            except Denied:
                if not self._renew():
                    raise
                self._found = []
                token = self._basic(used) if basic else self._bearer(rest, scope, origin, fetch)
            self._tokens["" if basic else scope] = token
            return token.header

    def refused(self, why: str, what: str = "", *, forbidden: bool = False) -> Denied:
        """Describe a refusal: what the registry said, and where the credentials came from.

        Args:
            why: What it said.
            what: Of what; empty for the whole registry.
            forbidden: It knows who asks, if there are credentials: another login is no help.
        """
        found = self.credentials
        place = "" if found else self._searched()
        none = f"no credentials were found in {place}" if place else "no credentials were found"
        where = f"credentials from {found.origin}" if found else none
        hint = "" if found and forbidden else f"modelctl login {self._registry} -u USER"
        return Denied(what or f"registry {self._registry}", why=f"{why}; {where}", hint=hint)

    def _basic(self, used: str | None) -> Token:
        credentials = self.credentials
        if not credentials:
            raise self.refused("it wants a user and password")
        if credentials.identity_token:
            raise self.refused("it wants a user and password, not an identity token")
        if used == credentials.basic():
            raise self.refused("it refused the password")
        return Token(credentials.basic(), float("inf"))

    def _bearer(self, rest: str, scope: str, origin: str, fetch: Fetch) -> Token:
        params = _parameters(rest)
        realm = params.get("realm", "")
        if not _is_http(realm):
            raise BadAnswer(f"registry {self._registry}", why=f"its token realm is {realm[:100]!r}")
        credentials = self.credentials
        if credentials:
            self._check_realm(realm, origin)
        started = time.monotonic()
        body = fetch(*_token_request(realm, params.get("service", ""), scope or params.get("scope", ""), credentials))
        try:
            answer = msgspec.json.decode(body, type=learned(_TokenAnswer))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadAnswer(f"token realm {_host(realm)}", why=str(error)) from error
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise BadAnswer(f"token realm {_host(realm)}", why="its answer holds no token")
        return Token(f"Bearer {token}", started + max(answer.expires_in, _SHORTEST_LIFE_S))

    def _check_realm(self, realm: str, origin: str) -> None:
        """Refuse to show credentials to a realm that may not have them; `Denied`."""
        place = urlsplit(realm)
        host = place.hostname or ""
        named = any(name in self._trusted for name in (place.netloc, host, f"[{host}]"))
        if origin_of(realm) == origin_of(origin):
            return
        secure = place.scheme == "https" or (named and is_loopback(host))
        known = named or any(fnmatchcase(host, pattern) for pattern in self._quirks.realms)
        if secure and (known or _same_domain(host, urlsplit(origin).hostname or "")):
            return
        raise Denied(
            f"registry {self._registry}",
            why=f"it sends credentials to another place: {place.scheme}://{_host(realm)}"
            + ("" if secure else ", which is not HTTPS"),
            hint=f"--trust-realm {_host(realm)}, if that is right",
        )


def _token_request(
    realm: str, service: str, scope: str, credentials: Credentials | None
) -> tuple[str, str, dict[str, str], str]:
    fields = {"service": service} | ({"scope": scope} if scope else {})
    if credentials and credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.identity_token,
            "client_id": "modelctl",
            **fields,
        }
        return "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form)
    headers = {"Authorization": credentials.basic()} if credentials else {}
    asked = [("service", service), *(("scope", one) for one in scope.split())]
    query = urlencode([*asked, *([("account", credentials.user)] if credentials else [])])
    return "GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers, ""


def _parameters(text: str) -> dict[str, str]:
    """Return the parameters of a challenge; what is not `name=value` is left out."""
    items = [item for item in parse_http_list(text) if item.partition("=")[2]]
    return dict(parse_keqv_list(items))


def _is_http(url: str) -> bool:
    try:
        place = split_url(url)
    except ValueError:
        return False
    return place.scheme in ("http", "https") and bool(place.hostname)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_address(host: str) -> bool:
    """Say whether a host, without brackets, is an address in any spelling: no top-level domain starts with a digit.

    Source: RFC 1123 2.1; inet_aton(3) also takes 127.1 and 0x7f.1, an IPv6 zone any text.
    """
    return ":" in host or host.rstrip(".").rpartition(".")[2][:1].isdigit()


def _same_domain(one: str, other: str) -> bool:
    """Say whether two hosts share their registrable domain, by the public suffix list; an address has none."""
    if _is_address(one) or _is_address(other):
        return one.lower() == other.lower()
    from publicsuffixlist import PublicSuffixList

    names: Any = PublicSuffixList()
    domain = names.privatesuffix(one.lower())
    return bool(domain) and domain == names.privatesuffix(other.lower())
