"""An artifact whose parts contradict each other, or whose layers' headers say otherwise than its table, is refused."""

import json
import re
from typing import Any

import pytest

from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.core.media_types import KIND
from modelctl.core.types import Descriptor, FileRow, digest_of
from modelctl.packing.artifact import load_artifact
from tests.fakes.memory import MemoryStore
from tests.packing.artifacts import edited, manifest_of, replace_row, with_config, with_layer, with_rows, with_table

OTHER = digest_of(b"other")


def set_diff_id(store: MemoryStore, root: Descriptor, index: int, value: str) -> Descriptor:
    manifest = manifest_of(store, root)
    config = json.loads(store.blobs[manifest["config"]["digest"]])
    config["rootfs"]["diff_ids"][index] = value
    return with_config(store, manifest, config)


class TestContradictions:
    def test_a_diff_id_of_another_layer_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid, match=f"layer 1, .*\n  why: the config's diff_id for it is {OTHER}"):
            load_artifact(store, set_diff_id(store, root, 0, OTHER))

    def test_a_diff_id_that_is_no_digest_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid, match="not a digest"):
            load_artifact(store, set_diff_id(store, root, 0, "sha256:x"))

    def test_another_diff_id_of_the_table_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(DigestMismatch, match="table"):
            load_artifact(store, set_diff_id(store, root, -1, OTHER))

    def test_fewer_layers_than_diff_ids_are_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid, match="it has 5 diff_ids; the manifest has 4 layers"):
            load_artifact(store, edited(store, root, lambda manifest: manifest["layers"].pop(0)))

    @pytest.mark.parametrize("count", [0, 2])
    def test_an_artifact_has_one_table(self, store: MemoryStore, root: Descriptor, count: int) -> None:
        def mark(manifest: dict[str, Any]) -> None:
            for index, layer in enumerate(manifest["layers"]):
                layer["annotations"][KIND] = "table" if index < count else "doc"

        with pytest.raises(Invalid, match=f"{count} of its 5 layers are marked"):
            load_artifact(store, edited(store, root, mark))

    def test_without_any_mark_the_table_is_the_last_layer(self, store: MemoryStore, root: Descriptor) -> None:
        def unmark(manifest: dict[str, Any]) -> None:
            for layer in manifest["layers"]:
                del layer["annotations"]

        assert load_artifact(store, edited(store, root, unmark)).table == load_artifact(store, root).table

    def test_a_row_whose_layer_is_not_there_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        changed = with_rows(store, root, lambda rows: [*rows, replace_row(rows[0], path="new", layer=OTHER)])
        with pytest.raises(Invalid, match="new: not in the artifact"):
            load_artifact(store, changed)

    def test_a_layer_that_no_row_names_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        changed = with_rows(store, root, lambda rows: [row for row in rows if not row.path.startswith("model-00001")])
        with pytest.raises(
            Invalid, match=r"layer 1, .*\n  why: it holds files that the artifact's table does not list"
        ):
            load_artifact(store, changed)

    def test_an_artifact_of_the_table_alone_is_empty(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid):
            load_artifact(store, with_rows(store, root, lambda rows: []))

    @pytest.mark.parametrize("change", [{"offset": 0}, {"offset": 8192}, {"size": 2000}])
    def test_a_row_that_lies_elsewhere_in_its_layer_is_refused(
        self, store: MemoryStore, root: Descriptor, change: dict[str, int]
    ) -> None:
        def move(rows: tuple[FileRow, ...]) -> list[FileRow]:
            return [replace_row(row, **change) if row.path.startswith("model-00001") else row for row in rows]

        with pytest.raises(Invalid, match=r"layer 1, .*model-00001"):
            load_artifact(store, with_rows(store, root, move))

    def test_a_layer_with_one_more_row_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        changed = with_rows(store, root, lambda rows: [*rows, replace_row(rows[-1], path="zzz", size=0, chunks=b"")])
        with pytest.raises(Invalid, match="the form puts them at"):
            load_artifact(store, changed)

    def test_a_layer_with_one_row_less_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        changed = with_rows(store, root, lambda rows: [row for row in rows if row.path != "tokenizer.json"])
        with pytest.raises(Invalid, match="the form puts them at"):
            load_artifact(store, changed)

    @pytest.mark.parametrize(
        "media_type", ["application/x", "", "application/vnd.oci.image.layer.v1.tar+zstd", "tar.bz2"]
    )
    def test_a_layer_of_an_unknown_media_type_is_refused(
        self, store: MemoryStore, root: Descriptor, media_type: str
    ) -> None:
        changed = edited(store, root, lambda manifest: manifest["layers"][0].update(mediaType=media_type))
        with pytest.raises(Invalid, match=re.escape(f"media type {media_type!r} is unknown")):
            load_artifact(store, changed)

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".modelctl/x", ".wh.x", "a\x1b[2Jb"])
    def test_a_row_of_a_bad_name_is_refused(self, store: MemoryStore, root: Descriptor, path: str) -> None:
        changed = with_rows(store, root, lambda rows: [replace_row(rows[0], path=path), *rows[1:]])
        with pytest.raises(Invalid, match="file name"):
            load_artifact(store, changed)

    def test_a_table_that_is_none_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        with pytest.raises(Invalid, match="table"):
            load_artifact(store, with_table(store, root, b"no table"))


