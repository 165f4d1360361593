"""Files that lie on a node, as a volume: only a node whose label says that it has them gets the pod."""

from __future__ import annotations

from pathlib import Path

from e2e.command import MODELCTL, files
from e2e.kubernetes.manifests import pack, rendered
from e2e.kubernetes.namespace import Namespace, kubectl
from e2e.kubernetes.node import node_exec
from tests.models import write_model


def test_a_pod_reads_every_byte_that_node_pull_left_on_the_labelled_node(
    namespace: Namespace, registry: str, busybox: str, weights: Path
) -> None:
    reference = pack(weights, f"{registry}/models/pulled:v1")
    digest = reference.rpartition(":")[2]
    node_exec("n1", MODELCTL, "node", "pull", reference, "--plain-http", "--quiet")
    kubectl("label", "node", "n1", f"disk.modelctl.io/{digest[:16]}=")

    namespace.start("deploy/model", rendered(reference, namespace, "pvc", "--name", "model", "--image", busybox))

    assert [pod["spec"]["nodeName"] for pod in namespace.get("pods")] == ["n1"]
    assert namespace.files("deploy/model", "/models/model") == files(weights)
    assert "Read-only file system" in namespace.write_refused("deploy/model", "/models/model")


def test_a_pod_waits_while_no_node_has_the_label(
    namespace: Namespace, registry: str, busybox: str, tmp_path: Path
) -> None:
    reference = pack(write_model(tmp_path / "model", seed=1), f"{registry}/models/nowhere:v1")
    namespace.apply(rendered(reference, namespace, "pvc", "--name", "model", "--image", busybox))

    assert "0/2 nodes" in namespace.wait_for_event("didn't match PersistentVolume's node affinity")
    assert [pod["status"]["phase"] for pod in namespace.get("pods")] == ["Pending"]
