"""What `modelctl render` writes is taken by a real API server, in a namespace that enforces the restricted standard."""

from __future__ import annotations

import pytest

from e2e.kubernetes.manifests import pack, rendered
from e2e.kubernetes.namespace import Namespace
from tests.models import write_model


@pytest.fixture(scope="module")
def packed(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pack(write_model(tmp_path_factory.mktemp("render") / "model"), f"{registry}/models/rendered:v1")


@pytest.mark.parametrize("mode", ["image-volume", "pvc"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "none"])
def test_the_api_server_takes_it(namespace: Namespace, packed: str, mode: str, engine: str) -> None:
    taken = namespace.apply(rendered(packed, namespace, mode, engine=engine), "--dry-run=server")

    assert "deployment.apps/rendered created (server dry run)" in taken
    assert "Warning" not in taken
