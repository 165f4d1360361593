"""What the tests share: registries that every node knows, and a namespace of a test's own."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.command import run
from e2e.kubernetes.manifests import pack
from e2e.kubernetes.model import Model
from e2e.kubernetes.namespace import Namespace, new_namespace
from tests.models import write_model

IMAGE = Path(__file__).parents[2] / "build/image"
"""What `make image` leaves."""


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


@pytest.fixture(scope="session")
def tools(registry: str) -> str:
    """The image of modelctl itself, which pods run."""
    image = f"{registry}/tools/modelctl:test"
    run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{IMAGE}:latest", f"docker://{image}")
    return image


@pytest.fixture(scope="session")
def new_model(registry: str, tools: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """Makes and packs a model of four shards that no other test has; `size` is that of a shard [bytes]."""
    seeds = itertools.count(100)

    def make(size: int = 1_000_000) -> Model:
        seed = next(seeds)
        folder = write_model(tmp_path_factory.mktemp("model") / "model", size=size, seed=seed)
        return Model(folder, pack(folder, f"{registry}/models/model-{seed}:v1"), tools)

    return make


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """A new namespace, which takes only pods that are as restricted as can be."""
    with new_namespace(tmp_path, "a") as (made,):
        yield made
