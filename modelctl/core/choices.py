"""What a user may choose among, by name: the values of flags."""

from __future__ import annotations

from typing import Literal

Depth = Literal["size", "crc", "full"]
"""How much `verify` reads: nothing but sizes; every file, against its CRCs; every byte, against every digest."""

IfExists = Literal["fail", "skip", "replace"]
"""What to do about a tag that points elsewhere."""

Mode = Literal["image-volume", "pvc"]
"""How pods get a model: the kubelet mounts the artifact as an image, or files that nodes have."""

Engine = Literal["vllm", "sglang", "none"]
"""What serves it; `kube/engine/NAME.yaml`."""

DryRun = Literal["client", "server"]
"""Say what would be done: without asking the cluster to check it, or with."""

PreloadMode = Literal["image", "host"]
"""How nodes get a model: a pod mounts the artifact as an image, or pulls it into a folder of the host."""

RegistryKind = Literal["docker-hub", "ghcr", "ecr", "acr-ee", "acr", "azure", "quay", "distribution"]
"""What kind of registry it is; the row of `registry/quirks.py`."""

TagWhen = Literal["each", "all"]
"""When the tag of a region is set: as soon as the region has all, or once every region has."""
