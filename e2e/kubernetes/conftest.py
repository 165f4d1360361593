"""What the tests share: registries that every node knows, and a namespace of a test's own."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kubernetes.namespace import Namespace, kubectl
from tests.models import write_model


def pytest_configure() -> None:
    if "CLUSTER_REGISTRY" not in os.environ:
        raise pytest.UsageError("e2e/kubernetes runs beside a cluster: make e2e boots one, e2e/cluster/cluster run too")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals of the run's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def registry() -> str:
    """The registry that anybody may use."""
    return os.environ["CLUSTER_REGISTRY"]


@pytest.fixture(scope="session")
def private_registry() -> str:
    """The registry that asks for a password."""
    return os.environ["CLUSTER_PRIVATE_REGISTRY"]


@pytest.fixture(scope="session")
def authfile(private_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Credentials for the private registry, in docker's format."""
    path = tmp_path_factory.mktemp("docker") / "config.json"
    path.write_text(json.dumps({"auths": {private_registry: {"auth": base64.b64encode(b"test:test").decode()}}}))
    return path


@pytest.fixture(scope="session")
def busybox(registry: str) -> str:
    """The image of every container here; left alone it sleeps."""
    return f"{registry}/test/busybox:1"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four shards of 4 MB."""
    return write_model(tmp_path_factory.mktemp("weights") / "model", shards=4, size=4_000_000)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """A new namespace, which takes only pods that are as restricted as can be."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Namespace(name, tmp_path / "objects.yaml")
    kubectl("delete", "namespace", name, "--wait=false")
