"""The flags that say how to reach sources, put behind a command's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from modelctl.cli.flags import with_flags
from modelctl.core.access import Access, SourceAccess

_PANEL = "Sources"


def _flags(
    endpoint: Annotated[
        str, typer.Option(metavar="HOST|URL", help="Of the bucket or hub. Without: its own.", rich_help_panel=_PANEL)
    ] = "",
    oss_region: Annotated[
        str, typer.Option(metavar="NAME", help="OSS: without, the endpoint's.", rich_help_panel=_PANEL)
    ] = "",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="OSS: credentials of the aliyun CLI.", rich_help_panel=_PANEL)
    ] = "",
    secret_dir: Annotated[
        str, typer.Option(metavar="DIR", help="OSS: credentials in a mounted Secret.", rich_help_panel=_PANEL)
    ] = "",
) -> SourceAccess:
    return SourceAccess(endpoint=endpoint, region=oss_region, profile=profile, secret_dir=secret_dir)


reading_sources = with_flags("source_access", _flags)
"""Give a command the flags of `SourceAccess`; it receives them as its parameter `source_access`."""


def at(source: SourceAccess, access: Access) -> SourceAccess:
    """Return how to reach a source: what its own flags say, and what the registries' say of TLS and patience."""
    return replace(source, ca_file=access.ca_file, timeout_s=access.timeout_s)
