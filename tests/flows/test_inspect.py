"""Inspect: what an artifact says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelctl.core.errors import DigestMismatch, Invalid, NotFound
from modelctl.core.media_types import IN_TOTO, MODELPACK_CONFIG, OCI_CONFIG
from modelctl.core.types import Origin
from modelctl.flows.attached import attach_provenance
from modelctl.flows.inspect import AttachedReport, FileReport, InspectReport, inspect, read_manifest
from modelctl.packing.provenance import Options, Provenance
from modelctl.registry.ocidir import OciDir
from tests.stores import (
    blob_path,
    files_of,
    flip,
    gzipped,
    layer_of,
    manifest_of,
    pack_model,
    put,
    put_manifest,
    reference,
    tags_of,
)

SHARD = "model-00002-of-00004.safetensors"
MODELPACK_MANIFEST = "application/vnd.cncf.model.manifest.v1+json"


def inspected(store: Path, tag: str = "v1", *, tensors: bool = False) -> InspectReport:
    return inspect(reference(store, tag), tensors=tensors)


def files(report: InspectReport) -> dict[str, FileReport]:
    return {file.path: file for layer in report.layers for file in layer.files}


def test_every_file_is_named_with_its_size(model: Path, packed: Path) -> None:
    found = {path: file.size for path, file in files(inspected(packed)).items()}

    assert found == {path: len(data) for path, data in files_of(model).items()}


def test_files_and_sizes_are_summed(model: Path, packed: Path) -> None:
    report, contents = inspected(packed), files_of(model).values()

    assert (report.files, report.size) == (len(contents), sum(map(len, contents)))


def test_every_layer_of_the_manifest_is_named(packed: Path) -> None:
    found = [layer.digest for layer in inspected(packed).layers]

    assert found == [layer["digest"] for layer in manifest_of(packed)["layers"]]


def test_the_bytes_of_a_file_stand_where_it_says(model: Path, packed: Path) -> None:
    blob = blob_path(packed, layer_of(packed, SHARD)).read_bytes()
    file = files(inspected(packed))[SHARD]

    assert blob[file.offset : file.offset + file.size] == (model / SHARD).read_bytes()


def test_tensors_are_named_with_the_place_of_their_bytes(model: Path, packed: Path) -> None:
    tensors = files(inspected(packed, tensors=True))[SHARD].tensors or []

    assert [(tensor.name, tensor.dtype, tensor.shape, tensor.size) for tensor in tensors] == [
        ("layers.2.up", "U8", [50_000], 50_000),
        ("layers.2.down", "U8", [50_000], 50_000),
    ]


def test_tensors_are_only_told_when_they_are_asked_for(packed: Path) -> None:
    assert files(inspected(packed))[SHARD].tensors is None


def test_a_file_that_is_not_a_shard_has_no_tensors(packed: Path) -> None:
    assert files(inspected(packed, tensors=True))["config.json"].tensors is None


def test_tensors_of_a_compressed_artifact_are_the_same(packed: Path) -> None:
    gzipped(packed)

    assert files(inspected(packed, "gz", tensors=True)) == files(inspected(packed, tensors=True))


def test_a_shard_whose_header_is_spoilt_is_invalid(packed: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), 4096 + 7)

    with pytest.raises(Invalid, match=SHARD):
        inspected(packed, tensors=True)


def test_a_corrupted_gzip_is_named(packed: Path) -> None:
    digest = gzipped(packed)[1]
    flip(blob_path(packed, digest), 0)

    with pytest.raises(Invalid, match=digest):
        inspected(packed, "gz", tensors=True)


def test_an_image_says_so(packed: Path) -> None:
    report = inspected(packed)

    assert (report.artifact_type, report.config_media_type, report.subject) == ("", OCI_CONFIG, None)


def test_a_twin_names_its_subject(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"))
    report = inspected(store, "v1-modelpack")

    assert (report.config_media_type, report.subject) == (MODELPACK_CONFIG, tags_of(store)["v1"])


def test_nothing_is_attached_when_provenance_is_not_wanted(model: Path, store: Path) -> None:
    pack_model(model, store, provenance=False)

    assert inspected(store).attached == []


def test_a_twin_is_attached(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"), provenance=False)
    twin = tags_of(store)["v1-modelpack"]

    assert inspected(store).attached == [
        AttachedReport(artifact_type=MODELPACK_MANIFEST, digest=twin, size=blob_path(store, twin).stat().st_size)
    ]


def test_provenance_tells_the_source_and_what_its_revision_was(model: Path, store: Path) -> None:
    pack_model(model, store, provenance=False)
    origin = Origin(url="hf://Qwen/Qwen3-8B", revision="c" * 40)
    made = Provenance(origin=origin, options=Options(layouts=("image",), max_layers=110), files=(), version="1.2.3")
    attach_provenance(OciDir(store), OciDir(store).resolve("v1"), made)
    (found,) = inspected(store).attached

    assert (found.artifact_type, found.source, found.revision, found.version) == (
        IN_TOTO,
        "hf://Qwen/Qwen3-8B",
        "c" * 40,
        "1.2.3",
    )


def test_annotations_are_told(model: Path, store: Path) -> None:
    pack_model(model, store, annotations={"org.example.run": "42"})

    assert inspected(store).annotations == {"org.example.run": "42"}


def test_a_prefix_is_told(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("kserve",))

    assert inspected(store).prefix == "models/"


def test_the_reference_is_by_digest(packed: Path) -> None:
    assert inspected(packed).reference == f"oci:{packed}@{tags_of(packed)['v1']}"


def test_a_missing_tag_is_not_found(packed: Path) -> None:
    with pytest.raises(NotFound, match="its tags are: v1"):
        inspected(packed, "v2")


def test_the_manifest_is_given_to_the_byte(packed: Path) -> None:
    assert read_manifest(reference(packed)) == blob_path(packed, tags_of(packed)["v1"]).read_bytes()


def test_the_manifest_of_another_tool_is_given_too(packed: Path) -> None:
    digest = put_manifest(packed, {"schemaVersion": 2, "whoever": "wrote it"}, "foreign")

    assert read_manifest(reference(packed, "foreign")) == blob_path(packed, digest).read_bytes()


def test_a_spoilt_manifest_is_not_given(packed: Path) -> None:
    flip(blob_path(packed, tags_of(packed)["v1"]), 20)

    with pytest.raises(DigestMismatch):
        read_manifest(reference(packed))


def test_an_artifact_without_a_table_is_invalid(packed: Path) -> None:
    manifest = manifest_of(packed)
    config = put(packed, b'{"rootfs": {"diff_ids": []}}')
    manifest |= {"layers": [], "config": {**manifest["config"], "digest": config, "size": 28}}
    put_manifest(packed, manifest, "foreign")

    with pytest.raises(Invalid, match="not an artifact that modelctl packed"):
        inspected(packed, "foreign")
