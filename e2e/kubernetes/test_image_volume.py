"""containerd 2.3 mounts what modelctl put into a registry, in pods of Kubernetes 1.36."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.command import files, modelctl
from e2e.kubernetes.manifests import image_pod, pack, rendered
from e2e.kubernetes.namespace import Namespace
from e2e.kubernetes.node import drop_from_page_cache, held_in_page_cache, resident, snapshots, weight_files
from tests.models import write_model

TABLE = {".modelctl/chunks", ".modelctl/crc32.txt", ".modelctl/files.json"}


def layers_of(reference: str) -> list[str]:
    manifest = json.loads(modelctl("inspect", reference, "--raw", "--plain-http"))
    return [layer["digest"] for layer in manifest["layers"]]


@pytest.fixture(scope="module")
def packed(weights: Path, registry: str) -> str:
    return pack(weights, f"{registry}/models/packed:v1")


def without_table(found: dict[str, str]) -> dict[str, str]:
    """Return all files but those of the table, which must be there."""
    assert set(found) >= TABLE
    return {path: digest for path, digest in found.items() if path not in TABLE}


def test_a_restricted_pod_reads_every_byte_that_was_packed(
    namespace: Namespace, packed: str, weights: Path, busybox: str
) -> None:
    objects = rendered(packed, namespace, "image-volume", "--name", "model", "--image", busybox)
    namespace.start("deploy/model", objects)

    assert without_table(namespace.files("deploy/model", "/models/model")) == files(weights)
    assert "Read-only file system" in namespace.write_refused("deploy/model", "/models/model")


def test_a_restricted_pod_reads_every_byte_that_was_pushed_whatever_the_names(
    namespace: Namespace, registry: str, busybox: str, store: Path, mounted: dict[str, str]
) -> None:
    modelctl("push", f"oci:{store}:v1", f"{registry}/models/pushed:v1", "--plain-http")
    objects = rendered(f"{registry}/models/pushed:v1", namespace, "image-volume", "--name", "model", "--image", busybox)
    namespace.start("deploy/model", objects)

    assert namespace.files("deploy/model", "/models/model") == mounted


def test_an_artifact_of_110_layers_mounts(namespace: Namespace, registry: str, busybox: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", shards=107, size=10_000)
    reference = pack(model, f"{registry}/models/many:v1")
    namespace.start("pod/reader", image_pod("reader", busybox, reference, "n1"))

    assert len(layers_of(reference)) == 110
    assert without_table(namespace.files("pod/reader", "/model")) == files(model)


def test_a_new_readme_leaves_snapshots_and_page_cache_of_the_weights_in_place(
    namespace: Namespace, registry: str, busybox: str, tmp_path: Path
) -> None:
    """The last shard is dropped from the page cache in between: it would be back if anybody read it, or wrote it."""
    model = write_model(tmp_path / "model", size=4_000_000, seed=1)
    first = pack(model, f"{registry}/models/changed:v1")
    (model / "README.md").write_text("# Another text\n", encoding="utf-8")
    second = pack(model, f"{registry}/models/changed:v2")
    shared = [one for one, other in zip(layers_of(first), layers_of(second), strict=True) if one == other]
    namespace.start("pod/first", image_pod("first", busybox, first, "n1"))
    before = snapshots("n1", first.partition("@")[2])
    shards = weight_files("n1", before)
    drop_from_page_cache("n1", shards[-1])
    with held_in_page_cache("n1", shards[:-1]):
        namespace.start("pod/second", image_pod("second", busybox, second, "n1"))
        cached = resident("n1", shards)

    after = snapshots("n1", second.partition("@")[2])
    assert cached == dict.fromkeys(shards, 1) | {shards[-1]: 0}
    assert weight_files("n1", after) == shards
    assert after[: len(shared)] == before[: len(shared)]
    assert set(after[len(shared) :]).isdisjoint(before)
    assert namespace.shell("pod/second", "cat /model/README.md") == "# Another text\n"


def test_a_modelpack_mounts_as_an_empty_folder_without_an_error(
    namespace: Namespace, registry: str, busybox: str, weights: Path
) -> None:
    """It is why `modelctl render` refuses this layout for image volumes."""
    reference = pack(weights, f"{registry}/models/modelpack:v1", "--layout", "modelpack")
    namespace.start("pod/reader", image_pod("reader", busybox, reference, "n1"))

    assert namespace.shell("pod/reader", "ls -A /model") == ""
    assert [event["message"] for event in namespace.get("events") if event["type"] == "Warning"] == []
