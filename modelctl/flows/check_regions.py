"""The regions of the settings: which there are, and whether an artifact could go there now."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from modelctl.core.access import Access
from modelctl.core.config import Config, Region, load_config
from modelctl.core.errors import ModelctlError
from modelctl.core.reference import Reference
from modelctl.flows.findings import Finding, Shape, check_registry, problem_of
from modelctl.flows.regions import chosen_regions, place, reach


class RegionRow(msgspec.Struct, kw_only=True):
    """A region, without secrets. `bandwidth` [bytes/s] and `connections` are 0 where there is no limit."""

    name: str
    registry: str
    namespace: str
    bandwidth: float
    connections: int
    quirks: str
    credentials: str


class RegionsReport(msgspec.Struct, kw_only=True):
    """The regions, and the files that describe them."""

    files: list[str]
    regions: list[RegionRow]


class RegionCheck(msgspec.Struct, kw_only=True):
    """What was found at a region; `ok` when nothing of it is a problem."""

    region: str
    ok: bool
    findings: list[Finding]


def list_regions() -> RegionsReport:
    """Return the regions of the settings."""
    config = load_config()
    rows = [
        RegionRow(
            name=name,
            registry=region.host,
            namespace=region.namespace,
            bandwidth=region.rate,
            connections=region.connections,
            quirks=region.quirks or "",
            credentials=_credentials_of(region),
        )
        for name, region in config.regions.items()
    ]
    return RegionsReport(files=[str(path) for path in config.files], regions=rows)


def _credentials_of(region: Region) -> str:
    """Say where a region's credentials come from: a file, `settings`, `acr` for its API, or `docker`."""
    if region.username or region.authfile:
        return region.password_file or region.authfile or "settings"
    return "acr" if region.acr and region.acr.instance_id else "docker"


def check_regions(names: Sequence[str], to: str, access: Access) -> list[RegionCheck]:
    """Look at regions side by side.

    Args:
        names: Of regions, or `ALL`.
        to: The repository whose rights to prove, as `push --regions --to` takes it; empty for none.
        access: What the flags say.

    Raises:
        UsageProblem: The settings are not valid, or have no such region.
    """
    config = load_config()
    return side_by_side(chosen_regions(names, config), to, config, access)


def side_by_side(
    names: Sequence[str], to: Reference | str | None, config: Config, access: Access, shape: Shape | None = None
) -> list[RegionCheck]:
    """Look at the regions, and whether `shape` fits there; one that does not answer delays none of the others."""

    def check(name: str) -> RegionCheck:
        findings: list[Finding] = []
        try:
            if to:
                reference, reaching = place(to, name, config, access)
                registry, repository = reference.registry, reference.path
            else:
                region = config.region(name)
                registry, repository, reaching = region.host, "", reach(region, name, access)
            findings.extend(check_registry(name, registry, repository, reaching, shape=shape))
        except ModelctlError as error:
            findings.append(problem_of(name, "settings", error))
        return RegionCheck(region=name, ok=not any(one.state == "problem" for one in findings), findings=findings)

    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return list(pool.map(check, names))
