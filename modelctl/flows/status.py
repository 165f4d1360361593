"""How a model is on clusters: which nodes have it on disk and in memory, and how the pods are that use it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from modelctl.cluster.api import Cluster, contexts
from modelctl.cluster.explain import explain_pod
from modelctl.cluster.labels import DIGEST_ANNOTATION, DISK_LABEL, MANAGED, WARM_LABEL, Object, short
from modelctl.core.access import Access
from modelctl.core.errors import ModelctlError, UsageProblem
from modelctl.core.reference import Reference
from modelctl.core.types import Digest
from modelctl.flows.stores import open_artifact


class NodeStatus(msgspec.Struct, kw_only=True):
    """A node; `disk` and `warm` are what its labels say of the model."""

    name: str
    ready: bool
    disk: bool
    warm: bool


class PodStatus(msgspec.Struct, kw_only=True):
    """A pod that uses the model: how it is, why, and what to do."""

    namespace: str
    name: str
    node: str
    state: str
    why: str
    hint: str


class ClusterStatus(msgspec.Struct, kw_only=True):
    """A cluster; `problem` says why nothing is known of it, or is empty."""

    context: str
    problem: str
    nodes: list[NodeStatus]
    pods: list[PodStatus]


class StatusReport(msgspec.Struct, kw_only=True):
    """A model on clusters."""

    reference: str
    digest: str
    clusters: list[ClusterStatus]


def status(
    reference: Reference, names: Sequence[str], *, kubeconfig: str, namespace: str, access: Access
) -> StatusReport:
    """Ask the clusters side by side; one that does not answer delays none, and stands in the report.

    Args:
        reference: The artifact, in a registry.
        names: Contexts; "*" is all of them, none is the current one.
        kubeconfig: Its path, empty for kubectl's.
        namespace: Of the pods; empty for all.
        access: How to reach the registry.

    Raises:
        NotFound: No such kubeconfig, or no such artifact. UsageProblem: No such context.
    """
    _, artifact = open_artifact(reference, access)
    wanted = _wanted(names, kubeconfig)
    digest, weights = artifact.root.digest, artifact.weights

    def look(context: str) -> ClusterStatus:
        try:
            return _look(Cluster(context, kubeconfig), digest, weights, namespace)
        except ModelctlError as error:
            return ClusterStatus(context=context, problem=f"{error.what}: {error.why}", nodes=[], pods=[])

    with ThreadPoolExecutor(len(wanted)) as pool:
        clusters = list(pool.map(look, wanted))
    return StatusReport(reference=str(reference), digest=digest, clusters=clusters)


def _wanted(names: Sequence[str], kubeconfig: str) -> list[str]:
    known, current = contexts(kubeconfig)
    wanted = known if list(names) == ["*"] else list(names) or [current]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageProblem(f"no context is named {', '.join(unknown)}", why=f"there are {', '.join(known)}")
    return wanted


def _look(cluster: Cluster, digest: Digest, weights: Digest, namespace: str) -> ClusterStatus:
    pods = [pod for pod in cluster.pods(namespace, MANAGED) if _annotations(pod).get(DIGEST_ANNOTATION) == digest]
    events = {name: cluster.events(name) for name in {pod["metadata"]["namespace"] for pod in pods}}
    return ClusterStatus(
        context=cluster.context,
        problem="",
        nodes=[_node(node, digest, weights) for node in cluster.nodes()],
        pods=[_pod(pod, events[pod["metadata"]["namespace"]]) for pod in pods],
    )


def _annotations(pod: Object) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"].get("annotations") or {}
    return found


def _node(node: Object, digest: Digest, weights: Digest) -> NodeStatus:
    labels = node["metadata"].get("labels") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return NodeStatus(
        name=node["metadata"]["name"],
        ready=any(found["type"] == "Ready" and found["status"] == "True" for found in conditions),
        disk=f"{DISK_LABEL}/{short(digest)}" in labels,
        warm=f"{WARM_LABEL}/{short(weights)}" in labels,
    )


def _pod(pod: Object, events: Sequence[Object]) -> PodStatus:
    explained = explain_pod(pod, events)
    return PodStatus(
        namespace=pod["metadata"]["namespace"],
        name=pod["metadata"]["name"],
        node=pod["spec"].get("nodeName", ""),
        state=explained.state,
        why=explained.why,
        hint=explained.hint,
    )
