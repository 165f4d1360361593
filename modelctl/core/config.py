"""The user's settings: TOML files, read strictly. What a flag says wins.

The user's file says everything. A project's says where things go and how fast, never who the user is or whom to
trust: it comes with a checkout, from whoever wrote that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelctl.core.choices import RegistryKind
from modelctl.core.disk import on_disk
from modelctl.core.errors import UsageProblem
from modelctl.core.rates import parse_rate
from modelctl.core.settings_file import SettingsFile, read_settings, strings_in

VARIABLE = "MODELCTL_CONFIG"
PROJECT = ".modelctl.toml"

_OF_PROJECTS = {
    "regions": ("registry", "acr", "namespace", "bandwidth", "connections", "quirks"),
    "clusters": ("region",),
}
"""The keys that a project's file may have."""

_PATHS = ("password_file", "authfile", "ca_file", "client_cert", "client_key")
_LABEL = r"^[a-z0-9][a-z0-9-]*$"


class Acr(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instance of Alibaba Cloud's Container Registry, Enterprise Edition.

    With `instance_id` its API gives the login, unless the region says who the user is.
    """

    instance_name: Annotated[str, Meta(pattern=_LABEL)]
    region: Annotated[str, Meta(pattern=_LABEL, examples=["cn-hangzhou"])]
    instance_id: Annotated[
        str, Meta(examples=["cri-xxxxxxxxxxxxxxxx"], description="Temporary credentials are asked for it.")
    ] = ""
    vpc: Annotated[bool, Meta(description="Use the endpoint inside the VPC.")] = False

    @property
    def host(self) -> str:
        """Source: ACR, "Configure access over VPCs" and "Configure access over the Internet"."""
        return f"{self.instance_name}-registry{'-vpc' if self.vpc else ''}.{self.region}.cr.aliyuncs.com"


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A region's registry, how to reach it, and the namespace there, which repositories stand under."""

    registry: Annotated[str, Meta(description="HOST[:PORT]; not needed with an `acr` whose host is its own.")] = ""
    namespace: str = ""
    acr: Acr | None = None
    username: str = ""
    password: Annotated[str, Meta(examples=["${HANGZHOU_PASSWORD}"])] = ""
    password_file: str = ""
    authfile: Annotated[str, Meta(description="Credentials, in docker's config format.")] = ""
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    trust_realm: Annotated[tuple[str, ...], Meta(description="Token realms that may see the credentials.")] = ()
    plain_http: bool = False
    insecure: bool = False
    bandwidth: Annotated[str, Meta(description="The most that goes there a second.", examples=["2Gbit", "250MB"])] = ""
    connections: Annotated[int, Meta(ge=0, le=256, description="The most at once; 0 for what --jobs says.")] = 0
    quirks: RegistryKind | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; msgspec makes errors of the file of it."""
        if not self.registry and not self.acr:
            raise ValueError("expected `registry` or `acr`")
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("expected `username` with `password` or `password_file` - at `$.username`")
        if self.password and self.password_file:
            raise ValueError("expected either `password` or `password_file` - at `$.password_file`")
        if self.authfile and self.username:
            raise ValueError("expected either `authfile` or `username` - at `$.authfile`")
        try:
            parse_rate(self.bandwidth or "1B")
        except ValueError as error:
            raise ValueError(f"{error} - at `$.bandwidth`") from error

    def __repr__(self) -> str:
        return f"Region({self.host!r}, {self.namespace!r})"

    @property
    def host(self) -> str:
        return self.registry or (self.acr.host if self.acr else "")

    @property
    def rate(self) -> float:
        """The most that may go there [bytes/s]; 0 for any."""
        return parse_rate(self.bandwidth) if self.bandwidth else 0.0


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster: the region whose registry is next to it, and the image of modelctl that its pods run."""

    region: str = ""
    image: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of modelctl."""

    regions: Mapping[str, Region] = {}
    clusters: Annotated[Mapping[str, ClusterSettings], Meta(description="By context of the kubeconfig.")] = {}


@dataclass(frozen=True)
class Config:
    """The files' tables: `[regions.NAME]`, and `[clusters.CONTEXT]`.

    `files` were read; `unset` says of a region that it needs a variable which is not set.
    """

    regions: Mapping[str, Region] = field(default_factory=dict)
    clusters: Mapping[str, ClusterSettings] = field(default_factory=dict)
    files: Sequence[Path] = field(default=(), compare=False)
    unset: Mapping[str, UsageProblem] = field(default_factory=dict, compare=False)

    def region(self, name: str) -> Region:
        """Return the region called `name`; `UsageProblem` when there is none, or a variable of it is not set."""
        if name not in self.regions:
            raise UsageProblem(
                f"no region is named {name!r}",
                why=f"{self.place} describes {', '.join(sorted(self.regions)) or 'none'}",
                hint=f'add [regions.{name}] with registry = "HOST" to it',
            )
        if name in self.unset:
            raise self.unset[name]
        return self.regions[name]

    def cluster(self, context: str) -> ClusterSettings:
        """Return what the files say of the cluster of a kubeconfig's context; nothing is a valid answer."""
        return self.clusters.get(context, ClusterSettings())

    @property
    def place(self) -> str:
        """Where the settings are, for an error."""
        return " and ".join(map(str, self.files)) or str(config_path())


def config_path() -> Path:
    """Return where the file is: `MODELCTL_CONFIG`, or `modelctl/config.toml` in the user's configuration."""
    import platformdirs

    return Path(os.environ.get(VARIABLE) or platformdirs.user_config_path("modelctl") / "config.toml")


def project_path() -> Path | None:
    """Return where the project's file is: in the working directory, or above it up to the repository's root."""
    with on_disk(f"{PROJECT} of the working directory"):
        here = Path.cwd()
        folders = [here, *here.parents]
        root = next((folder for folder in folders if (folder / ".git").exists()), here)
        within = folders[: folders.index(root) + 1]
        found = [folder / PROJECT for folder in within if (folder / PROJECT).is_file()]
    return found[0] if found else None


def load_config() -> Config:
    """Read the settings; none when there is no file and no variable names one.

    Raises:
        NotFound: The file that `MODELCTL_CONFIG` names is not there. UsageProblem: One is not valid; says where.
    """
    path, project = config_path(), project_path()
    user = read_settings(path) if os.environ.get(VARIABLE) or path.exists() else None
    config = _of_user(user) if user else Config()
    return _with_project(config, read_settings(project)) if project else config


def _of_user(file: SettingsFile) -> Config:
    regions: dict[str, Region] = {}
    unset: dict[str, UsageProblem] = {}
    for name, written in file.tables("regions").items():
        table, problem = file.expand("regions", name, written)
        try:
            regions[name] = file.parse("regions", name, _anchored(table, file.path.parent), Region)
        except UsageProblem as error:
            raise (problem or error) from error
        if problem:
            unset[name] = problem
    clusters = {}
    for name, written in file.tables("clusters").items():
        table, problem = file.expand("clusters", name, written)
        if problem:
            raise problem
        clusters[name] = file.parse("clusters", name, table, ClusterSettings)
    return Config(regions, clusters, [file.path], unset)


def _anchored(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make paths begin at the file's folder, or at home where they begin with `~`."""
    return {
        key: str(folder / Path(value).expanduser()) if key in _PATHS and isinstance(value, str) and value else value
        for key, value in table.items()
    }


def _with_project(config: Config, file: SettingsFile) -> Config:
    """Put the project's tables over the user's, by key; see `_merged`."""
    regions, clusters, unset = dict(config.regions), dict(config.clusters), dict(config.unset)
    for name, table in file.tables("regions").items():
        _check_project(file, "regions", name, table)
        merged = _merged(file, name, table, regions.get(name))
        if name in regions and merged.host != regions[name].host:
            unset.pop(name, None)
        regions[name] = merged
    for name, table in file.tables("clusters").items():
        _check_project(file, "clusters", name, table)
        ours = file.parse("clusters", name, table, ClusterSettings)
        clusters[name] = msgspec.structs.replace(clusters.get(name, ours), region=ours.region)
    return Config(regions, clusters, [*config.files, file.path], unset)


def _check_project(file: SettingsFile, kind: str, name: str, table: Mapping[str, Any]) -> None:
    """Refuse in a project's file what could send the user's secrets, or trust, to a place that the project chose."""
    known = Region if kind == "regions" else ClusterSettings
    hint = f"put it into {config_path()}, or a file that {VARIABLE} names"
    if isinstance(table.get("acr"), Mapping) and "instance_id" in table["acr"]:
        raise file.refused(kind, name, "acr", why="a project's file may not say its instance_id", hint=hint)
    for key, value in table.items():
        if key in known.__struct_fields__ and key not in _OF_PROJECTS[kind]:
            raise file.refused(kind, name, key, why="a project's file may not say this", hint=hint)
        if any("${" in text for text in strings_in(value)):
            raise file.refused(kind, name, key, why="a project's file may not read the environment", hint=hint)


def _merged(file: SettingsFile, name: str, table: Mapping[str, Any], user: Region | None) -> Region:
    """Return the project's region over the user's of that name.

    What the user says of credentials and trust is for the registry that the user named: where the project names
    another, nothing of it is left.
    """
    where = {"registry", "acr"}
    whole = table if where & table.keys() or not user else {**table, "registry": user.host}
    ours = file.parse("regions", name, whole, Region)
    if not user or ours.host != user.host:
        return ours
    return msgspec.structs.replace(user, **{key: getattr(ours, key) for key in table.keys() - where})


def render_schema() -> str:
    """Return the JSON schema of the user's file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Settings)}
    return json.dumps(schema, indent=2) + "\n"
