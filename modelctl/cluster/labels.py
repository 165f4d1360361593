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

REFERENCE_ANNOTATION = "modelctl.io/reference"
"""Where pods get the model from."""

NODE_ANNOTATION = "modelctl.io/node"
"""The name of the node that a Job and its pods are for."""

MODEL_LABEL = "modelctl.io/model"
"""The first 16 hex digits of the manifest's digest, on what `preload` and `unload` create."""

COMPONENT_LABEL = "app.kubernetes.io/component"
"""What such an object does: preload, hold or remove."""

MANAGED = "app.kubernetes.io/managed-by=modelctl"
"""Selects what came out of `render`, `preload` and `unload`."""


def component_of(found: Object) -> str:
    """Return what an object or pod does, empty when it does not say."""
    return str((found["metadata"].get("labels") or {}).get(COMPONENT_LABEL, ""))


def node_of(found: Object) -> str:
    """Return the node that a Job or its pod is for, or that a pod runs on; empty when there is none yet."""
    annotations = found["metadata"].get("annotations") or {}
    return str(annotations.get(NODE_ANNOTATION) or found["spec"].get("nodeName", ""))


def short(digest: Digest) -> str:
    """Return the 16 hex digits that stand for a digest in labels and names."""
    return digest.removeprefix("sha256:")[:16]


def disk_label(digest: Digest) -> str:
    """Return the label of a node that has every file of a manifest on disk, proved."""
    return f"{DISK_LABEL}/{short(digest)}"


def warm_label(weights: Digest) -> str:
    """Return the label of a node that has a set of weights in memory."""
    return f"{WARM_LABEL}/{short(weights)}"
