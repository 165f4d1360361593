"""Where a repository is in a region, and how to reach it there: its registry, and the namespace before the name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelctl.core.access import Access, Login, Logins
from modelctl.core.acr import AcrLogin
from modelctl.core.config import Config, Region
from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.core.pace import Pace
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference, is_reference, parse_reference
from modelctl.flows.stores import open_store
from modelctl.flows.workers import JOBS

ALL = "all"
"""Stands for every region of the settings."""


def place(wanted: Reference | str, name: str, config: Config, access: Access) -> tuple[Reference, Access]:
    """Return where an artifact is in the region `name`, and how to reach it there.

    Args:
        wanted: A reference in a registry, or a name without one, as `qwen/qwen3-8b:v1`.
        name: Of the region.
        config: The settings.
        access: What the flags say, which wins. What the region's settings add is for its registry alone.

    Raises:
        UsageProblem: The settings have no such region, or what they say of it makes no reference; `wanted` is no name.
        NotFound: The region's password file is not there.
    """
    region = config.region(name)
    return in_region(wanted, name, config), reach(region, name, access)


def in_region(wanted: Reference | str, name: str, config: Config) -> Reference:
    """Return where an artifact is in the region `name`; see `place`."""
    region, reference = config.region(name), name_in_regions(wanted, config)
    path = f"{region.namespace}/{reference.path}" if region.namespace else reference.path
    try:
        return parse_reference(str(replace(reference, registry=region.host, path=path)))
    except UsageProblem as error:
        why = f"{config.place} says registry {region.host[:200]!r}, namespace {region.namespace[:200]!r}"
        raise UsageProblem(f"region {name}", why=why, hint='registry = "HOST[:PORT]"') from error


def open_in_region(
    reference: Reference, access: Access, region: Region, jobs: int | None, paces: Sequence[Pace] = ()
) -> tuple[Store, int]:
    """Return a region's repository, no faster than its settings and `paces` say, and how many jobs it takes at once."""
    own = [Pace(region.rate)] if region.rate else []
    return open_store(reference, access, [*own, *paces]), min(jobs or JOBS, region.connections or 256)


def reach(region: Region, name: str, access: Access) -> Access:
    """Return how to reach a region's registry: what `access` says, and where it says nothing the settings."""
    certified = access if access.client_cert or access.client_key else region
    return replace(
        access,
        authfile=access.authfile or region.authfile,
        login=None if access.authfile else _login(region, name, access),
        ca_file=access.ca_file or region.ca_file,
        client_cert=certified.client_cert,
        client_key=certified.client_key,
        trust_realm=(*region.trust_realm, *access.trust_realm),
        plain_http=access.plain_http or region.plain_http,
        insecure=access.insecure or region.insecure,
        quirks=region.quirks or "",
    )


def _login(region: Region, name: str, access: Access) -> Logins | None:
    acr = region.acr
    if acr and acr.instance_id and not (region.username or region.authfile):
        return AcrLogin(name, acr.instance_id, acr.region, vpc=acr.vpc, timeout_s=access.timeout_s)
    if not region.username:
        return None
    if not region.password_file:
        return Login(region.username, region.password, f"the settings, [regions.{name}]")
    with on_disk(f"password file of region {name}, {region.password_file}"):
        password = Path(region.password_file).read_text().rstrip("\r\n")
    return Login(region.username, password, region.password_file)


def name_in_regions(wanted: Reference | str, config: Config) -> Reference:
    """Return what an artifact is called in every region: without the namespace, where its registry is that of one.

    Raises:
        UsageProblem: It has no such name.
    """
    if isinstance(wanted, str):
        if is_reference(wanted):
            raise UsageProblem(f"not a name in a region: {wanted[:300]!r}", why="it names a place of its own")
        return parse_reference(f"localhost/{wanted}")
    if not wanted.registry:
        raise UsageProblem(f"no name in a region for {wanted}", why="it is in a folder", hint="--to REPOSITORY:TAG")
    spaces = {f"{region.namespace}/" for region in config.regions.values() if region.host == wanted.registry}
    space = max((space for space in spaces if wanted.path.startswith(space)), key=len, default="")
    return replace(wanted, path=wanted.path.removeprefix(space))


def chosen_regions(names: Sequence[str], config: Config) -> list[str]:
    """Return the regions that are meant: those named, in order, or every one for `ALL`.

    Raises:
        UsageProblem: The settings have none of that name, or none at all.
    """
    wanted = list(config.regions) if tuple(names) == (ALL,) else list(dict.fromkeys(names))
    for name in wanted or [ALL]:
        config.region(name) if name not in config.unset else None
    return wanted
