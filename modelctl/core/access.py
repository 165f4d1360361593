"""How to reach registries: what the user says of TLS, credentials and patience."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Access:
    """The names are those of the flags; no `credentials` is to be a stranger. `timeout_s` bounds each silence [s]."""

    authfile: str = ""
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
