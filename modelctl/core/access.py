"""How to reach registries and sources: what the user says of TLS, credentials and patience."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Login:
    """A user and a password for one registry; `origin` says where they were found. Never printed."""

    user: str
    password: str = field(repr=False)
    origin: str


@dataclass(frozen=True, kw_only=True)
class Access:
    """The names are those of the flags; no `credentials` is to be a stranger. `timeout_s` bounds each silence [s].

    What a region's settings add is for that region's registry alone: a `login` in place of docker's credentials, and
    the name of the row of `registry/quirks.py`, when it is not the host's.
    """

    authfile: str = ""
    login: Login | None = None
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
