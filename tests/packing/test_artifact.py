import gzip
import json
from typing import Any

import pytest

from modelctl.core.errors import DigestMismatch, Invalid, NotFound
from modelctl.core.media_types import OCI_INDEX, OCI_MANIFEST
from modelctl.core.types import Descriptor, digest_of
from modelctl.packing.artifact import Layer, load_artifact, read_document
from tests.fakes.memory import MemoryStore
from tests.packing.artifacts import (
    FILES,
    edited,
    manifest_of,
    packed,
    table_of,
    with_config,
)

LAYOUTS = ["image", "modelpack", "raw", "kserve"]
HUGE = 1 << 30
OTHER = digest_of(b"other")


def files_in(store: MemoryStore, layer: Layer) -> dict[str, bytes]:
    blob = store.blobs[layer.descriptor.digest]
    return {row.path: blob[row.offset : row.offset + row.size] for row in layer.rows}


class TestGood:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_file_lies_where_the_artifact_says(self, store: MemoryStore, layout: str) -> None:
        artifact = load_artifact(store, packed(store, layout=layout))
        found: dict[str, bytes] = {}
        for layer in artifact.layers:
            found |= files_in(store, layer)
        assert found == FILES

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_no_layer_is_read(self, store: MemoryStore, layout: str) -> None:
        root = packed(store, layout=layout)
        artifact = load_artifact(store, root)
        manifest = artifact.manifest
        assert store.opened == [root.digest, manifest.config.digest, manifest.layers[-1].digest]

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_header_is_as_the_form_makes_it(self, store: MemoryStore, layout: str) -> None:
        for layer in load_artifact(store, packed(store, layout=layout)).layers:
            for piece in layer.pieces():
                layer.check_head(layer.open(store), piece)

    def test_equal_files_of_a_raw_artifact_share_a_blob(self, store: MemoryStore) -> None:
        artifact = load_artifact(store, packed(store, {"a.txt": b"same", "b.txt": b"same"}, "raw"))
        assert [[row.path for row in layer.rows] for layer in artifact.layers] == [["a.txt"], ["b.txt"]]

    def test_the_size_is_that_of_the_files(self, store: MemoryStore, root: Descriptor) -> None:
        assert load_artifact(store, root).size == sum(map(len, FILES.values()))

    def test_unknown_keys_of_a_manifest_are_no_trouble(self, store: MemoryStore, root: Descriptor) -> None:
        load_artifact(store, edited(store, root, lambda manifest: manifest.update(new={"a": 1})))


def as_gzip(store: MemoryStore, root: Descriptor, index: int, data: bytes | None = None) -> Descriptor:
    """Put the artifact with a layer compressed as skopeo does it: another digest and media type, the same diff_id."""

    def compress(manifest: dict[str, Any]) -> None:
        layer = manifest["layers"][index]
        blob = gzip.compress(store.blobs[layer["digest"]] if data is None else data, mtime=0)
        layer["mediaType"] += "+gzip"
        put = store.put(blob, layer["mediaType"])
        layer |= {"digest": put.digest, "size": put.size}

    return edited(store, root, compress)


class TestGzip:
    def test_a_recompressed_layer_has_the_same_files(self, store: MemoryStore, root: Descriptor) -> None:
        layer = load_artifact(store, as_gzip(store, root, 0)).layers[0]
        row = layer.rows[0]
        data = bytearray(row.size)
        layer.open(store).read_into(row.offset, memoryview(data))
        assert data == FILES[row.path]

    def test_a_recompressed_table_is_read(self, store: MemoryStore, root: Descriptor) -> None:
        assert load_artifact(store, as_gzip(store, root, -1)).table == table_of(store, root)

    def test_a_table_that_is_not_gzip_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        def lie(manifest: dict[str, Any]) -> None:
            manifest["layers"][-1]["mediaType"] += "+gzip"

        with pytest.raises(Invalid, match="not gzip"):
            load_artifact(store, edited(store, root, lie))

    @pytest.mark.parametrize("data", [b"", b"another table"])
    def test_another_table_in_gzip_is_refused(self, store: MemoryStore, root: Descriptor, data: bytes) -> None:
        with pytest.raises(DigestMismatch, match="its diff_id in the config"):
            load_artifact(store, as_gzip(store, root, -1, data))

    def test_a_table_that_inflates_without_end_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid, match="cut short, or too large"):
            load_artifact(store, as_gzip(store, root, -1, bytes((256 << 20) + 1)))

    def test_a_second_layer_that_claims_the_same_content_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        manifest = manifest_of(store, root)
        config = json.loads(store.blobs[manifest["config"]["digest"]])
        media_type = manifest["layers"][0]["mediaType"] + "+gzip"
        evil = store.put(gzip.compress(b"evil"), media_type)
        manifest["layers"].insert(1, {"mediaType": media_type, "digest": evil.digest, "size": evil.size})
        config["rootfs"]["diff_ids"].insert(1, config["rootfs"]["diff_ids"][0])
        with pytest.raises(Invalid, match=f"layer 2, {evil.digest}"):
            load_artifact(store, with_config(store, manifest, config))


