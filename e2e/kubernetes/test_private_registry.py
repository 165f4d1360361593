"""A registry that asks for a password: pods that name a secret get the model, others get a 401."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.command import files, modelctl
from e2e.kubernetes.manifests import image_pod, pack, rendered
from e2e.kubernetes.namespace import Namespace
from tests.models import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("private") / "model")


@pytest.fixture(scope="module")
def packed(model: Path, private_registry: str, authfile: Path) -> str:
    return pack(model, f"{private_registry}/models/private:v1", "--authfile", str(authfile))


@pytest.fixture
def flags(busybox: str, authfile: Path) -> tuple[str, ...]:
    return ("--name", "model", "--image", busybox, "--authfile", str(authfile))


@pytest.fixture
def secret(namespace: Namespace, private_registry: str) -> str:
    return make_secret(namespace, private_registry, password="test")


def make_secret(namespace: Namespace, registry: str, password: str) -> str:
    user = ("--docker-username=test", f"--docker-password={password}")
    namespace("create", "secret", "docker-registry", "pull", f"--docker-server={registry}", *user)
    return "pull"


def test_without_a_secret_no_pod_starts_and_the_kubelet_says_why(
    namespace: Namespace, packed: str, flags: tuple[str, ...]
) -> None:
    namespace.apply(rendered(packed, namespace, "image-volume", *flags))

    assert packed in namespace.wait_for_event("pull access denied.* no basic auth credentials")
    assert [pod["status"]["phase"] for pod in namespace.get("pods")] == ["Pending"]


def test_with_a_wrong_password_the_kubelet_says_401(
    namespace: Namespace, packed: str, flags: tuple[str, ...], private_registry: str
) -> None:
    secret = make_secret(namespace, private_registry, password="wrong")
    namespace.apply(rendered(packed, namespace, "image-volume", *flags, "--pull-secret", secret))

    assert packed in namespace.wait_for_event("401 Unauthorized")


def status_of(packed: str, namespace: Namespace, authfile: Path) -> str:
    return modelctl("status", packed, "--plain-http", "--authfile", authfile, "--namespace", namespace.name)


def test_status_says_that_a_pod_names_no_secret(
    namespace: Namespace, packed: str, flags: tuple[str, ...], authfile: Path
) -> None:
    namespace.apply(rendered(packed, namespace, "image-volume", *flags))
    namespace.wait_for_event("authorization failed")

    assert "try: the pod names no pull secret: kubectl" in status_of(packed, namespace, authfile)


def test_status_names_the_secret_that_is_missing(
    namespace: Namespace, packed: str, flags: tuple[str, ...], authfile: Path, private_registry: str
) -> None:
    namespace.apply(rendered(packed, namespace, "image-volume", *flags, "--pull-secret", "private"))
    namespace.wait_for_event("authorization failed")

    found = status_of(packed, namespace, authfile)
    assert f"secret private is not in namespace {namespace.name}" in found
    assert f"--docker-server={private_registry}" in found


def test_with_the_secret_a_pod_reads_every_file(
    namespace: Namespace, packed: str, flags: tuple[str, ...], secret: str, model: Path
) -> None:
    namespace.start("deploy/model", rendered(packed, namespace, "image-volume", *flags, "--pull-secret", secret))

    assert namespace.files("deploy/model", "/models/model").items() >= files(model).items()


def test_a_node_that_has_the_model_refuses_it_to_a_pod_without_the_secret(
    namespace: Namespace, packed: str, busybox: str, secret: str
) -> None:
    """The kubelet remembers whose credentials brought an image: to preload one does not open it to all."""
    namespace.start("pod/with", image_pod("with", busybox, packed, "n1", secret))
    namespace.apply(image_pod("without", busybox, packed, "n1"))

    assert packed in namespace.wait_for_event("pull access denied.* no basic auth credentials")
