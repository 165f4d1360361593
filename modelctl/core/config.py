"""The user's settings: one TOML file, read strictly. What a flag says wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.core.toml import parse_table, parse_toml

VARIABLE = "MODELCTL_CONFIG"

Table = TypeVar("Table")


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A region's registry, `host[:port]`, and the namespace there, which repositories stand under."""

    registry: str
    namespace: str = ""


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster: the region whose registry is next to it, and the image of modelctl that its pods run."""

    region: str = ""
    image: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    regions: Mapping[str, Mapping[str, Any]] = {}
    clusters: Mapping[str, Mapping[str, Any]] = {}


@dataclass(frozen=True)
class Config:
    """The file's tables: `[regions.NAME]`, and `[clusters.CONTEXT]`."""

    regions: Mapping[str, Region] = field(default_factory=dict)
    clusters: Mapping[str, ClusterSettings] = field(default_factory=dict)

    def region(self, name: str) -> Region:
        """Return the region called `name`; `UsageProblem` when the file has none."""
        if name not in self.regions:
            raise UsageProblem(
                f"no region is named {name!r}",
                why=f"{config_path()} describes {', '.join(sorted(self.regions)) or 'none'}",
                hint=f'add [regions.{name}] with registry = "HOST" to it',
            )
        return self.regions[name]

    def cluster(self, context: str) -> ClusterSettings:
        """Return what the file says of the cluster of a kubeconfig's context; nothing is a valid answer."""
        return self.clusters.get(context, ClusterSettings())


def config_path() -> Path:
    """Return where the file is: `MODELCTL_CONFIG`, or `modelctl/config.toml` in the user's configuration."""
    import platformdirs

    return Path(os.environ.get(VARIABLE) or platformdirs.user_config_path("modelctl") / "config.toml")


def load_config() -> Config:
    """Read the settings; none when there is no file and no variable names one.

    Raises:
        NotFound: The file that `MODELCTL_CONFIG` names is not there. UsageProblem: It is not valid; says where.
    """
    path = config_path()
    what = f"settings {path}"
    if not os.environ.get(VARIABLE) and not path.exists():
        return Config()
    with on_disk(what):
        data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageProblem(what, why=f"it is not UTF-8: {error}") from error
    file = parse_toml(text, _File, what)

    def tables(kind: str, found: Mapping[str, Mapping[str, Any]], type_: type[Table]) -> dict[str, Table]:
        return {name: parse_table(text, f"{kind}.{name}", found[name], type_, what) for name in found}

    return Config(tables("regions", file.regions, Region), tables("clusters", file.clusters, ClusterSettings))
