"""How to reach registries and sources: what the user says of TLS, credentials and patience."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Logins(Protocol):
    """Who the user is at one registry; `origin` says where that was found."""

    @property
    def origin(self) -> str: ...

    def now(self) -> Login:
        """Return a login that is good now."""

    def renew(self) -> bool:
        """Look again after a refusal; say whether there is another login now."""


@dataclass(frozen=True)
class Login:
    """A user and a password for one registry, good until `until` [s since 1970]. Never printed."""

    user: str
    password: str = field(repr=False)
    origin: str
    until: float = float("inf")

    def now(self) -> Login:
        return self

    def renew(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Access:
    """The names are those of the flags; no `credentials` is to be a stranger. `timeout_s` bounds each silence [s].

    What a region's settings add is for that region's registry alone: a `login` in place of docker's credentials, and
    the name of the row of `registry/quirks.py`, when it is not the host's.
    """

    authfile: str = ""
    login: Logins | None = None
    quirks: str = ""
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    plain_http: bool = False
    trust_realm: tuple[str, ...] = ()
    timeout_s: float = 60.0
    credentials: bool = True


DEFAULT = Access()
"""TLS by the system's certificates, docker's credentials."""


@dataclass(frozen=True, kw_only=True)
class SourceAccess:
    """The names are those of the flags; what is empty is looked for where the source's own tools look.

    `endpoint` and `region` say which service, `token` proves to a hub who asks. `profile` (of the aliyun CLI) and
    `secret_dir` (a mounted Secret) say where credentials are; no `credentials` is to be a stranger. `timeout_s` bounds
    each silence [s].
    """

    endpoint: str = ""
    region: str = ""
    token: str = field(default="", repr=False)
    profile: str = ""
    secret_dir: str = ""
    credentials: bool = True
    ca_file: str = ""
    timeout_s: float = 60.0


DEFAULT_SOURCE_ACCESS = SourceAccess()
"""Endpoint and credentials of the environment, TLS by the system's certificates."""
