"""Whether a node can be preloaded, before anything is created. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from modelctl.cluster.explain import condition_of, one_line
from modelctl.cluster.labels import Object, disk_label
from modelctl.cluster.preloading import Preload
from modelctl.cluster.quantities import mib, parse_quantity

_REQUEST = 64 << 20
"""What a pod that warms requests beside the model's pages [bytes]; see kube/preload."""

_CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_MIB = 1 << 20


class Fit(msgspec.Struct, kw_only=True, frozen=True):
    """Whether a node can be preloaded, and why not.

    What is free on its disk and in its memory is None when its kubelet was not asked or did not say [bytes].
    """

    state: Literal["Fit", "NotReady", "Cordoned", "Tainted", "NoDisk", "NoMemory"]
    why: str = ""
    hint: str = ""
    disk_free: int | None = None
    memory_free: int | None = None


def judge(node: Object, preload: Preload, stats: Object | None) -> Fit:
    """Judge a node.

    Args:
        node: As the API has it.
        preload: What it would get.
        stats: What its kubelet answers to /stats/summary, None when it was not asked or refused.
    """
    disk = _free(stats, "runtime", "imageFs") if preload.mode == "image" else _free(stats, "fs")
    free = {"disk_free": disk, "memory_free": _free(stats, "memory")}
    found = (
        _not_ready(node)
        or _cordoned(node, preload.tolerations)
        or _tainted(node, preload.tolerations)
        or _no_memory(node, preload.size)
        or _no_disk(node, preload, disk)
        or Fit(state="Fit")
    )
    return msgspec.structs.replace(found, **free)


def _not_ready(node: Object) -> Fit | None:
    ready = condition_of(node, "Ready")
    if ready.get("status") == "True":
        return None
    since = ready.get("lastTransitionTime", "")
    why = ": ".join(filter(None, [f"since {since}" if since else "", one_line(ready.get("message", ""))]))
    hint = f"kubectl describe node {_name(node)}"
    return Fit(state="NotReady", why=why or "its kubelet has never said that it is", hint=hint)


def _cordoned(node: Object, tolerations: Sequence[Object]) -> Fit | None:
    if not node.get("spec", {}).get("unschedulable") or _tolerated(_CORDON, tolerations):
        return None
    hint = f"kubectl uncordon {_name(node)}, or --tolerations {_CORDON['key']}:{_CORDON['effect']}"
    return Fit(state="Cordoned", why="new pods are kept from it", hint=hint)


def _tainted(node: Object, tolerations: Sequence[Object]) -> Fit | None:
    taints = [
        taint
        for taint in node.get("spec", {}).get("taints") or []
        if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerated(taint, tolerations)
    ]
    if not taints:
        return None
    written = [_written(taint) for taint in taints]
    hint = f"--tolerations {','.join(written)}"
    return Fit(state="Tainted", why=f"not tolerated: {', '.join(written)}", hint=hint)


def _written(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _tolerated(taint: Object, tolerations: Sequence[Object]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Object, taint: Object) -> bool:
    """Say whether a toleration matches a taint. Source: api core/v1, Toleration.ToleratesTaint."""
    effect, key = toleration.get("effect", ""), toleration.get("key", "")
    if effect not in ("", taint["effect"]) or key not in ("", taint["key"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("value", "") == taint.get("value", ""))


def _no_memory(node: Object, size: int) -> Fit | None:
    allocatable = _quantity(node.get("status", {}).get("allocatable", {}).get("memory"))
    if allocatable is None or allocatable >= size + _REQUEST:
        return None
    why = f"needs {_at_least(size + _REQUEST)} of memory, {mib(allocatable)} are allocatable"
    return Fit(state="NoMemory", why=why, hint="choose nodes with more memory")


def _no_disk(node: Object, preload: Preload, free: int | None) -> Fit | None:
    """A runtime keeps the blobs of an image, and what it unpacked of them: twice the size."""
    needed = preload.size * (2 if preload.mode == "image" else 1)
    if free is None or free >= needed or _is_there(node, preload):
        return None
    place = "of the runtime's disk" if preload.mode == "image" else "of the kubelet's disk"
    why = f"needs {_at_least(needed)} {place}, {mib(free)} are free"
    twice = "; --mode host needs half of it" if preload.mode == "image" else ""
    return Fit(state="NoDisk", why=why, hint=f"free some on node {_name(node)}{twice}")


def _is_there(node: Object, preload: Preload) -> bool:
    if preload.mode == "host":
        return disk_label(preload.digest) in node["metadata"].get("labels", {})
    images = node.get("status", {}).get("images") or []
    return any(preload.reference in (image.get("names") or []) for image in images)


def _free(stats: Any, *path: str) -> int | None:
    """Return `availableBytes` of a part of the node's statistics; None when the kubelet does not say it."""
    found = stats
    for name in ("node", *path, "availableBytes"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int) else None


def _quantity(text: Any) -> int | None:
    try:
        return parse_quantity(text)
    except ValueError:
        return None


def _at_least(size: int) -> str:
    return mib(size + _MIB - 1)


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])
