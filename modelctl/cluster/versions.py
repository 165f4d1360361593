"""What a version of Kubernetes can mount.

Source: kubernetes v1.36.3, pkg/features/kube_features.go, ImageVolume; KEP-4639 for subPath, which beta brought.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelctl.core.errors import UsageProblem

GATE = "ImageVolume"


@dataclass(frozen=True, order=True)
class KubeVersion:
    """A minor version of Kubernetes."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


_ALPHA, _BETA, _ON = KubeVersion(1, 31), KubeVersion(1, 33), KubeVersion(1, 35)


def parse_kube_version(text: str) -> KubeVersion:
    """Parse `1.36`, `v1.36` or what `kubectl version` says, such as `v1.36.3-aliyun.1`; `UsageProblem` otherwise."""
    found = re.fullmatch(r"v?(\d{1,2})\.(\d{1,3})\+?([.+-].*)?", text)
    if not found:
        raise UsageProblem(f"not a version of Kubernetes: {text[:50]!r}", why="expected one like 1.36")
    return KubeVersion(int(found[1]), int(found[2]))


def why_no_image_volume(version: KubeVersion, *, gate: bool, sub_path: bool) -> str:
    """Return why pods of this version cannot mount an image, or nothing when they can.

    Args:
        version: The cluster's.
        gate: Whether its feature gate ImageVolume was turned on.
        sub_path: Whether a folder of the image is to be mounted.
    """
    if version < _ALPHA:
        return f"Kubernetes {version} has no image volumes; 1.31 brought them"
    if version < _ON and not gate:
        return f"in Kubernetes {version} the feature gate {GATE} is off unless somebody turns it on"
    if sub_path and version < _BETA:
        return f"image volumes of Kubernetes {version} have no subPath; 1.33 brought it"
    return ""


def why_image_volume(version: KubeVersion) -> str:
    """Return why they can."""
    on = version >= _ON
    return f"Kubernetes {version} mounts images" + ("" if on else f" where {GATE} is on")
