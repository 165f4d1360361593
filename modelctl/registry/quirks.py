"""What is different about some registries, as data. The first row whose pattern matches the host counts.

Sources: the vendors' documentation and maintainers' words in their issue trackers; what was measured says so.
Of limits: AWS, "Amazon ECR service quotas" and "Amazon ECR Public service quotas", and for the count of layers its
"service limits" of 2016, which openai/tart#890 met in 2024; GitHub, "Working with the Container registry"; Microsoft,
"Azure Container Registry SKU features and limits"; Red Hat, "Configure Red Hat Quay" (MAXIMUM_LAYER_SIZE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from modelctl.core.choices import RegistryKind
from modelctl.core.types import MAX_DOCUMENT_SIZE

_GIB = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """How a registry departs from the distribution-spec, and the most that it takes.

    `address` is the host that answers, when it is not the name; `max_patch` the largest PATCH that is taken [bytes],
    0 for any; `resumes` says whether the status of an upload can be believed; `realms` are the hosts of its tokens
    that share no registrable domain with it. `max_layer` is the largest blob [bytes] and `max_layers` the most of a
    manifest, 0 for no limit that is known; `max_upload_s` is how long one upload may take [s], 0 for any.
    """

    kind: RegistryKind = "distribution"
    pattern: str = ""
    address: str = ""
    max_patch: int = 0
    resumes: bool = True
    realms: tuple[str, ...] = ()
    max_layer: int = 0
    max_layers: int = 0
    max_manifest: int = MAX_DOCUMENT_SIZE
    max_upload_s: int = 0


_ECR = Quirks(kind="ecr", resumes=False, max_layer=52_000 * _MIB, max_layers=127)

QUIRKS = (
    Quirks(kind="docker-hub", pattern="docker.io", address="registry-1.docker.io", realms=("auth.docker.io",)),
    Quirks(kind="ghcr", pattern="ghcr.io", max_patch=4 << 20, max_layer=10 * 10**9, max_upload_s=600),
    replace(_ECR, pattern="*.dkr.ecr.*.amazonaws.com"),
    replace(_ECR, pattern="*.dkr.ecr.*.amazonaws.com.cn"),
    replace(_ECR, pattern="public.ecr.aws", max_layer=10_000 * _MIB),
    Quirks(
        kind="acr-ee",
        pattern="*-registry*.*.cr.aliyuncs.com",
        realms=("dockerauth-ee.*.aliyuncs.com", "dockerauth.*.aliyuncs.com"),
    ),
    Quirks(kind="acr", pattern="registry*.aliyuncs.com", realms=("dockerauth.*.aliyuncs.com",)),
    Quirks(kind="azure", pattern="*.azurecr.io", max_layer=200 * _GIB),
    Quirks(kind="quay", pattern="quay.io", max_layer=20 * _GIB),
    Quirks(pattern="*"),
)


def quirks_of(host: str, kind: str = "") -> Quirks:
    """Return what is known of the registry `host` (without a port), or of the `kind` of registry that it is said to be.

    A row that is said does not lead to another host.
    """
    if kind:
        return replace(next(row for row in QUIRKS if row.kind == kind), address="")
    return next(row for row in QUIRKS if fnmatchcase(host.lower(), row.pattern))
