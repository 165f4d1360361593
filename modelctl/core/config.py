"""The user's settings: one TOML file, read strictly. What a flag says wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.core.toml import parse_table, parse_toml

VARIABLE = "MODELCTL_CONFIG"


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A region's registry, `host[:port]`, and the namespace there, which repositories stand under."""

    registry: str
    namespace: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    regions: Mapping[str, Mapping[str, Any]] = {}


@dataclass(frozen=True)
class Config:
    """The file's tables: `[regions.NAME]`."""

    regions: Mapping[str, Region]

    def region(self, name: str) -> Region:
        """Return the region called `name`; `UsageProblem` when the file has none."""
        if name not in self.regions:
            raise UsageProblem(
                f"no region is named {name!r}",
                why=f"{config_path()} describes {', '.join(sorted(self.regions)) or 'none'}",
                hint=f'add [regions.{name}] with registry = "HOST" to it',
            )
        return self.regions[name]


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
        return Config({})
    with on_disk(what):
        data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageProblem(what, why=f"it is not UTF-8: {error}") from error
    tables = parse_toml(text, _File, what).regions
    return Config({name: parse_table(text, f"regions.{name}", tables[name], Region, what) for name in tables})
