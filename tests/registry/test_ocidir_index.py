"""An index.json that other tools wrote, or that somebody wrote to do harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import Invalid, NotFound
from modelctl.core.media_types import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, REF_NAME
from modelctl.core.types import Descriptor, canonical_json, digest_of
from modelctl.packing.artifact import load_artifact
from modelctl.registry.ocidir import OciDir
from tests.conformance.stores import CONFIG, WEIGHTS, descriptor, put, put_manifest
from tests.stores import blobs_of

FOREIGN = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:" + "1" * 64,
    "size": 7,
    "platform": {"architecture": "arm64", "os": "linux"},
    "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z", "com.example.note": "模型"},
    "urls": ["https://example.com/x"],
}


@pytest.fixture
def store(tmp_path: Path) -> OciDir:
    store = OciDir(tmp_path / "store")
    store.create()
    return store


def write_index(store: OciDir, index: object) -> None:
    (store.path / "index.json").write_text(json.dumps(index))


def index_of(store: OciDir) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((store.path / "index.json").read_bytes())
    return document


def entry(blob: Descriptor, media_type: str = OCI_MANIFEST, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size, **more}


def put_index(store: OciDir, media_type: str, child_type: str, *manifests: Descriptor) -> dict[str, object]:
    """Store an index of manifests and return its entry."""
    data = canonical_json({"schemaVersion": 2, "manifests": [entry(item, child_type) for item in manifests]})
    return entry(put(store, data), media_type)


def test_an_entry_of_another_tool_is_kept_as_it_is(store: OciDir) -> None:
    write_index(store, {"schemaVersion": 2, "manifests": [FOREIGN]})
    store.tag(put_manifest(store, WEIGHTS), "v1")

    assert index_of(store)["manifests"][0] == FOREIGN


def test_unknown_fields_of_the_index_are_kept(store: OciDir) -> None:
    write_index(store, {"schemaVersion": 2, "manifests": [], "annotations": {"a": "b"}, "com.example": [1, None]})
    store.tag(put_manifest(store, WEIGHTS), "v1")

    assert {**index_of(store), "manifests": []} == {
        "schemaVersion": 2,
        "manifests": [],
        "annotations": {"a": "b"},
        "com.example": [1, None],
    }


def test_forgetting_a_tag_keeps_the_entries_of_other_tools(store: OciDir) -> None:
    write_index(store, {"schemaVersion": 2, "manifests": [FOREIGN]})
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.untag("v1")

    assert index_of(store)["manifests"] == [FOREIGN]


def test_an_entry_without_a_tag_becomes_the_tagged_one(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    write_index(store, {"schemaVersion": 2, "manifests": [entry(root)]})
    store.tag(root, "v1")

    assert [item["annotations"] for item in index_of(store)["manifests"]] == [{REF_NAME: "v1"}]


def test_a_list_that_is_null_is_an_empty_one(store: OciDir) -> None:
    write_index(store, {"schemaVersion": 2, "manifests": None})
    store.tag(put_manifest(store, WEIGHTS), "v1")

    assert list(store.tags()) == ["v1"]


def test_annotations_that_are_null_are_none(store: OciDir) -> None:
    write_index(store, {"schemaVersion": 2, "manifests": [{**FOREIGN, "annotations": None}]})

    assert store.tags() == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[" * 100_000,
        '{"manifests": ' + "[" * 100_000,
        "[]",
        "null",
        "{}",
        '{"manifests": {}}',
        '{"manifests": "abc"}',
        '{"manifests": [1]}',
        '{"manifests": [{"annotations": []}]}',
        '{"manifests": [{"annotations": {"a": 1}}]}',
        '{"manifests": [' + "9" * 5000 + "]}",
        "\udcff",
    ],
    ids=range(14),
)
def test_an_index_that_is_not_one_is_invalid(store: OciDir, text: str) -> None:
    (store.path / "index.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(Invalid, match=r"index\.json"):
        store.resolve("v1")


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:" + "../" * 21 + "a"},
        {"digest": "sha256:ABC"},
        {"digest": "../../../etc/passwd"},
        {"digest": None},
        {"digest": {}},
        {"size": -1},
        {"size": "7"},
        {"size": 1.5},
        {"size": None},
        {"mediaType": 3},
    ],
    ids=str,
)
def test_an_entry_that_is_not_a_descriptor_is_invalid(store: OciDir, change: dict[str, object]) -> None:
    write_index(store, {"manifests": [{**FOREIGN, "annotations": {REF_NAME: "v1"}, **change}]})

    with pytest.raises(Invalid):
        store.resolve("v1")


def test_an_entry_without_a_digest_is_invalid(store: OciDir) -> None:
    write_index(store, {"manifests": [{"annotations": {REF_NAME: "v1"}, "size": 1}]})

    with pytest.raises(Invalid):
        store.resolve("v1")


def test_an_entry_that_claims_a_huge_manifest_is_invalid(store: OciDir) -> None:
    write_index(store, {"manifests": [{**FOREIGN, "size": 1 << 70, "annotations": {REF_NAME: "v1"}}]})

    with pytest.raises(Invalid):
        load_artifact(store, store.resolve("v1"))


def test_an_index_that_is_huge_is_not_read(store: OciDir) -> None:
    with open(store.path / "index.json", "r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(Invalid, match="1099511627776 bytes"):
        store.tags()


def test_an_invalid_index_is_not_overwritten(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    (store.path / "index.json").write_text("not json")
    with pytest.raises(Invalid):
        store.tag(root, "v1")

    assert (store.path / "index.json").read_text() == "not json"


def test_an_index_that_is_missing_is_not_found(store: OciDir) -> None:
    (store.path / "index.json").unlink()

    with pytest.raises(NotFound):
        store.tags()


@pytest.mark.parametrize("types", [(OCI_INDEX, OCI_MANIFEST), (DOCKER_INDEX, DOCKER_MANIFEST)], ids=["oci", "docker"])
def test_prune_keeps_what_an_index_of_manifests_reaches(store: OciDir, types: tuple[str, str]) -> None:
    first, second = put_manifest(store, WEIGHTS), put_manifest(store, b"other weights")
    write_index(store, {"manifests": [put_index(store, *types, first, second)]})
    before = blobs_of(store.path)
    store.prune()

    assert blobs_of(store.path) == before


def test_prune_keeps_what_an_index_in_an_index_reaches(store: OciDir) -> None:
    inner = put_index(store, OCI_INDEX, OCI_MANIFEST, put_manifest(store, WEIGHTS))
    outer = put(store, canonical_json({"schemaVersion": 2, "manifests": [inner]}))
    write_index(store, {"manifests": [entry(outer, OCI_INDEX)]})
    before = blobs_of(store.path)
    store.prune()

    assert blobs_of(store.path) == before


def test_prune_passes_over_a_platform_that_is_not_here(store: OciDir) -> None:
    absent = descriptor(b"the manifest of another platform")
    here = put_manifest(store, WEIGHTS)
    write_index(store, {"manifests": [put_index(store, OCI_INDEX, OCI_MANIFEST, absent, here)]})
    before = blobs_of(store.path)
    store.prune()

    assert blobs_of(store.path) == before


def test_prune_takes_null_layers_for_none(store: OciDir) -> None:
    put(store, CONFIG)
    config = {"mediaType": "application/json", "digest": digest_of(CONFIG), "size": len(CONFIG)}
    manifest = put(store, canonical_json({"schemaVersion": 2, "config": config, "layers": None}))
    write_index(store, {"manifests": [entry(manifest)]})
    before = blobs_of(store.path)
    store.prune()

    assert blobs_of(store.path) == before


@pytest.mark.parametrize(
    "document",
    [
        b"not json",
        b'{"layers": 5}',
        b'{"layers": "abc"}',
        b'{"layers": [{"mediaType": "", "digest": "../../x", "size": 1}]}',
        b'{"config": 1}',
        b"[" * 100_000,
    ],
    ids=range(6),
)
def test_prune_removes_nothing_when_a_manifest_cannot_be_read(store: OciDir, document: bytes) -> None:
    put(store, WEIGHTS)
    write_index(store, {"manifests": [entry(put(store, document))]})
    before = blobs_of(store.path)
    with pytest.raises(Invalid):
        store.prune()

    assert blobs_of(store.path) == before
