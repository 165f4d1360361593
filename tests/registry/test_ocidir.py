"""A store in a folder: what every store does, and what a layout on disk does beyond it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelctl.core.errors import Conflict, DigestMismatch, NotFound
from modelctl.core.protocols import BytesBlob
from modelctl.core.types import Descriptor, Digest, digest_of
from modelctl.registry.ocidir import OciDir
from tests.conformance.stores import CONFIG, WEIGHTS, StoreConformance, put, put_manifest, read, same
from tests.stores import blob_path, files_of, names_in

INDEX = b'{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@pytest.fixture
def store(tmp_path: Path) -> OciDir:
    store = OciDir(tmp_path / "store")
    store.create()
    return store


class TestOciDir(StoreConformance):
    """The fixture is the module's."""


def test_a_blob_of_another_size_is_not_there(store: OciDir) -> None:
    put(store, WEIGHTS)

    assert not store.has(Descriptor(media_type="", digest=digest_of(WEIGHTS), size=len(WEIGHTS) + 1))


def test_a_commit_of_what_is_there_says_so(store: OciDir) -> None:
    put(store, WEIGHTS)
    with store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)

        assert not upload.commit(digest_of(WEIGHTS))


def test_a_new_store_is_an_empty_image_layout(store: OciDir) -> None:
    files = {path: data for path, data in files_of(store.path).items() if not path.startswith(".modelctl/")}

    assert files == {"oci-layout": LAYOUT, "index.json": INDEX}


def test_a_folder_above_that_is_missing_is_made(tmp_path: Path) -> None:
    OciDir(tmp_path / "a" / "b").create()

    assert (tmp_path / "a" / "b" / "oci-layout").exists()


def test_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    OciDir(tmp_path).create()

    assert (tmp_path / "index.json").read_bytes() == INDEX


@pytest.mark.parametrize("present", [["index.json"], ["oci-layout"], ["blobs/sha256/x"], [".modelctl/unfinished-1"]])
def test_a_store_whose_making_was_cut_short_is_made_whole(tmp_path: Path, present: list[str]) -> None:
    contents = {"index.json": INDEX, "oci-layout": LAYOUT}
    for name in present:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(contents.get(name, b""))
    store = OciDir(tmp_path)
    store.create()
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")

    assert same(store.resolve("v1"), root)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(Conflict, match=r"notes\.txt"):
        OciDir(tmp_path).create()


def test_a_refused_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict):
        OciDir(tmp_path).create()

    assert names_in(tmp_path) == {"notes.txt"}


def test_creating_a_store_again_changes_nothing(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    before = files_of(store.path)
    store.create()

    assert files_of(store.path) == before


def test_an_upload_stands_nowhere_among_the_blobs_before_its_commit(store: OciDir) -> None:
    with store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)

        assert list((store.path / "blobs" / "sha256").iterdir()) == []


def test_an_upload_that_was_not_committed_leaves_no_file(store: OciDir) -> None:
    before = names_in(store.path)
    with store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)

    assert names_in(store.path) == before


def test_a_blob_that_rotted_is_replaced_by_its_next_upload(store: OciDir) -> None:
    blob = put(store, WEIGHTS)
    blob_path(store.path, blob.digest).write_bytes(b"\0" * len(WEIGHTS))
    put(store, WEIGHTS)

    assert read(store, blob) == WEIGHTS


def test_a_blob_that_was_cut_short_is_replaced_by_its_next_upload(store: OciDir) -> None:
    blob = put(store, WEIGHTS)
    blob_path(store.path, blob.digest).write_bytes(WEIGHTS[:10])
    put(store, WEIGHTS)

    assert read(store, blob) == WEIGHTS


def test_a_truncated_blob_is_named(store: OciDir) -> None:
    blob = put(store, WEIGHTS)
    os.truncate(blob_path(store.path, blob.digest), 10)

    with pytest.raises(DigestMismatch, match=f"{blob.digest}.*\n.*has 10 bytes.*says 300000"):
        store.open(blob)


def test_without_a_name_latest_is_meant(store: OciDir) -> None:
    latest = put_manifest(store, WEIGHTS)
    store.tag(put_manifest(store, CONFIG), "v1")
    store.tag(latest, "latest")

    assert same(store.resolve(""), latest)


def test_without_a_name_the_only_manifest_is_meant(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")

    assert store.resolve("").digest == root.digest


def test_without_a_name_one_of_several_is_asked_for(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.tag(put_manifest(store, CONFIG), "v2")

    with pytest.raises(NotFound, match="its tags are: v1, v2"):
        store.resolve("")


def test_a_manifest_without_a_tag_resolves_by_its_digest(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)

    assert same(store.resolve(root.digest), root)


def test_tags_are_listed_with_their_manifests(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "latest")

    assert {tag: found.digest for tag, found in store.tags().items()} == {"v1": root.digest, "latest": root.digest}


def test_a_tag_that_is_forgotten_is_not_found(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.untag("v1")

    assert store.tags() == {}


def test_forgetting_a_digest_forgets_all_its_tags(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")

    assert store.untag(root.digest) == ["v1", "v2"]


def test_forgetting_a_tag_keeps_the_others(store: OciDir) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")
    store.untag("v1")

    assert list(store.tags()) == ["v2"]


def test_forgetting_what_is_not_there_is_refused(store: OciDir) -> None:
    with pytest.raises(NotFound):
        store.untag("v1")


def test_a_refused_change_leaves_the_index_as_it_was(store: OciDir) -> None:
    missing = Descriptor(media_type="", digest=Digest("sha256:" + "0" * 64), size=1)
    with pytest.raises(NotFound):
        store.tag(missing, "v1")

    assert (store.path / "index.json").read_bytes() == INDEX


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no oci-layout"):
        OciDir(tmp_path / "store").resolve("v1")


def test_reading_a_folder_that_is_not_a_store_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        OciDir(tmp_path).tags()

    assert names_in(tmp_path) == set()


def test_changing_a_folder_that_is_not_a_store_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"manifests": []}))
    with pytest.raises(NotFound):
        OciDir(tmp_path).untag("v1")

    assert names_in(tmp_path) == {"index.json"}


def test_a_blob_is_named_by_the_sha256_of_its_bytes(store: OciDir) -> None:
    put(store, WEIGHTS)

    assert blob_path(store.path, digest_of(WEIGHTS)).read_bytes() == WEIGHTS
