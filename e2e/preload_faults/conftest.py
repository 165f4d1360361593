"""What the tests share: models that no other test has, and registries and namespaces as in e2e/kubernetes."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.kubernetes.conftest import authfile, busybox, cache, namespace, private_registry, registry, tools
from e2e.kubernetes.manifests import pack
from e2e.kubernetes.namespace import kubectl
from e2e.preload_faults.model import Model
from e2e.preload_faults.trouble import settled
from tests.models import write_model

__all__ = ["authfile", "busybox", "cache", "namespace", "private_registry", "registry", "tools"]


KUBE = Path(__file__).parents[2] / "kube"


def pytest_configure() -> None:
    if not Path(os.environ.get("CLUSTER_DIR", ""), "n2/disk.ext4").exists():
        raise pytest.UsageError("e2e/preload_faults runs beside a cluster whose n2 has a disk: see its __init__.py")


@pytest.fixture(scope="session")
def image(tools: str) -> str:
    """The image of modelctl, which n1 has: no test waits for it."""
    settled("n1", tools)
    return tools


@pytest.fixture(scope="module")
def n2(tools: str) -> Iterator[None]:
    """Have n2 for the tests of a file: they take its power, its disk, its network."""
    with Path(os.environ["CLUSTER_DIR"], "n2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settled("n2", tools)
        yield


@pytest.fixture(scope="session")
def new_model(registry: str, image: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """Makes and packs a model of two shards that no other test has; `size` is that of a shard [bytes]."""

    def make(size: int = 100_000, where: str = registry) -> Model:
        seed = secrets.randbits(32)
        folder = write_model(tmp_path_factory.mktemp("model") / "model", shards=2, size=size, seed=seed)
        return Model(folder, pack(folder, f"{where}/models/model-{seed}:v1"), image)

    return make


@pytest.fixture(scope="session")
def host_namespace() -> str:
    """The namespace of host mode's pods."""
    kubectl("apply", "-f", KUBE / "preload/namespace.yaml")
    return "modelctl-system"


@pytest.fixture
def model(new_model: Callable[..., Model]) -> Model:
    """A small one."""
    return new_model()


@pytest.fixture(scope="session")
def new_private(
    new_model: Callable[..., Model], private_registry: str, authfile: Path
) -> Iterator[Callable[[], Model]]:
    """Makes models in the registry that asks for a password, which modelctl itself has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(authfile.parent))
        yield lambda: new_model(where=private_registry)


@pytest.fixture
def private(new_private: Callable[[], Model]) -> Model:
    return new_private()
