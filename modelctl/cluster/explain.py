"""What a pod's status and events mean: one state, why, and what to do next. Pure.

Source: what kubelet 1.36.3, containerd 2.3.7 and kube-scheduler say; see e2e/kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from modelctl.cluster.labels import COMPONENT_LABEL, Object

_REFUSED = re.compile(r"\b40[13]\b|unauthorized|authorization failed|access denied|no basic auth", re.IGNORECASE)
_PULL_FAILED = re.compile(r"failed to pull|pull access denied|failed to resolve", re.IGNORECASE)
_IMAGE = re.compile(r'image "([^"]+)"')
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
    if condition_of(pod, "Ready").get("status") == "True":
        return Explained("Ready")
    own = _events_of(pod["metadata"]["name"], events)
    warnings = [event for event in own if event.get("type") == "Warning" and not _is_past(event, pod, own)]
    for found in (
        explain_end(pod),
        _pull_failure(pod, warnings),
        _mount_failure(pod, warnings),
        _unschedulable(pod),
        _container_failure(pod),
    ):
        if found:
            return found
    return Explained(pod.get("status", {}).get("phase", "Unknown"), _last(warnings))


def explain_job(name: str, events: Sequence[Object]) -> Explained:
    """Say why a Job or a DaemonSet has no pod.

    Args:
        name: Its own.
        events: Of its namespace, in any order; those of others are not looked at.
    """
    refused = [event for event in _events_of(name, events) if event.get("reason") == "FailedCreate"]
    if not refused:
        return Explained("Waiting")
    text = refused[-1].get("message", "")
    namespace = refused[-1]["involvedObject"].get("namespace", "default")
    hints = [hint for pattern, hint in _CREATION_HINTS if re.search(pattern, text)]
    return Explained("FailedCreate", one_line(text), hints[0].replace("NAMESPACE", namespace) if hints else "")


_CREATION_HINTS = (
    (
        "violates PodSecurity",
        "--mode host needs a namespace of its own: leave -n out, or "
        "kubectl label namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged",
    ),
    (
        "failed quota.*must specify.*limits.memory",
        "the quota demands a memory limit, which would throw the model out of memory: -n names another namespace",
    ),
    ("quota", "kubectl -n NAMESPACE describe quota says what is used: free some, or -n names another namespace"),
    ("usage per (Container|Pod)|memory limit", "kubectl -n NAMESPACE describe limitrange says what pods may have"),
    ("serviceaccount .*not found", "--service-account names one of namespace NAMESPACE"),
    ("admission webhook", "a policy of the cluster refuses such pods: ask who runs it, or -n names another namespace"),
)


def explain_end(pod: Object) -> Explained | None:
    """Say who ended a pod from outside, if anybody did."""
    status = pod.get("status", {})
    reason, message = status.get("reason", ""), one_line(status.get("message", ""))
    disruption = condition_of(pod, "DisruptionTarget")
    if reason == "Evicted":
        return Explained(reason, message, _eviction_hint(pod, message))
    if reason in _ENDS:
        return Explained(reason, message, _ENDS[reason].replace("NODE", _node(pod)))
    if disruption.get("status") == "True":
        hint = _ENDS.get(disruption.get("reason", ""), "").replace("NODE", _node(pod))
        return Explained("Disrupted", one_line(disruption.get("message", "")), hint)
    return Explained(reason, message) if reason and status.get("phase") == "Failed" else None


def _eviction_hint(pod: Object, message: str) -> str:
    if not _is_ours(pod):
        return "request the memory of the model's pages, which the kubelet counts as used: modelctl render does"
    lacking = "memory" if "memory" in message else "disk"
    return f"node {_node(pod)} lacks {lacking}: free some of it there, or leave the node out"


_ENDS = {
    "DeadlineExceeded": "the same command with a longer --timeout goes on where it ended",
    "NodeLost": "kubectl describe node NODE; it goes on when the node is back",
    "DeletionByTaintManager": "kubectl describe node NODE: it does not answer, or has a NoExecute taint",
    "DeletionByPodGC": "kubectl get node NODE: it is gone, or was given up",
    "EvictionByEvictionAPI": "node NODE is being drained: wait, or leave it out",
    "PreemptionByScheduler": "a pod of higher priority took its place on node NODE",
    "TerminationByKubelet": "kubectl describe node NODE: it is shutting down, or lacks something",
}
"""What to do after a pod's end, by the reason that it states, or its condition DisruptionTarget."""


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def _is_ours(pod: Object) -> bool:
    """Say whether a pod preloads or holds, rather than serves."""
    return COMPONENT_LABEL in pod["metadata"].get("labels", {})


def _pull_failure(pod: Object, warnings: Sequence[Object]) -> Explained | None:
    said = [event["message"] for event in warnings if event.get("reason") in ("Failed", "FailedMount", "ErrImagePull")]
    said += [state.get("message", "") for state in _waiting(pod) if "Image" in state.get("reason", "")]
    pulls = [text for text in said if _PULL_FAILED.search(text)]
    if not pulls:
        return None
    return Explained("ErrImagePull", one_line(pulls[-1]), _pull_hint(pod, pulls[-1], warnings))


