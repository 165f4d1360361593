"""Pull: the files come back exactly, whatever was there before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from modelctl.core.errors import ChecksumMismatch, Conflict, DigestMismatch, Invalid, NotFound
from modelctl.core.types import Digest
from modelctl.node.folder import UNFINISHED, open_folder
from tests.models import write_model
from tests.stores import (
    blob_path,
    files_of,
    flip,
    gzipped,
    layer_of,
    manifest_of,
    names_in,
    pack_model,
    pull_model,
    put_manifest,
    tags_of,
    with_rows,
)

SHARD = "model-00002-of-00004.safetensors"


def kill_pulls(store: Path, target: Path, after_s: Sequence[float]) -> None:
    """Start a pull and kill it, after each of these times unless it is done."""
    command = [sys.executable, "-m", "modelctl", "pull", f"oci:{store}:v1", str(target), "--quiet"]
    for seconds in after_s:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()


@pytest.mark.parametrize("layout", ["image", "modelpack", "raw", "kserve"])
def test_the_files_come_back_exactly(model: Path, store: Path, target: Path, layout: str) -> None:
    pack_model(model, store, layouts=(layout,))
    pull_model(store, target)

    assert files_of(target) == files_of(model)


def test_names_outside_ascii_and_deep_folders_come_back(model: Path, store: Path, target: Path) -> None:
    path = model / ("深い" * 20) / ("folder" * 20) / "模型 (1).json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    pack_model(model, store)
    pull_model(store, target)

    assert files_of(target) == files_of(model)


def test_equal_files_and_empty_ones_come_back(model: Path, store: Path, target: Path) -> None:
    for name in ("empty", "empty too", "copy of config.json"):
        (model / name).write_bytes((model / "config.json").read_bytes() if "copy" in name else b"")
    pack_model(model, store, layouts=("raw",))
    pull_model(store, target)

    assert files_of(target) == files_of(model)


def test_nothing_but_the_files_comes(model: Path, packed: Path, target: Path) -> None:
    pull_model(packed, target)

    assert names_in(target) == names_in(model)


def test_a_pulled_model_packs_to_the_same_digest(packed: Path, target: Path, tmp_path: Path) -> None:
    pull_model(packed, target)
    pack_model(target, tmp_path / "store2")

    assert tags_of(tmp_path / "store2") == tags_of(packed)


def test_by_digest_the_same_comes(model: Path, packed: Path, target: Path) -> None:
    pull_model(packed, target, tag=f"v1@{tags_of(packed)['v1']}")

    assert files_of(target) == files_of(model)


def test_pulling_again_finds_everything_there(packed: Path, target: Path) -> None:
    first = pull_model(packed, target)
    second = pull_model(packed, target)

    assert (first.present, second.present) == (0, second.files)


def test_a_subset_is_what_include_and_exclude_select(packed: Path, target: Path) -> None:
    pull_model(packed, target, include=["*.json"], exclude=["*.index.json"])

    assert set(files_of(target)) == {"config.json", "tokenizer.json"}


def test_the_whole_may_follow_a_subset(model: Path, packed: Path, target: Path) -> None:
    pull_model(packed, target, include=["*.json"])
    pull_model(packed, target)

    assert files_of(target) == files_of(model)


def test_the_whole_after_a_subset_says_what_was_there(packed: Path, target: Path) -> None:
    subset = pull_model(packed, target, include=["*.json"])

    assert pull_model(packed, target).present == subset.files


def test_a_subset_of_nothing_is_refused(packed: Path, target: Path) -> None:
    with pytest.raises(NotFound, match="no file to pull"):
        pull_model(packed, target, include=["*.gguf"])


def test_a_subset_of_nothing_makes_no_folder(packed: Path, target: Path) -> None:
    with pytest.raises(NotFound):
        pull_model(packed, target, include=["*.gguf"])

    assert not target.exists()


def test_a_pull_that_was_killed_in_another_subset_leaves_nothing_in_the_end(
    model: Path, packed: Path, target: Path
) -> None:
    part = target / UNFINISHED / tags_of(packed)["v1"].removeprefix("sha256:") / ("0" * 64)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"the beginning of a shard")
    pull_model(packed, target, include=["*.json"])

    assert names_in(target) == {path for path in names_in(model) if path.endswith(".json")}


def test_a_tag_that_is_not_there_makes_no_folder(packed: Path, target: Path) -> None:
    with pytest.raises(NotFound):
        pull_model(packed, target, tag="v2")

    assert not target.exists()


def test_a_folder_with_other_files_is_refused(packed: Path, target: Path) -> None:
    target.mkdir()
    (target / "notes.txt").write_text("mine")

    with pytest.raises(Conflict, match=r"notes\.txt"):
        pull_model(packed, target)


def test_a_refused_pull_leaves_nothing_behind(packed: Path, target: Path) -> None:
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(Conflict):
        pull_model(packed, target)

    assert names_in(target) == {"notes.txt"}


def test_another_version_of_the_model_is_refused(packed: Path, target: Path, tmp_path: Path) -> None:
    pull_model(packed, target)
    pack_model(write_model(tmp_path / "other", seed=7), packed, tag="v2")

    with pytest.raises(Conflict):
        pull_model(packed, target, tag="v2")


def test_overwrite_makes_it_another_version(packed: Path, target: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", seed=7)
    pull_model(packed, target)
    pack_model(other, packed, tag="v2")
    pull_model(packed, target, tag="v2", overwrite=True)

    assert files_of(target) == files_of(other)


def test_overwrite_leaves_other_files(model: Path, packed: Path, target: Path) -> None:
    (target / "mine").mkdir(parents=True)
    (target / "mine" / "notes.txt").write_text("mine")
    pull_model(packed, target, overwrite=True)

    assert files_of(target) == {**files_of(model), "mine/notes.txt": b"mine"}


def test_a_pull_while_another_fills_the_folder_is_refused(packed: Path, target: Path) -> None:
    with open_folder(target, Digest(tags_of(packed)["v1"]), overwrite=False), pytest.raises(Conflict, match="in use"):
        pull_model(packed, target)


def test_a_layer_with_wrong_bytes_is_refused(packed: Path, target: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), 50_000)

    with pytest.raises(ChecksumMismatch, match=f"{SHARD}, chunk 0"):
        pull_model(packed, target)


def test_a_file_with_wrong_bytes_never_stands_under_its_name(packed: Path, target: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), 50_000)
    with pytest.raises(ChecksumMismatch):
        pull_model(packed, target)

    assert SHARD not in files_of(target)


def test_a_pull_goes_on_when_the_layer_is_put_right(model: Path, packed: Path, target: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), 50_000)
    with pytest.raises(ChecksumMismatch):
        pull_model(packed, target)
    pack_model(model, packed)
    pull_model(packed, target)

    assert (files_of(target), names_in(target)) == (files_of(model), names_in(model))


def test_a_layer_whose_header_names_another_file_is_refused(packed: Path, target: Path) -> None:
    path = blob_path(packed, layer_of(packed, SHARD))
    path.write_bytes(path.read_bytes().replace(SHARD.encode(), SHARD.replace("2", "9", 1).encode()))

    with pytest.raises(DigestMismatch, match="tar headers"):
        pull_model(packed, target)


def test_a_compressed_artifact_comes_back_exactly(model: Path, packed: Path, target: Path) -> None:
    gzipped(packed)
    pull_model(packed, target, tag="gz")

    assert files_of(target) == files_of(model)


def test_a_corrupted_gzip_is_refused(packed: Path, target: Path) -> None:
    flip(blob_path(packed, gzipped(packed)[1]), 60_000)

    with pytest.raises((Invalid, ChecksumMismatch)):
        pull_model(packed, target, tag="gz")


def test_a_table_with_other_chunks_is_refused(packed: Path, target: Path) -> None:
    with_rows(packed, SHARD, chunks=bytes(32))

    with pytest.raises(ChecksumMismatch, match=f"{SHARD}, chunk 0"):
        pull_model(packed, target, tag="lie")


@pytest.mark.parametrize(
    "path", ["../out", "/tmp/out", "a/../../out", ".modelctl.unfinished/x", "a//b", ".", "a\x00b", "a/.wh.b"]
)
def test_a_path_that_leaves_the_target_is_refused(packed: Path, target: Path, path: str) -> None:
    with_rows(packed, SHARD, path=path)
    with pytest.raises(Invalid):
        pull_model(packed, target, tag="lie")

    assert not target.exists()


def test_a_manifest_of_another_tool_is_refused(packed: Path, target: Path) -> None:
    manifest = manifest_of(packed)
    del manifest["layers"][-1]["annotations"]
    put_manifest(packed, manifest, "foreign")

    with pytest.raises(Invalid, match="not an artifact that modelctl packed"):
        pull_model(packed, target, tag="foreign")


def test_a_pull_that_is_killed_again_and_again_finishes(tmp_path: Path, store: Path, target: Path) -> None:
    model = write_model(tmp_path / "big", shards=2, size=20_000_000)
    pack_model(model, store)
    kill_pulls(store, target, after_s=(0.2, 0.25, 0.3, 0.35))
    pull_model(store, target)

    assert (files_of(target), names_in(target)) == (files_of(model), names_in(model))


def test_a_file_that_was_spoilt_since_is_found(packed: Path, target: Path) -> None:
    pull_model(packed, target)
    flip(target / SHARD, 50_000)

    with pytest.raises(Conflict, match=f"{SHARD} is not the artifact's"):
        pull_model(packed, target)
