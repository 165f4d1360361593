"""Where a repository is in a region: its registry, and the namespace there before the name."""

from __future__ import annotations

from dataclasses import replace

from modelctl.core.config import Config, config_path
from modelctl.core.errors import UsageProblem
from modelctl.core.reference import Reference, parse_reference


def in_region(reference: Reference, name: str, config: Config) -> Reference:
    """Return where the artifact of `reference` is in the region `name`.

    Raises:
        UsageProblem: The settings have no such region, or what they say of it makes no reference.
    """
    region = config.region(name)
    path = f"{region.namespace}/{reference.path}" if region.namespace else reference.path
    try:
        return parse_reference(str(replace(reference, registry=region.registry, path=path)))
    except UsageProblem as error:
        why = f"{config_path()} says registry {region.registry[:200]!r}, namespace {region.namespace[:200]!r}"
        raise UsageProblem(f"region {name}", why=why, hint='registry = "HOST[:PORT]"') from error
