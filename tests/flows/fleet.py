"""What tests ask of clusters: run a flow over them, and look at what it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelctl.core.reference import parse_reference
from modelctl.flows.clusters import ClusterReport, NodesReport, PreloadOptions, Watcher
from modelctl.flows.fix import fix
from modelctl.flows.node_jobs import NodeRow
from modelctl.flows.preload import preload
from modelctl.flows.unload import unload
from tests.fakes.kube_api import KubeApi, kubeconfig
from tests.registries import IMPATIENT

IMAGE = "registry.example/tools/modelctl:1"

_FLOWS = {"preload": preload, "unload": unload, "fix": fix}


class Notes(Watcher):
    """Keeps what a watcher is told: states of the plan, and the states of each node as they changed."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.states: dict[str, list[str]] = {}

    def planned(self, cluster: ClusterReport) -> None:
        self.plan += [row.state for row in cluster.nodes]

    def changed(self, cluster: ClusterReport, row: NodeRow) -> None:
        self.states.setdefault(row.name, []).append(row.state)


class Fleet:
    """Clusters by context, the first of which is the current one."""

    def __init__(self, folder: Path, text: str, servers: dict[str, str], namespace: str = "") -> None:
        """Take a folder for the kubeconfig, the model's reference, and the URLs of the clusters."""
        self.kubeconfig = str(kubeconfig(folder / "kubeconfig", servers, namespace=namespace))
        self.reference = parse_reference(text)
        self.notes = Notes()

    def run(self, verb: str, **options: Any) -> NodesReport:
        given = {"image": IMAGE, "selector": "nodegroup=gpu", "timeout_s": 20.0, "access": IMPATIENT, **options}
        chosen = PreloadOptions(kubeconfig=self.kubeconfig, **given)
        return _FLOWS[verb](self.reference, chosen, self.notes)

    def rows(self, verb: str, **options: Any) -> dict[str, NodeRow]:
        """Run in one cluster; return its nodes by name."""
        (cluster,) = self.run(verb, **options).clusters
        assert cluster.problem == ""
        return {row.name: row for row in cluster.nodes}

    def states(self, verb: str, **options: Any) -> dict[str, str]:
        return {name: row.state for name, row in self.rows(verb, **options).items()}

    def problem(self, verb: str, **options: Any) -> str:
        """Run in one cluster; return why it ended early."""
        (cluster,) = self.run(verb, **options).clusters
        return cluster.problem


def labels_of(api: KubeApi) -> dict[str, set[str]]:
    """Return which of our labels each node has, in a word."""
    return {
        node["metadata"]["name"]: {key.partition(".")[0] for key in node["metadata"]["labels"] if "modelctl" in key}
        for node in api.objects["nodes"]
    }


def label(api: KubeApi, name: str, *keys: str) -> None:
    """Put labels on a node."""
    node = api.find("nodes", name)
    assert node
    node["metadata"]["labels"] |= dict.fromkeys(keys, "true")
    api.put("nodes", node)


def names(api: KubeApi, kind: str) -> list[str]:
    return sorted(found["metadata"]["name"] for found in api.objects.get(kind, []))


def writes(api: KubeApi) -> list[str]:
    """Return every request that could change something."""
    return [request for request in api.requests if not request.startswith("GET ") and "dryRun=All" not in request]
