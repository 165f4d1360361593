"""Several clusters: one that is dead, one that pulls from another registry, and none that nobody meant."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.kubernetes.manifests import pack
from e2e.kubernetes.model import BOTH, Model, labelled, on
from e2e.kubernetes.namespace import Namespace, new_namespace
from e2e.kubernetes.node import images


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[list[Namespace]]:
    with new_namespace(tmp_path, "a", "b") as made:
        yield made


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """That of the run, and two contexts: gone, where nobody listens, and silent, where nobody answers."""
    document = json.loads(Path(os.environ["KUBECONFIG"]).read_text())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, port in (("gone", 9), ("silent", silent.getsockname()[1])):
            document["clusters"].append({"name": name, "cluster": {"server": f"https://127.0.0.1:{port}"}})
            document["contexts"].append({"name": name, "context": {"cluster": name, "user": "a"}})
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(document))
        yield path


def test_a_dead_cluster_is_named_and_the_others_are_warm(
    namespaces: list[Namespace], new_model: Callable[[], Model], kubeconfig: Path
) -> None:
    model = new_model()
    contexts = ("--kubeconfig", kubeconfig, "--context", "gone,a,b")
    told = model.preload(*contexts, *on("n1", "n3"), "-n", namespaces[0].name)
    seen = model.status(*contexts)

    assert (told.status, told.states) == (9, {"n1": "Warm", "n3": "Warm"})
    assert "1 cluster not warm" in told.words
    assert "gone: cluster gone: " in told.words
    assert labelled(model.warm_label) == ["n1", "n3"]
    assert (seen.status, seen.states) == (9, {"n1": "warm", "n2": "", "n3": "warm"})


def test_a_cluster_that_does_not_answer_delays_no_other(
    namespaces: list[Namespace], new_model: Callable[[], Model], kubeconfig: Path
) -> None:
    """It is given up after some 15 s, long after the others are done."""
    model = new_model()
    flags = ("--kubeconfig", kubeconfig, "--context", "silent,a,b", *on("n1", "n3"), "-n", namespaces[0].name)
    with subprocess.Popen(model.command("preload", *flags), stderr=subprocess.DEVNULL) as preload:
        namespaces[0].until("two warm nodes", lambda: "both" if labelled(model.warm_label) == ["n1", "n3"] else "")
        assert preload.poll() is None
        preload.kill()


def test_all_contexts_are_not_taken_without_a_yes(new_model: Callable[[], Model]) -> None:
    told = new_model().preload("--all-contexts", *on("n1"))

    assert told.status == 2
    assert "--all-contexts without --yes" in told.words


@pytest.fixture
def region(
    namespaces: list[Namespace], private_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, tuple[str, ...]]:
    """Where models are in the region of cluster b, and the flags of pods that pull from there."""
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'[regions.near]\nregistry = "{private_registry}"\nnamespace = "near"\n[clusters.b]\nregion = "near"\n'
    )
    monkeypatch.setenv("MODELCTL_CONFIG", str(settings))
    user = ("--docker-username=test", "--docker-password=test", f"--docker-server={private_registry}")
    near, far = namespaces
    near("create", "secret", "docker-registry", "hub", *user)
    far("create", "secret", "docker-registry", "hub", *user)
    return f"{private_registry}/near", ("-n", near.name, "--pull-secret", "hub")


def test_a_cluster_pulls_from_the_registry_of_its_region(
    new_model: Callable[[], Model], region: tuple[str, tuple[str, ...]], registry: str, authfile: Path
) -> None:
    model = new_model()
    place, pods = region
    near = pack(model.folder, f"{place}/models/{model.name}:v1", "--authfile", str(authfile))
    flags = (*BOTH, *on("n1", "n3"), *pods)
    planned = model.preload(*flags, "--dry-run=client").report["clusters"]
    told = model.preload(*flags)

    names = [cluster["objects"][0]["metadata"]["annotations"]["modelctl.io/reference"] for cluster in planned]
    assert names == [model.reference, near]
    assert (told.status, told.states) == (0, {"n1": "Warm", "n3": "Warm"}), told.words
    assert labelled(model.warm_label) == ["n1", "n3"]
    assert [name for name in images("n1") if f"@sha256:{model.digest}" in name] == [model.reference]
    assert [name for name in images("n3") if f"@sha256:{model.digest}" in name] == [near]
