"""Bytes that are not what was packed: in host mode they are pulled again, in image mode the node is not labelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.command import files
from e2e.kubernetes.manifests import image_pod
from e2e.kubernetes.model import on
from e2e.kubernetes.namespace import Namespace, kubectl
from e2e.kubernetes.node import contents, node_exec, snapshots, weight_files
from e2e.preload_faults.model import Model

SHARD = 200_000
_FLIP = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(100_000)
    byte = file.read(1)[0] ^ 1
    file.seek(100_000)
    file.write(bytes([byte]))
"""


@pytest.fixture
def model(new_model: Callable[..., Model]) -> Model:
    return new_model(SHARD)


def rot(node: str, file: str) -> None:
    """Change a byte of a file of a node."""
    node_exec(node, "python3", "-c", _FLIP, file)


def unlabel(model: Model) -> None:
    kubectl("label", "node", "n1", f"{model.warm_label}-", f"{model.disk_label}-")


def test_host_mode_pulls_a_file_again_that_has_rotted_on_the_disk(model: Model) -> None:
    flags = (*on("n1"), "--mode", "host")
    model.preload(*flags)
    rot("n1", weight_files("n1", [model.on_disk])[0])
    before = contents("n1", model.on_disk)
    unlabel(model)

    again = model.preload(*flags)

    assert before != files(model.folder)
    assert (again.status, again.states, model.labels("n1")) == (0, {"n1": "Warm"}, {"disk", "warm"}), again.words
    assert contents("n1", model.on_disk) == files(model.folder)


def test_image_mode_finds_a_byte_that_has_rotted_under_the_mount_and_does_not_label_the_node(
    model: Model, namespace: Namespace, busybox: str
) -> None:
    namespace.start("pod/reader", image_pod("reader", busybox, model.reference, "n1"))
    rot("n1", weight_files("n1", snapshots("n1", model.digest))[0])

    found = model.preload(*on("n1"), "-n", namespace.name)

    (pod,) = model.pods()
    (warm,) = pod["status"]["containerStatuses"]
    assert warm["state"]["terminated"]["exitCode"] == 4
    assert (found.status, found.states, model.labels("n1")) == (9, {"n1": "Failed"}, set()), found.words
    assert "/model/model-00001-of-00002.safetensors: from byte 0 on it has other bytes" in found.words
