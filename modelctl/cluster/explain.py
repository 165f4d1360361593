"""What a pod's status and events mean: one state, why, and what to do next. Pure.

Source: what kubelet 1.36.3, containerd 2.3.7 and kube-scheduler say; see e2e/kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from modelctl.cluster.labels import Object

_REFUSED = re.compile(r"401|403|unauthorized|authorization failed|access denied|no basic auth", re.IGNORECASE)
_PULL_FAILED = re.compile(r"failed to pull|pull access denied|failed to resolve", re.IGNORECASE)
_LONGEST = 400


class Explained(msgspec.Struct, frozen=True):
    """A pod's state in a word, why it is so, and what to do about it; the last two are empty when all is well."""

    state: str
    why: str = ""
    hint: str = ""


def explain_pod(pod: Object, events: Sequence[Object]) -> Explained:
    """Say how a pod is.

    Args:
        pod: As the API has it.
        events: Of its namespace, in any order; those of others are not looked at.
    """
    if _condition(pod, "Ready").get("status") == "True":
        return Explained("Ready")
    own = [event for event in events if event.get("involvedObject", {}).get("name") == pod["metadata"]["name"]]
    warnings = sorted((event for event in own if event.get("type") == "Warning"), key=_seen)
    for found in (_evicted(pod), _pull_failure(pod, warnings), _unschedulable(pod), _container_failure(pod)):
        if found:
            return found
    return Explained(pod.get("status", {}).get("phase", "Unknown"), _short(warnings[-1]["message"]) if warnings else "")


def _evicted(pod: Object) -> Explained | None:
    status = pod.get("status", {})
    if status.get("reason") != "Evicted":
        return None
    hint = "request the memory of the model's pages, which the kubelet counts as used: modelctl render does"
    return Explained("Evicted", _short(status.get("message", "")), hint)


def _pull_failure(pod: Object, warnings: Sequence[Object]) -> Explained | None:
    said = [event["message"] for event in warnings if event.get("reason") in ("Failed", "FailedMount", "ErrImagePull")]
    said += [state.get("message", "") for state in _waiting(pod) if state.get("reason", "").startswith("ErrImage")]
    pulls = [text for text in said if _PULL_FAILED.search(text)]
    if not pulls:
        return None
    return Explained("ErrImagePull", _short(pulls[-1]), _pull_hint(pod, pulls[-1], warnings))


def _pull_hint(pod: Object, text: str, warnings: Sequence[Object]) -> str:
    if _REFUSED.search(text):
        return _secret_hint(pod, text, warnings)
    for pattern, hint in _PULL_HINTS:
        if re.search(pattern, text, re.IGNORECASE):
            return hint
    return "try the same reference with modelctl verify from where the nodes are"


_PULL_HINTS = (
    (
        "no space left",
        "free the node's disk: a runtime keeps an image's blobs and its snapshots, twice the size of the model",
    ),
    ("not found|manifest unknown", "push it to the registry that the pods name: modelctl push REF REGISTRY/..."),
    ("x509|certificate", "give the nodes' runtime the registry's CA: certs.d/HOST/hosts.toml of containerd"),
    (
        "http: server gave HTTP response",
        "tell the nodes' runtime that the registry has no TLS, in certs.d",
    ),
    ("no such host|dial tcp|timeout", "look from the node whether it reaches the registry's host and port"),
)


def _secret_hint(pod: Object, text: str, warnings: Sequence[Object]) -> str:
    namespace = pod["metadata"].get("namespace", "default")
    named = [secret["name"] for secret in pod["spec"].get("imagePullSecrets", [])]
    found = re.search(r'"?([\w.-]+(?::\d+)?)/[\w./-]+@sha256', text)
    create = (
        f"kubectl -n {namespace} create secret docker-registry {named[0] if named else 'NAME'} "
        f"--docker-server={found[1] if found else 'REGISTRY'} --docker-username=... --docker-password=..."
    )
    if any(event.get("reason") == "FailedToRetrieveImagePullSecret" for event in warnings):
        return f"secret {', '.join(named)} is not in namespace {namespace}: {create}"
    if named:
        return f"what secret {', '.join(named)} holds does not open the registry; delete it and {create}"
    return f"the pod names no pull secret: {create}, and modelctl render --pull-secret NAME"


def _unschedulable(pod: Object) -> Explained | None:
    condition = _condition(pod, "PodScheduled")
    if condition.get("status") != "False":
        return None
    text = condition.get("message", "")
    hints = [hint for pattern, hint in _SCHEDULING_HINTS if re.search(pattern, text)]
    return Explained("Unschedulable", _short(text), "; ".join(hints))


_SCHEDULING_HINTS = (
    (
        "[vV]olume('s)? node affinity",
        "no node that may run it has the files: modelctl node pull there, and label it disk.modelctl.io/...",
    ),
    ("untolerated taint", "tolerate the taint, or free a node of it"),
    ("Insufficient nvidia.com/gpu", "no node has so many GPUs free"),
    ("Insufficient memory", "no node has memory for the engine and the model's pages"),
    ("were unschedulable", "uncordon a node"),
    ("didn't match Pod's node affinity", "--require-warm takes only nodes that are warm: warm one, or leave it out"),
)


def _container_failure(pod: Object) -> Explained | None:
    name = pod["metadata"]["name"]
    for status in pod.get("status", {}).get("containerStatuses", []):
        ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            hint = "raise or drop the memory limit: the model's pages count against it"
            return Explained("OOMKilled", f"container {status['name']} used more memory than it may", hint)
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in ("CrashLoopBackOff", "CreateContainerError", "CreateContainerConfigError"):
            hint = f"kubectl -n {pod['metadata'].get('namespace', 'default')} logs {name} --previous"
            return Explained(waiting["reason"], _short(waiting.get("message", "")), hint)
    return None


def _waiting(pod: Object) -> Iterator[Object]:
    for status in pod.get("status", {}).get("containerStatuses", []):
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            yield waiting


def _condition(pod: Object, kind: str) -> Object:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _seen(event: Object) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."
