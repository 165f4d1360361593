"""What the tests share: a model with awkward names, packed once into a store with three tags."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.command import blob_path, files, manifest_of, modelctl, tar_files
from tests.models import shard, write_model

collect_ignore = ["kubernetes", "preload_faults"]
"""They run beside a cluster, see there; named on the command line they are collected."""

LONG = "深い/" + "a-name-of-more-than-one-hundred-characters-" * 4 + "é.txt"
LONG_SHARD = "adapters/" + "x" * 110 + ".safetensors"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sharded model with names that are long or not ASCII, an empty file and a file without a suffix."""
    folder = write_model(tmp_path_factory.mktemp("model") / "model")
    (folder / LONG).parent.mkdir()
    (folder / LONG).write_text("deep\n", encoding="utf-8")
    (folder / LONG_SHARD).parent.mkdir()
    (folder / LONG_SHARD).write_bytes(shard({"lora.a": b"a" * 5000, "lora.b": b"b" * 3}))
    (folder / "模型 说明.md").write_text("# 模型\n", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "LICENSE").write_text("as it is\n", encoding="utf-8")
    (folder / "modeling_test.py").write_text("import torch\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def store(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an OCI layout with the model as v1 (image), v1-modelpack over the same blobs, and raw."""
    path = tmp_path_factory.mktemp("store") / "store"
    modelctl("pack", model, f"oci:{path}:v1", "--layout", "image,modelpack", "--annotation", "team=search")
    modelctl("pack", model, f"oci:{path}:raw", "--layout", "raw")
    return path


@pytest.fixture(scope="session")
def mounted(model: Path, store: Path) -> dict[str, str]:
    """Return what a mounted v1 must hold: the model's files and those of the table's layer, by sha256."""
    table = tar_files(blob_path(store, manifest_of(store, "v1")["layers"][-1]["digest"]))
    assert sorted(table) == [".modelctl/chunks", ".modelctl/crc32.txt", ".modelctl/files.json"]
    return files(model) | table


@pytest.fixture
def room() -> Iterator[Path]:
    """Return a folder with a short name, for sockets and for podman, which takes 50 characters at most."""
    with tempfile.TemporaryDirectory(prefix="modelctl-") as name:
        yield Path(name)
