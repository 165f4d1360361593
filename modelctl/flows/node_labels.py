"""The two labels of a model on nodes, and who says that they are right."""

from __future__ import annotations

from modelctl.cluster.api import Cluster
from modelctl.cluster.labels import Object, component_of, disk_label, warm_label
from modelctl.cluster.outcome import outcome
from modelctl.cluster.preloading import Preload
from modelctl.core.choices import PreloadMode
from modelctl.packing.artifact import Artifact


def holds(pod: Object, preload: Preload) -> bool:
    """Say whether a pod is a holder that has all of the model in memory, and stays."""
    is_holder = component_of(pod) == "hold" and not is_ending(pod)
    return is_holder and outcome(pod, (), preload).warm


def is_ending(pod: Object) -> bool:
    """Say whether somebody deleted a pod, which may hang for as long as its node is silent."""
    return "deletionTimestamp" in pod["metadata"]


class NodeLabels:
    """Those of one model, in one cluster."""

    def __init__(self, cluster: Cluster, artifact: Artifact) -> None:
        self._cluster = cluster
        self.disk, self.warm = disk_label(artifact.root.digest), warm_label(artifact.weights)

    def of(self, node: Object) -> set[str]:
        """Return which of the two a node has."""
        return {self.disk, self.warm} & set(node["metadata"].get("labels") or {})

    def all_on(self, node: Object, mode: PreloadMode) -> bool:
        """Say whether a node has what a mode sets, and no more: image mode brings other files in than host mode."""
        return self.of(node) == {self.warm} | ({self.disk} if mode == "host" else set())

    def set(self, name: str, *, disk: bool, warm: bool) -> None:
        """Set those that were proved of a node."""
        proved = [self.disk] * disk + [self.warm] * warm
        if proved:
            self._cluster.label_node(name, dict.fromkeys(proved, "true"))

    def remove(self, name: str, *labels: str) -> None:
        """Remove some from a node."""
        if labels:
            self._cluster.label_node(name, dict.fromkeys(labels))
