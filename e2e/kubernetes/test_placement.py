"""Pods that serve a model prefer the node that has it in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.command import files
from e2e.kubernetes.manifests import vllm_shaped
from e2e.kubernetes.model import Model, on
from e2e.kubernetes.namespace import Namespace


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_pod_like_vllms_starts_on_the_warm_one_of_two_nodes_and_reads_every_byte(
    namespace: Namespace, new_model: Callable[[], Model], busybox: str, node: str
) -> None:
    model = new_model()
    model.preload(*on(node), "-n", namespace.name)
    namespace.start(f"deploy/{model.name}", vllm_shaped(model.reference, namespace, busybox))

    pods = namespace.get("pods", "-l", f"app.kubernetes.io/name={model.name}")
    assert [pod["spec"]["nodeName"] for pod in pods] == [node]
    found = namespace.files(f"deploy/{model.name}", f"/models/{model.name}")
    assert found.items() >= files(model.folder).items()
