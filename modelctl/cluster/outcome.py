"""What a pod that preloads, holds or removes a model says of it. Pure.

A termination message is what a container left: it may be anything, and proves only what it states in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from modelctl.cluster.explain import (
    Explained,
    condition_of,
    explain_end,
    explain_pod,
    one_line,
    secret_hint,
    statuses_of,
)
from modelctl.cluster.fit import judge
from modelctl.cluster.labels import Object, component_of
from modelctl.cluster.preloading import Preload
from modelctl.cluster.quantities import mib, parse_quantity
from modelctl.core.errors import Denied, NotFound, Partial
from modelctl.core.learned import learned

_TAIL = 300
_MAIN = {"preload": "warm", "hold": "hold", "remove": "remove"}
_LIMIT_RANGER = "kubernetes.io/limit-ranger"


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """How far a pod is.

    `disk` and `warm` say what it has proved: every file of the digest in the host's folder, and every byte in memory.
    `size` and `resident` are what it measured, else the model's size and 0 [bytes].
    """

    state: Literal["Waiting", "Pulling", "Warming", "Removing", "Warm", "Removed", "Failed"]
    disk: bool = False
    warm: bool = False
    size: int = 0
    resident: int = 0
    why: str = ""
    hint: str = ""


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    what: str = ""
    why: str = ""
    hint: str = ""


class _Words(msgspec.Struct, frozen=True):
    """What `node warm` and `node pull` leave; sizes in bytes."""

    table: str = ""
    digest: str = ""
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    resident: Annotated[int, msgspec.Meta(ge=0)] = 0
    error: _Error | None = None


@dataclass(frozen=True)
class _End:
    """How a container ended: its exit status, the runtime's reason, what it left, and that as `_Words` if it is."""

    container: str
    status: int
    reason: str
    text: str
    words: _Words | None


def outcome(pod: Object, events: Sequence[Object], preload: Preload, node: Object | None = None) -> Outcome:
    """Say how far a pod is, and in one line what keeps it from going on.

    Args:
        pod: One that `preloading` made, as the API has it.
        events: Of its namespace, in any order.
        preload: What the pod was made from.
        node: The one that it is for, if known: a scheduler does not say which taint keeps a pod from it.
    """
    ends = {end.container: end for end in map(_ended, statuses_of(pod)) if end}
    component = component_of(pod)
    disk = preload.mode == "host" and component != "remove" and _pulled(ends.get("pull"), preload)
    last = ends.get(_MAIN[component])
    if component == "remove" and last and last.status in (0, NotFound.exit_status):
        return Outcome(state="Removed")
    if component == "hold" and condition_of(pod, "Ready").get("status") == "True":
        ready = _Words(table=preload.table, size=preload.size, resident=preload.size)
        return _measured(ready, preload, disk=disk)
    if component == "preload" and last and last.status == 0:
        return _measured(last.words, preload, disk=disk)
    if _is_over(pod, ends):
        return _failed(pod, list(ends.values()), preload, disk=disk)
    return _under_way(pod, events, preload, node, disk=disk)


def _ended(status: Object) -> _End | None:
    """Return how a container ended; one that was started again has not."""
    state = status.get("state", {})
    last = status.get("lastState", {}).get("terminated") if "waiting" in state else None
    terminated = state.get("terminated") or last
    if not terminated:
        return None
    text = terminated.get("message", "")
    return _End(status["name"], terminated["exitCode"], terminated.get("reason", ""), text, _words(text))


def _words(text: str) -> _Words | None:
    try:
        return msgspec.json.decode(text.encode(errors="replace"), type=learned(_Words))
    except (msgspec.DecodeError, RecursionError):
        return None


def _pulled(end: _End | None, preload: Preload) -> bool:
    words = end.words if end and end.status == 0 else None
    return bool(words and words.digest == preload.digest and not words.error)


def _measured(words: _Words | None, preload: Preload, *, disk: bool) -> Outcome:
    """Judge a container that says, by its exit status or by being ready, that all is in memory."""
    wrong = _contradiction(words, preload, disk=disk)
    if words is None or wrong:
        hint = "is --image the modelctl that you run here?"
        return Outcome(state="Failed", disk=disk, size=preload.size, why=wrong, hint=hint)
    return Outcome(state="Warm", disk=disk, warm=True, size=words.size, resident=words.resident)


def _contradiction(words: _Words | None, preload: Preload, *, disk: bool) -> str:
    if words is None or words.error:
        return "it ended well, and did not say what is in memory"
    if preload.mode == "image" and words.table != preload.table:
        return f"it proved the files by table {one_line(words.table)!r}; {preload.table} was expected"
    if preload.mode == "host" and not disk:
        return f"it did not say that {preload.digest} is on disk"
    if not 0 < words.size == words.resident:
        return f"it ended well with {words.resident} of {words.size} bytes in memory"
    return ""