class TestHeaders:
    """What a runtime would mount must be what the table says, name by name."""

    INDEX = 2

    def check(self, store: MemoryStore, root: Descriptor, blob: bytes) -> None:
        changed, digest = with_layer(store, root, self.INDEX, blob)
        artifact = load_artifact(store, changed)
        (layer,) = [layer for layer in artifact.layers if layer.digest == digest]
        for piece in layer.pieces():
            layer.check_head(layer.open(store), piece)

    @pytest.fixture
    def blob(self, store: MemoryStore, root: Descriptor) -> bytes:
        return store.blobs[manifest_of(store, root)["layers"][self.INDEX]["digest"]]

    def test_the_right_headers_pass(self, store: MemoryStore, root: Descriptor, blob: bytes) -> None:
        self.check(store, root, blob)

    def test_another_name_in_a_header_is_refused(self, store: MemoryStore, root: Descriptor, blob: bytes) -> None:
        with pytest.raises(DigestMismatch, match=r"layer 3, .*\n  why: .* not those of 'config\.json', 19 bytes"):
            self.check(store, root, blob.replace(b"config.json", b"../../etc/x"))

    @pytest.mark.parametrize("at", [0, 156, 512, 600, 3000, 3684, 3708, 3732, 3740, 3741, 4095])
    def test_any_other_byte_before_a_file_is_refused(
        self, store: MemoryStore, root: Descriptor, blob: bytes, at: int
    ) -> None:
        with pytest.raises(DigestMismatch, match=r"config\.json"):
            self.check(store, root, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])

    def test_a_path_record_that_a_runtime_would_obey_is_refused(
        self, store: MemoryStore, root: Descriptor, blob: bytes
    ) -> None:
        record = b"17 path=../../xx\n"
        comment = blob[512 : blob.index(b"\n", 512) + 1]
        fill = b"%d comment=%s\n" % (len(comment) - len(record), b" " * (len(comment) - len(record) - 14))
        with pytest.raises(DigestMismatch, match=r"config\.json"):
            self.check(store, root, blob.replace(comment, record + fill, 1))

    def test_another_size_than_the_headers_is_refused(self, store: MemoryStore, root: Descriptor) -> None:
        def shorten(rows: tuple[FileRow, ...]) -> list[FileRow]:
            return [replace_row(row, size=row.size - 1) if row.path.startswith("model-00001") else row for row in rows]

        layer = load_artifact(store, with_rows(store, root, shorten)).layers[0]
        with pytest.raises(DigestMismatch, match=r"'model-00001-of-00002\.safetensors', 85 bytes"):
            layer.check_head(layer.open(store), next(layer.pieces()))

    def test_a_member_behind_the_last_is_refused(self, store: MemoryStore, root: Descriptor, blob: bytes) -> None:
        with pytest.raises(DigestMismatch, match="the end of the archive"):
            self.check(store, root, blob[:-1] + b"x")
