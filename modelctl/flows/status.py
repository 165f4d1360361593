"""How a model is on clusters: which nodes have it on disk and in memory, and how the pods are that use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

import msgspec

from modelctl.cluster.api import Cluster
from modelctl.cluster.explain import explain_pod
from modelctl.cluster.labels import DIGEST_ANNOTATION, MANAGED, Object, disk_label, warm_label
from modelctl.core.access import Access
from modelctl.core.errors import ModelctlError
from modelctl.core.reference import Reference
from modelctl.core.types import Digest
from modelctl.flows.clusters import chosen, one_line, side_by_side
from modelctl.flows.node_jobs import TICK_S
from modelctl.flows.stores import open_artifact
from modelctl.packing.artifact import Artifact

_LOOK_S = 15.0


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


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where to look: a kubeconfig, empty for kubectl's; the pods' namespace, empty for all; how to reach registries."""

    kubeconfig: str
    namespace: str
    access: Access


def status(reference: Reference, names: Sequence[str], where: Where) -> StatusReport:
    """Ask the clusters side by side; one that does not answer delays none, and stands in the report.

    Args:
        reference: The artifact, in a registry.
        names: Contexts; "*" is all of them, none is the current one.
        where: Where to look.

    Raises:
        NotFound: No such kubeconfig, or no such artifact. UsageProblem: No such context.
    """
    _, artifact = open_artifact(reference, where.access)

    def look(cluster: Cluster) -> ClusterStatus:
        return _look(cluster, artifact, cluster.pods(where.namespace, MANAGED))

    clusters = side_by_side(chosen(names, where.kubeconfig), where.kubeconfig, look, _silent, Event())
    return StatusReport(reference=str(reference), digest=artifact.root.digest, clusters=clusters)


def watch_status(
    reference: Reference, names: Sequence[str], where: Where, show: Callable[[ClusterStatus], None]
) -> None:
    """Do as `status`, and go on: `show` is told of each cluster, and again when it changes, until an exception.

    Looked at is when a pod changes, and every `_LOOK_S`.
    """
    _, artifact = open_artifact(reference, where.access)
    stop = Event()

    def follow(cluster: Cluster) -> None:
        last = None
        while not stop.is_set():
            for current in _following(cluster, artifact, where.namespace, stop):
                if current != last:
                    show(current)
                last = current

    side_by_side(chosen(names, where.kubeconfig), where.kubeconfig, follow, lambda _context, _problem: None, stop)


def _following(cluster: Cluster, artifact: Artifact, namespace: str, stop: Event) -> Iterator[ClusterStatus]:
    """Yield how a cluster is until `stop`, or until it does not answer, which is the last that is yielded."""
    try:
        with cluster.following(namespace, MANAGED) as followed:
            looked = 0.0
            seen: list[Object] = []
            while not stop.is_set():
                pods = followed.next(TICK_S)
                if pods != seen or time.monotonic() - looked > _LOOK_S:
                    seen, looked = pods, time.monotonic()
                    yield _look(cluster, artifact, pods)
    except ModelctlError as error:
        yield _silent(cluster.context, one_line(error))
        stop.wait(_LOOK_S)


def _silent(context: str, problem: str) -> ClusterStatus:
    return ClusterStatus(context=context, problem=problem, nodes=[], pods=[])


def _look(cluster: Cluster, artifact: Artifact, managed: Sequence[Object]) -> ClusterStatus:
    digest = artifact.root.digest
    pods = [pod for pod in managed if _annotations(pod).get(DIGEST_ANNOTATION) == digest]
    events = {name: cluster.events(name) for name in {pod["metadata"]["namespace"] for pod in pods}}
    return ClusterStatus(
        context=cluster.context,
        problem="",
        nodes=[_node(node, digest, artifact.weights) for node in cluster.nodes()],
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
        disk=disk_label(digest) in labels,
        warm=warm_label(weights) in labels,
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
