"""What objects, pods and nodes carry that says what they have to do with a model."""

from __future__ import annotations

from typing import Any

from modelctl.core.types import Digest

Object = dict[str, Any]
"""A Kubernetes object, as YAML and JSON have it."""

DISK_LABEL = "disk.modelctl.io"
"""With the first 16 hex digits of the manifest's digest: a node that has every file on disk, proved."""

WARM_LABEL = "warm.modelctl.io"
"""With the first 16 hex digits of the weights' digest: a node that had every weight in memory when last measured."""

DIGEST_ANNOTATION = "modelctl.io/digest"
"""The manifest's digest, on every object and pod."""

MANAGED = "app.kubernetes.io/managed-by=modelctl"
"""Selects what came out of `render`."""


def short(digest: Digest) -> str:
    """Return the 16 hex digits that stand for a digest in labels and names."""
    return digest.removeprefix("sha256:")[:16]