class TestDocuments:
    def test_an_index_is_refused(self, store: MemoryStore) -> None:
        with pytest.raises(Invalid, match="is an index"):
            load_artifact(store, store.put(b"{}", OCI_INDEX))

    def test_a_manifest_that_is_not_there_is_not_found(self, store: MemoryStore) -> None:
        with pytest.raises(NotFound):
            load_artifact(store, Descriptor(media_type=OCI_MANIFEST, digest=OTHER, size=2))

    def test_a_manifest_of_another_digest_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        store.blobs[root.digest] = store.blobs[root.digest].replace(b"weight", b"height")
        with pytest.raises(DigestMismatch, match=root.digest):
            load_artifact(store, root)

    @pytest.mark.parametrize("part", ["config", "table"])
    def test_a_document_of_another_digest_is_refused(self, store: MemoryStore, root: Descriptor, part: str) -> None:
        manifest = manifest_of(store, root)
        digest = {"config": manifest["config"], "table": manifest["layers"][-1]}[part]["digest"]
        store.blobs[digest] = store.blobs[digest][:-1] + b"!"
        with pytest.raises(DigestMismatch, match=digest):
            load_artifact(store, root)

    def test_a_manifest_of_another_size_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(DigestMismatch):
            load_artifact(store, Descriptor(media_type=OCI_MANIFEST, digest=root.digest, size=root.size + 1))

    def test_a_manifest_of_100_000_layers_is_refused_unread(self, store: MemoryStore, root: Descriptor) -> None:
        many = edited(store, root, lambda manifest: manifest.update(layers=manifest["layers"] * 20_000))
        with pytest.raises(Invalid, match=rf"it has {many.size} bytes; at most 4194304 are read"):
            load_artifact(store, many)

    def test_a_manifest_of_1_gb_is_refused_unread(self, store: MemoryStore) -> None:
        with pytest.raises(Invalid, match="at most 4194304 are read"):
            load_artifact(store, Descriptor(media_type=OCI_MANIFEST, digest=OTHER, size=HUGE))
        assert store.opened == []

    def test_a_config_of_1_gb_is_refused_unread(self, store: MemoryStore, root: Descriptor) -> None:
        big = edited(store, root, lambda manifest: manifest["config"].update(size=HUGE))
        with pytest.raises(Invalid, match=f"it has {HUGE} bytes"):
            load_artifact(store, big)
        assert store.opened == [big.digest]

    def test_a_table_of_1_gb_is_refused_unread(self, store: MemoryStore, root: Descriptor) -> None:
        big = edited(store, root, lambda manifest: manifest["layers"][-1].update(size=HUGE))
        with pytest.raises(Invalid, match="at most 268435456 are read"):
            load_artifact(store, big)

    def test_a_document_is_read_to_its_last_byte(self, store: MemoryStore) -> None:
        assert read_document(store, store.put(b"document", "x"), 8) == b"document"

    @pytest.mark.parametrize(
        "config", [b"", b"{}", b"[]", b"null", b'{"rootfs":{"diff_ids":"x"}}', b"[" * 100_000, b"\xff"], ids=range(7)
    )
    def test_a_config_without_the_right_diff_ids_is_refused(
        self, store: MemoryStore, root: Descriptor, config: bytes
    ) -> None:
        put = store.put(config, "x")
        changed = edited(store, root, lambda manifest: manifest["config"].update(digest=put.digest, size=put.size))
        with pytest.raises(Invalid, match=f"config {put.digest}"):
            load_artifact(store, changed)
