"""The flags that say how to reach registries, put behind a command's own."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli.flags import with_flags
from modelctl.core.access import Access

_PANEL = "Registries"


def _flags(
    authfile: Annotated[
        str, typer.Option(metavar="PATH", help="Credentials, in docker's config format.", rich_help_panel=_PANEL)
    ] = "",
    ca_file: Annotated[
        str, typer.Option(metavar="PATH", help="CA certificates to trust, in PEM.", rich_help_panel=_PANEL)
    ] = "",
    client_cert: Annotated[
        str, typer.Option(metavar="PATH", help="A client certificate, in PEM.", rich_help_panel=_PANEL)
    ] = "",
    client_key: Annotated[
        str, typer.Option(metavar="PATH", help="Its key, when it is another file.", rich_help_panel=_PANEL)
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check certificates.", rich_help_panel=_PANEL)
    ] = False,
    plain_http: Annotated[
        bool,
        typer.Option("--plain-http", help="No TLS. On loopback it is found out.", rich_help_panel=_PANEL),
    ] = False,
    trust_realm: Annotated[
        list[str],
        typer.Option(metavar="HOST[:PORT]", help="A token realm that may see the credentials.", rich_help_panel=_PANEL),
    ] = [],
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="Longest silence of a registry or a source. It is noticed after one to two times that.",
            rich_help_panel=_PANEL,
        ),
    ] = 60.0,
) -> Access:
    return Access(
        authfile=authfile,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
        insecure=insecure,
        plain_http=plain_http,
        trust_realm=tuple(trust_realm),
        timeout_s=timeout,
    )


reaching_registries = with_flags("access", _flags)
"""Give a command the flags of `Access`; it receives them as its parameter `access`."""
