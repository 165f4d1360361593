"""What is different about some registries, as data. The first row whose pattern matches the host counts.

Sources: the vendors' documentation and maintainers' words in their issue trackers; what was measured says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Quirks:
    """How a registry departs from the distribution-spec.

    `address` is the host that answers, when it is not the name; `max_patch` the largest PATCH that is taken [bytes],
    0 for any; `resumes` says whether the status of an upload can be believed; `realms` are the hosts of its tokens
    that share no registrable domain with it.
    """

    pattern: str
    address: str = ""
    max_patch: int = 0
    resumes: bool = True
    realms: tuple[str, ...] = ()


QUIRKS = (
    Quirks("docker.io", address="registry-1.docker.io", realms=("auth.docker.io",)),
    Quirks("ghcr.io", max_patch=4 << 20),
    Quirks("*.dkr.ecr.*.amazonaws.com", resumes=False),
    Quirks("*.dkr.ecr.*.amazonaws.com.cn", resumes=False),
    Quirks("*-registry.*.cr.aliyuncs.com", realms=("dockerauth-ee.*.aliyuncs.com", "dockerauth.*.aliyuncs.com")),
    Quirks("registry*.aliyuncs.com", realms=("dockerauth.*.aliyuncs.com",)),
    Quirks("*"),
)


def quirks_of(host: str) -> Quirks:
    """Return what is known of the registry `host` (without a port)."""
    return next(row for row in QUIRKS if fnmatchcase(host.lower(), row.pattern))