def _pull_hint(pod: Object, text: str, warnings: Sequence[Object]) -> str:
    container = _whose_image(pod, text)
    if _REFUSED.search(text):
        found = re.search(r'"?([\w.-]+(?::\d+)?)/[\w./-]+[@:]', text)
        missing = any(event.get("reason") == "FailedToRetrieveImagePullSecret" for event in warnings)
        return secret_hint(pod, found[1] if found else "REGISTRY", missing=missing)
    for pattern, hint in _PULL_HINTS:
        if re.search(pattern, text, re.IGNORECASE) and not (container and "not found" in pattern):
            return hint
    if container:
        return f"it is the image of container {container}, not the model: --image names another"
    return "try the same reference with modelctl verify from where the nodes are"


def _whose_image(pod: Object, text: str) -> str:
    """Return the container whose image a message names; the model's stands in no container."""
    found = _IMAGE.search(text)
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"].get("containers", [])]
    names = [
        one["name"] for one in containers if found and found[1] in (one.get("image"), f"{one.get('image')}:latest")
    ]
    return str(names[0]) if names else ""


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


def secret_hint(pod: Object, registry: str, *, missing: bool = False) -> str:
    """Say what to do about a registry that refuses a pod; `missing` when the secret that it names is not there."""
    namespace = pod["metadata"].get("namespace", "default")
    named = [secret["name"] for secret in pod["spec"].get("imagePullSecrets", [])]
    create = (
        f"kubectl -n {namespace} create secret docker-registry {named[0] if named else 'NAME'} "
        f"--docker-server={registry} --docker-username=... --docker-password=..."
    )
    if missing:
        return f"secret {', '.join(named)} is not in namespace {namespace}: {create}"
    if named:
        return f"what secret {', '.join(named)} holds does not open the registry; delete it and {create}"
    command = "modelctl preload" if _is_ours(pod) else "modelctl render"
    return f"the pod names no pull secret: {create}, and {command} --pull-secret NAME"


def _mount_failure(pod: Object, warnings: Sequence[Object]) -> Explained | None:
    failed = [event["message"] for event in warnings if event.get("reason") == "FailedMount"]
    found = re.search(_NOT_MOUNTED, failed[-1]) if failed else None
    if not found:
        return None
    return Explained("FailedMount", one_line(failed[-1]), secret_hint(pod, "REGISTRY", missing=True))


_NOT_MOUNTED = r'secret "[^"]+" not found|references non-existent secret key'


def _unschedulable(pod: Object) -> Explained | None:
    condition = condition_of(pod, "PodScheduled")
    if condition.get("status") != "False":
        return None
    text = condition.get("message", "")
    known = _PRELOAD_HINTS if _is_ours(pod) else _SCHEDULING_HINTS
    hints = [hint for pattern, hint in known if re.search(pattern, text)]
    return Explained("Unschedulable", one_line(text), "; ".join(hints))


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

_PRELOAD_HINTS = (
    ("untolerated taint", "--tolerations KEY=VALUE:EFFECT tolerates the node's taint"),
    ("were unschedulable", "kubectl uncordon the node, or --tolerations node.kubernetes.io/unschedulable:NoSchedule"),
    ("Insufficient memory", "the node's pods request its memory: free some of it, or leave the node out"),
    ("Insufficient cpu", "the node's pods request all of its CPUs: free a tenth of one, or leave the node out"),
    ("Too many pods", "the node runs as many pods as it may: end one, or leave the node out"),
    (
        r"available: \d+ node\(s\) didn't (satisfy plugin|match Pod's node affinity)[^,]*$",
        "the node is not there any more",
    ),
)
"""For a pod that may run on one node only: of the others it is always said that they do not match."""


def _container_failure(pod: Object) -> Explained | None:
    name = pod["metadata"]["name"]
    for status in statuses_of(pod):
        ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            hint = "raise or drop the memory limit: the model's pages count against it"
            return Explained("OOMKilled", f"container {status['name']} used more memory than it may", hint)
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in ("CrashLoopBackOff", "CreateContainerError", "CreateContainerConfigError"):
            of = f" -c {status['name']}" if _is_ours(pod) else ""
            hint = f"kubectl -n {pod['metadata'].get('namespace', 'default')} logs {name}{of} --previous"
            return Explained(waiting["reason"], one_line(waiting.get("message", "")), hint)
    return None


def statuses_of(pod: Object) -> list[Object]:
    """Return how a pod's containers are, in the order in which they run."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _waiting(pod: Object) -> Iterator[Object]:
    for status in statuses_of(pod):
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            yield waiting


def condition_of(pod: Object, kind: str) -> Object:
    """Return a condition of a pod or node; empty when it has none such."""
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _events_of(name: str, events: Sequence[Object]) -> list[Object]:
    """Return those of an object, the latest last."""
    return sorted((event for event in events if event.get("involvedObject", {}).get("name") == name), key=_seen)


def _is_past(warning: Object, pod: Object, own: Sequence[Object]) -> bool:
    """Say whether what was warned of is over: the pod has found its node, or the image was pulled after all."""
    if warning.get("reason") == "FailedScheduling":
        return bool(_node(pod))
    image = _IMAGE.search(warning.get("message", ""))
    pulled = [event for event in own if event.get("reason") == "Pulled" and _seen(event) >= _seen(warning)]
    return bool(image and any(image[0] in event["message"] for event in pulled))


def _last(warnings: Sequence[Object]) -> str:
    return one_line(warnings[-1]["message"]) if warnings else ""


def _seen(event: Object) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or ""


def one_line(text: str) -> str:
    """Return text of others as one line without what would move a terminal's cursor.

    A long one is cut in its middle: what went wrong stands at the end.
    """
    line = "".join(char for char in " ".join(text.split()) if char.isprintable())
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"