def _is_over(pod: Object, ends: dict[str, _End]) -> bool:
    failed = pod.get("status", {}).get("phase") == "Failed" or any(end.status for end in ends.values())
    return failed or explain_end(pod) is not None or "deletionTimestamp" in pod["metadata"]


def _failed(pod: Object, ends: Sequence[_End], preload: Preload, *, disk: bool) -> Outcome:
    end = next((end for end in ends if end.status), None)
    words = end.words if end else None
    explained = explain_end(pod) or (_explain(pod, end, preload) if end else Explained("Failed", "it is being deleted"))
    return Outcome(
        state="Failed",
        disk=disk,
        size=words.size if words and words.resident else preload.size,
        resident=words.resident if words else 0,
        why=explained.why,
        hint=explained.hint,
    )


def _explain(pod: Object, end: _End, preload: Preload) -> Explained:
    """Say why a container failed: what capped its memory, else what it left, else how it ended."""
    error = end.words.error if end.words else None
    if end.reason == "OOMKilled" or (error and error.code == Partial.code):
        capped = _capped(pod, end.container, preload)
        if capped:
            return capped
    if error:
        refused = error.code == Denied.code and preload.repository.partition("/")[0] in f"{error.what} {error.why}"
        hint = secret_hint(pod, preload.repository.partition("/")[0]) if refused else one_line(error.hint)
        return Explained("Failed", one_line(": ".join(filter(None, (error.what, error.why)))), hint)
    if end.reason == "OOMKilled":
        return Explained(
            "Failed", f"container {end.container} was killed: out of memory", "the node has too little memory"
        )
    tail = one_line(end.text[-_TAIL:])
    why = f"container {end.container} ended with status {end.status}" + (f": {tail}" if tail else "")
    return Explained("Failed", why, _logs(pod, end.container))


def _logs(pod: Object, container: str) -> str:
    metadata = pod["metadata"]
    return f"kubectl -n {metadata['namespace']} logs {metadata['name']} -c {container}"


def _capped(pod: Object, name: str, preload: Preload) -> Explained | None:
    """Say who gave a container less memory than the model takes, if anybody did: our templates set no limit."""
    containers = {one["name"]: one for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]}
    limit = containers.get(name, {}).get("resources", {}).get("limits", {}).get("memory")
    if limit is None or parse_quantity(limit) >= preload.size:
        return None
    namespace = pod["metadata"]["namespace"]
    ranged = _LIMIT_RANGER in pod["metadata"].get("annotations", {})
    who = f"a LimitRange of namespace {namespace}" if ranged else "somebody"
    return Explained(
        "Capped",
        f"{who} gave container {name} a memory limit of {mib(parse_quantity(limit))}; the model's {mib(preload.size)} "
        "count against it",
        f"kubectl -n {namespace} describe limitrange: raise its default, or -n names a namespace without one",
    )


def _under_way(pod: Object, events: Sequence[Object], preload: Preload, node: Object | None, *, disk: bool) -> Outcome:
    component = component_of(pod)
    running = [status["name"] for status in statuses_of(pod) if "running" in status.get("state", {})]
    refused = _refused_by(node, preload)
    silent = refused if refused and refused.state == "NotReady" else None
    capped = _capped(pod, _MAIN[component], preload)
    if _MAIN[component] in running:
        state: Literal["Removing", "Warming"] = "Removing" if component == "remove" else "Warming"
        trouble = silent or capped or _earlier(pod, preload)
        return Outcome(state=state, disk=disk, size=preload.size, why=trouble.why, hint=trouble.hint)
    if not pod["spec"].get("nodeName"):
        trouble = refused or explain_pod(pod, events)
        return Outcome(state="Waiting", disk=disk, size=preload.size, why=trouble.why, hint=trouble.hint)
    trouble = silent or (Explained("Running") if running else explain_pod(pod, events))
    trouble = trouble if trouble.why or not capped else capped
    return Outcome(state="Pulling", disk=disk, size=preload.size, why=trouble.why, hint=trouble.hint)


def _refused_by(node: Object | None, preload: Preload) -> Explained | None:
    """Say which taint, cordon or silence of its node keeps a pod from it."""
    if node is None:
        return None
    fit = judge(node, preload, None)
    return Explained(fit.state, fit.why, fit.hint) if fit.state in ("NotReady", "Cordoned", "Tainted") else None


def _earlier(pod: Object, preload: Preload) -> Explained:
    """Say how a container that was started again had ended."""
    for status in statuses_of(pod):
        again = {"name": status["name"], "state": {"terminated": status.get("lastState", {}).get("terminated")}}
        end = _ended(again)
        if end and end.status:
            return _explain(pod, end, preload)
    return Explained("Running")
