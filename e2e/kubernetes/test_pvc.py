"""Files that a preload left on a node, as a volume: only a node whose label says that it has them gets the pod."""

from __future__ import annotations

from collections.abc import Callable

from e2e.command import files
from e2e.kubernetes.manifests import rendered
from e2e.kubernetes.model import Model, on
from e2e.kubernetes.namespace import Namespace


def test_a_pod_waits_until_a_preload_has_put_the_files_on_a_node_and_reads_every_byte_there(
    namespace: Namespace, new_model: Callable[[], Model], busybox: str
) -> None:
    model = new_model()
    objects = rendered(model.reference, namespace, "pvc", "--name", "model", "--image", busybox)
    namespace.apply(objects)
    assert "0/2 nodes" in namespace.wait_for_event("didn't match PersistentVolume's node affinity")
    assert [pod["status"]["phase"] for pod in namespace.get("pods")] == ["Pending"]

    assert model.preload(*on("n1"), "--mode", "host").states == {"n1": "Warm"}

    namespace.start("deploy/model", objects)
    assert [pod["spec"]["nodeName"] for pod in namespace.get("pods")] == ["n1"]
    assert namespace.files("deploy/model", "/models/model") == files(model.folder)
    assert "Read-only file system" in namespace.write_refused("deploy/model", "/models/model")
