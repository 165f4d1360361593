"""What every `Store` must do. An implementation is tested by a subclass with a fixture `store`, an empty one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from modelctl.core.errors import DigestMismatch, NotFound
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.protocols import BytesBlob, Store
from modelctl.core.types import Descriptor, Digest, canonical_json, digest_of
from tests.models import noise

WEIGHTS = noise(300_000, "weights")
CONFIG = b"{}"


def descriptor(data: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))


def put(store: Store, data: bytes) -> Descriptor:
    """Store `data`, in two writes."""
    with store.upload(BytesBlob(data)) as upload:
        upload.write(data[:1000])
        upload.write(memoryview(data)[1000:])
        upload.commit(digest_of(data))
    return descriptor(data)


def put_manifest(store: Store, *layers: bytes) -> Descriptor:
    """Store layers, a config, and the manifest of them."""
    found = [put(store, data) for data in (CONFIG, *layers)]
    config, *rows = [{"mediaType": item.media_type, "digest": item.digest, "size": item.size} for item in found]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": rows}
    data = canonical_json(document)
    root = descriptor(data, OCI_MANIFEST)
    store.put_manifest(root, data)
    return root


def same(found: Descriptor, expected: Descriptor) -> bool:
    """Say whether both describe one blob, whatever a store adds of its own."""
    return (found.media_type, found.digest, found.size) == (expected.media_type, expected.digest, expected.size)


def read(store: Store, blob: Descriptor) -> bytes:
    data = bytearray(blob.size)
    with closing(store.open(blob)) as opened:
        opened.read_into(0, memoryview(data))
    return bytes(data)


class StoreConformance:
    def test_a_committed_blob_has_the_bytes_that_were_written(self, store: Store) -> None:
        assert read(store, put(store, WEIGHTS)) == WEIGHTS

    def test_a_committed_blob_is_there_under_its_digest_and_size(self, store: Store) -> None:
        assert store.has(put(store, WEIGHTS))

    def test_an_empty_blob_is_a_blob(self, store: Store) -> None:
        assert read(store, put(store, b"")) == b""

    def test_a_blob_that_was_not_stored_is_not_there(self, store: Store) -> None:
        assert not store.has(descriptor(WEIGHTS))

    def test_a_commit_says_that_the_blob_is_new(self, store: Store) -> None:
        with store.upload(BytesBlob(WEIGHTS)) as upload:
            upload.write(WEIGHTS)

            assert upload.commit(digest_of(WEIGHTS))

    def test_an_upload_that_was_not_committed_leaves_nothing(self, store: Store) -> None:
        with store.upload(BytesBlob(WEIGHTS)) as upload:
            upload.write(WEIGHTS)

        assert not store.has(descriptor(WEIGHTS))

    def test_an_upload_that_broke_leaves_nothing(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.upload(BytesBlob(WEIGHTS)) as upload:
            upload.write(bytes(len(WEIGHTS) // 0))

        assert not store.has(descriptor(WEIGHTS))

    def test_a_range_read_fills_exactly_the_buffer(self, store: Store) -> None:
        buffer = bytearray(b"-" * 30)
        with closing(store.open(put(store, WEIGHTS))) as blob:
            blob.read_into(100_000, memoryview(buffer)[10:20])

        assert buffer == b"-" * 10 + WEIGHTS[100_000:100_010] + b"-" * 10

    def test_an_opened_blob_knows_its_size(self, store: Store) -> None:
        with closing(store.open(put(store, WEIGHTS))) as blob:
            assert blob.size == len(WEIGHTS)

    def test_a_blob_may_be_read_by_many_threads(self, store: Store) -> None:
        pieces = [WEIGHTS[at : at + 1000] for at in range(0, len(WEIGHTS), 1000)]
        with closing(store.open(put(store, WEIGHTS))) as blob, ThreadPoolExecutor(8) as pool:

            def piece(at: int) -> bytes:
                buffer = bytearray(1000)
                blob.read_into(at, memoryview(buffer))
                return bytes(buffer)

            assert list(pool.map(piece, range(0, len(WEIGHTS), 1000))) == pieces

    def test_reading_a_blob_that_is_not_there_says_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            read(store, descriptor(WEIGHTS))

    @pytest.mark.parametrize("difference", [-1, 1])
    def test_reading_a_blob_of_another_size_says_digest_mismatch(self, store: Store, difference: int) -> None:
        put(store, WEIGHTS)

        with pytest.raises(DigestMismatch):
            read(store, Descriptor(media_type="", digest=digest_of(WEIGHTS), size=len(WEIGHTS) + difference))

    def test_a_blob_may_be_read_from_its_end_to_its_beginning(self, store: Store) -> None:
        data = bytearray(len(WEIGHTS))
        with closing(store.open(put(store, WEIGHTS))) as blob:
            for at in reversed(range(0, len(WEIGHTS), 30_000)):
                blob.read_into(at, memoryview(data)[at : at + 30_000])

        assert data == WEIGHTS

    def test_a_blob_may_be_opened_several_times_at_once(self, store: Store) -> None:
        blob = put(store, WEIGHTS)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda number: read(store, blob), range(8))) == {WEIGHTS}

    def test_many_uploads_may_be_under_way_at_once(self, store: Store) -> None:
        blobs = [noise(50_000, number) for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            stored = list(pool.map(lambda data: put(store, data), blobs))

        assert [read(store, item) for item in stored] == blobs

    def test_many_uploads_of_one_blob_make_one(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            stored = list(pool.map(lambda number: put(store, WEIGHTS), range(16)))

        assert read(store, stored[0]) == WEIGHTS

    def test_a_tag_resolves_to_its_manifest(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        store.tag(root, "v1")

        assert same(store.resolve("v1"), root)

    def test_a_digest_resolves_to_its_manifest(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        store.tag(root, "v1")

        assert same(store.resolve(root.digest), root)

    def test_a_tag_that_is_set_again_names_the_new_manifest(self, store: Store) -> None:
        store.tag(put_manifest(store, WEIGHTS), "v1")
        root = put_manifest(store, WEIGHTS, CONFIG)
        store.tag(root, "v1")

        assert same(store.resolve("v1"), root)

    def test_setting_a_tag_leaves_the_others(self, store: Store) -> None:
        first, second = put_manifest(store, WEIGHTS), put_manifest(store, WEIGHTS, CONFIG)
        store.tag(first, "v1")
        store.tag(second, "v2")

        assert same(store.resolve("v1"), first)

    def test_one_manifest_may_have_many_tags(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        store.tag(root, "v1")
        store.tag(root, "latest")

        assert same(store.resolve("v1"), store.resolve("latest"))

    def test_every_tag_is_listed(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        store.tag(root, "v1")
        store.tag(root, "latest")

        assert set(store.tags()) == {"v1", "latest"}

    def test_tags_set_side_by_side_are_all_kept(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        names = [f"v{number}" for number in range(16)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: store.tag(root, name), names))

        assert {store.resolve(name).digest for name in names} == {root.digest}

    def test_a_tag_may_not_point_to_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.tag(descriptor(b'{"schemaVersion": 2}', OCI_MANIFEST), "v1")

    def test_a_tag_that_was_refused_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.tag(descriptor(b'{"schemaVersion": 2}', OCI_MANIFEST), "v1")
        with pytest.raises(NotFound):
            store.resolve("v1")

    def test_a_tag_that_was_never_set_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.resolve("v1")

    def test_a_digest_that_was_never_stored_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.resolve(Digest("sha256:" + "0" * 64))
