"""Verify an artifact: each kind of damage is found, and named."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from modelctl.core.checksum import Crcs
from modelctl.core.choices import Depth
from modelctl.core.chunks import CHUNK
from modelctl.core.errors import DigestMismatch, Invalid, NotFound
from modelctl.core.progress import Progress
from modelctl.flows.verify import verify_artifact
from tests.models import shard, write_model
from tests.stores import (
    blob_path,
    files_of,
    flip,
    gzipped,
    layer_of,
    manifest_of,
    pack_model,
    problems,
    put,
    put_manifest,
    reference,
    rows_of,
    tags_of,
    with_rows,
)

SHARD = "model-00002-of-00004.safetensors"
OFFSET = 4096
"""Where the file starts in a layer of its own."""


def change_layer(store: Path, change: Callable[[bytes], bytes]) -> None:
    """Tag, as `gz`, the compressed copy with the second layer made by `change` of the uncompressed one."""
    gzipped(store)
    manifest = manifest_of(store, "gz")
    data = change(blob_path(store, layer_of(store, SHARD)).read_bytes())
    manifest["layers"][1] |= {"digest": put(store, data), "size": len(data)}
    put_manifest(store, manifest, "gz")


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
@pytest.mark.parametrize("layout", ["image", "modelpack", "raw", "kserve"])
def test_a_whole_artifact_has_no_problem(model: Path, store: Path, layout: str, depth: Depth) -> None:
    pack_model(model, store, layouts=(layout,))

    assert problems(store, depth=depth) == {}


def test_the_report_names_every_file(model: Path, packed: Path) -> None:
    report = verify_artifact(reference(packed), "crc", jobs=2, progress=Progress())

    assert [file.path for file in report.files] == sorted(files_of(model))


def test_the_number_of_jobs_does_not_change_the_report(packed: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), OFFSET + 5)
    reports = [verify_artifact(reference(packed), "full", jobs=jobs, progress=Progress()) for jobs in (1, 8)]

    assert reports[0] == reports[1]


@pytest.mark.parametrize("depth", ["crc", "full"])
def test_a_flipped_byte_of_a_file_is_found_in_that_file(packed: Path, depth: Depth) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), OFFSET + 50_000)

    assert list(problems(packed, depth=depth)) == [SHARD]


def test_at_depth_size_no_byte_is_read(packed: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), OFFSET + 50_000)

    assert problems(packed, depth="size") == {}


def test_a_flipped_byte_is_named_by_its_chunk(tmp_path: Path, store: Path) -> None:
    model = write_model(tmp_path / "model", shards=1)
    (model / "large.safetensors").write_bytes(shard({"large": bytes([7]) * (2 * CHUNK + 100)}))
    pack_model(model, store)
    flip(blob_path(store, layer_of(store, "large.safetensors")), OFFSET + CHUNK + 9)

    assert f"chunk 1 (bytes {CHUNK}-{2 * CHUNK - 1}) has other bytes" in problems(store)["large.safetensors"]


def test_a_flipped_byte_is_named_by_both_crcs(packed: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), OFFSET + 50_000)
    (problem,) = problems(packed, depth="crc")[SHARD]

    assert ("CRC-32 is" in problem, "CRC-64 is" in problem) == (True, True)


@pytest.mark.parametrize("place", [3, 600, OFFSET - 400, -1, -600], ids=["pax", "comment", "ustar", "end", "padding"])
def test_a_flipped_byte_between_files_is_found(packed: Path, place: int) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), place)

    assert "tar headers" in " ".join(problems(packed)[SHARD])


def test_a_flipped_byte_between_small_files_is_found(packed: Path) -> None:
    flip(blob_path(packed, manifest_of(packed)["layers"][4]["digest"]), 3)

    assert "config.json" in problems(packed)


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_a_missing_blob_is_found(packed: Path, depth: Depth) -> None:
    blob_path(packed, layer_of(packed, SHARD)).unlink()

    assert list(problems(packed, depth=depth)) == [SHARD]


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
@pytest.mark.parametrize("size", [0, 5000, 1 << 20], ids=["empty", "short", "long"])
def test_a_blob_of_another_size_is_found(packed: Path, depth: Depth, size: int) -> None:
    os.truncate(blob_path(packed, layer_of(packed, SHARD)), size)

    assert list(problems(packed, depth=depth)) == [SHARD]


def test_one_bad_layer_does_not_hide_another(packed: Path) -> None:
    other = "model-00003-of-00004.safetensors"
    blob_path(packed, layer_of(packed, SHARD)).unlink()
    flip(blob_path(packed, layer_of(packed, other)), OFFSET + 5)

    assert list(problems(packed)) == [SHARD, other]


def test_a_table_that_lies_of_a_crc_is_found(packed: Path) -> None:
    with_rows(packed, SHARD, crc32=1)

    assert "expected 00000001" in problems(packed, "lie", "crc")[SHARD][0]


def test_a_table_that_lies_of_a_chunk_is_found(packed: Path) -> None:
    with_rows(packed, SHARD, chunks=bytes(32))

    assert "chunk 0" in problems(packed, "lie")[SHARD][0]


def test_a_table_that_lies_of_a_name_is_found(packed: Path) -> None:
    with_rows(packed, SHARD, path=SHARD.replace("2", "9", 1))

    assert "tar headers" in problems(packed, "lie")[SHARD.replace("2", "9", 1)][0]


def test_bytes_that_only_the_table_agrees_with_are_found(packed: Path) -> None:
    layer = blob_path(packed, layer_of(packed, SHARD))
    flip(layer, OFFSET + 50_000)
    data = layer.read_bytes()[OFFSET:][: next(row.size for row in rows_of(packed) if row.path == SHARD)]
    crcs = Crcs()
    crcs.update(memoryview(data))
    with_rows(packed, SHARD, chunks=blake3(data).digest(), crc32=crcs.crc32, crc64=crcs.crc64)

    assert "layer 2 hashes to" in problems(packed, "lie")[SHARD][0]


@pytest.mark.parametrize("change", [{"size": 5}, {"offset": 512}], ids=["size", "offset"])
def test_a_table_that_contradicts_the_manifest_is_invalid(packed: Path, change: dict[str, int]) -> None:
    with_rows(packed, SHARD, **change)

    with pytest.raises(Invalid):
        problems(packed, "lie")


@pytest.mark.parametrize("place", ["config", "table"])
def test_a_flipped_byte_of_a_document_is_a_digest_mismatch(packed: Path, place: str) -> None:
    manifest = manifest_of(packed)
    digest = manifest["config"]["digest"] if place == "config" else manifest["layers"][-1]["digest"]
    flip(blob_path(packed, digest), 10)

    with pytest.raises(DigestMismatch):
        problems(packed, depth="size")


def test_a_flipped_byte_of_the_manifest_is_a_digest_mismatch(packed: Path) -> None:
    flip(blob_path(packed, tags_of(packed)["v1"]), 10)

    with pytest.raises(DigestMismatch):
        problems(packed, depth="size")


@pytest.mark.parametrize("place", ["config", "table", "manifest"])
def test_a_missing_document_is_not_found(packed: Path, place: str) -> None:
    manifest = manifest_of(packed)
    config, table = manifest["config"]["digest"], manifest["layers"][-1]["digest"]
    digests = {"config": config, "table": table, "manifest": tags_of(packed)["v1"]}
    blob_path(packed, digests[place]).unlink()

    with pytest.raises(NotFound):
        problems(packed)


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_a_compressed_artifact_has_no_problem(packed: Path, depth: Depth) -> None:
    gzipped(packed)

    assert problems(packed, "gz", depth) == {}


@pytest.mark.parametrize("place", [0, 4, 60_000, -6], ids=["magic", "time", "middle", "checksum"])
def test_a_corrupted_gzip_is_found_in_its_file(packed: Path, place: int) -> None:
    digests = gzipped(packed)
    flip(blob_path(packed, digests[1]), place)

    assert list(problems(packed, "gz")) == [SHARD]


def test_a_gzip_that_was_cut_short_with_its_descriptor_is_found(packed: Path) -> None:
    change_layer(packed, lambda data: gzip.compress(data)[:50_000])

    assert list(problems(packed, "gz")) == [SHARD]


def test_a_gzip_that_holds_more_than_the_layer_is_found(packed: Path) -> None:
    change_layer(packed, lambda data: gzip.compress(data + bytes(1024)))

    assert list(problems(packed, "gz")) == [SHARD]


def test_a_gzip_that_holds_other_bytes_is_found(packed: Path) -> None:
    change_layer(packed, lambda data: gzip.compress(data[:-1] + b"\1"))

    assert list(problems(packed, "gz")) == [SHARD]


@pytest.mark.parametrize("name", ["v1", "gz"])
def test_verifying_never_changes_the_store(packed: Path, name: str) -> None:
    gzipped(packed)
    before = files_of(packed)
    problems(packed, name)

    assert files_of(packed) == before
