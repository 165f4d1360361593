"""Diff: what tables, headers and statements of a source tell of two models."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from modelctl.core.access import SourceAccess
from modelctl.core.assets import asset
from modelctl.core.checksum import Crcs
from modelctl.core.chunks import CHUNK
from modelctl.core.errors import Invalid, NotFound
from modelctl.core.reference import parse_reference
from modelctl.core.types import Entry, canonical_json
from modelctl.flows.attached import attach_provenance
from modelctl.flows.diff import DiffReport, FileDiff, diff_artifacts, diff_source, diff_with
from modelctl.flows.sources import is_source
from modelctl.packing.provenance import Options, Provenance
from modelctl.registry.ocidir import OciDir
from modelctl.sources.file import FileSource
from tests.fakes.huggingface import hugging_face
from tests.fakes.registries import Registry
from tests.models import headed, noise, shard
from tests.registries import IMPATIENT, pack_to, push_to
from tests.stores import blob_path, files_of, flip, layer_of, manifest_of, pack_model, reference, rows_of, tags_of

SHARD = "model-00002-of-00004.safetensors"


@pytest.fixture
def other(model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be changed."""
    return Path(shutil.copytree(model, tmp_path / "other"))


def compared(packed: Path, other: Path, **options: object) -> DiffReport:
    """Pack `other` as `v2` beside `v1`, and compare them."""
    pack_model(other, packed, "v2", **options)
    return diff_artifacts(reference(packed, "v1"), reference(packed, "v2"))


def changes(report: DiffReport) -> dict[str, str]:
    """Return what became of the files that are not the same."""
    return {file.path: file.change for file in report.files if file.change != "same"}


def of(report: DiffReport, path: str) -> FileDiff:
    (found,) = [file for file in report.files if file.path == path]
    return found


def tensors(report: DiffReport, path: str) -> dict[str, str]:
    """Return what became of the tensors of a shard, in the order in which they are told."""
    return {tensor.name: tensor.change for tensor in of(report, path).tensors or []}


class TestFiles:
    def test_an_artifact_is_no_different_from_itself(self, packed: Path) -> None:
        report = diff_artifacts(reference(packed), reference(packed))
        assert (report.differs, changes(report), report.send_size, report.send_layers) == (False, {}, 0, 0)

    def test_every_file_is_told_in_order(self, model: Path, packed: Path) -> None:
        report = diff_artifacts(reference(packed), reference(packed))
        assert [file.path for file in report.files] == sorted(files_of(model))

    def test_an_added_file_is_told_with_its_size(self, packed: Path, other: Path) -> None:
        (other / "new.json").write_text("{}")
        report = compared(packed, other)
        added = of(report, "new.json")
        assert (report.differs, changes(report)) == (True, {"new.json": "added"})
        assert (added.old_size, added.new_size) == (None, 2)

    def test_a_removed_file_is_told_with_its_size(self, packed: Path, other: Path) -> None:
        (other / "config.json").unlink()
        report = compared(packed, other)
        removed = of(report, "config.json")
        assert (report.differs, changes(report)) == (True, {"config.json": "removed"})
        assert (removed.old_size, removed.new_size) == (85, None)

    def test_a_changed_file_is_told_with_both_sizes(self, packed: Path, other: Path) -> None:
        (other / "config.json").write_text('{"a": 1}')
        report = compared(packed, other)
        changed = of(report, "config.json")
        assert (report.differs, changes(report)) == (True, {"config.json": "changed"})
        assert (changed.old_size, changed.new_size, changed.changed_size, changed.tensors) == (85, 8, 8, None)

    def test_a_file_of_the_same_size_is_changed_by_a_byte(self, packed: Path, other: Path) -> None:
        flip(other / "config.json", 10)
        assert changes(compared(packed, other)) == {"config.json": "changed"}

    def test_a_moved_file_is_told_with_both_paths(self, packed: Path, other: Path) -> None:
        (other / "README.md").rename(other / "LIESMICH.md")
        report = compared(packed, other)
        moved = of(report, "LIESMICH.md")
        assert (report.differs, changes(report)) == (True, {"LIESMICH.md": "moved"})
        assert (moved.old_path, moved.old_size, moved.new_size) == ("README.md", 22, 22)

    def test_a_file_that_moved_and_changed_is_another(self, packed: Path, other: Path) -> None:
        (other / "README.md").rename(other / "LIESMICH.md")
        flip(other / "LIESMICH.md", 0)
        assert changes(compared(packed, other)) == {"LIESMICH.md": "added", "README.md": "removed"}

    def test_a_copy_is_added(self, packed: Path, other: Path) -> None:
        shutil.copy(other / "README.md", other / "LIESMICH.md")
        assert changes(compared(packed, other)) == {"LIESMICH.md": "added"}

    def test_of_two_equal_files_each_moves_once(self, packed: Path, other: Path) -> None:
        shutil.copy(other / "README.md", other / "z.md")
        pack_model(other, packed)
        for name in ("README.md", "z.md"):
            (other / name).rename(other / f"new-{name}")
        report = compared(packed, other)
        assert {file.path: file.old_path for file in report.files if file.change == "moved"} == {
            "new-README.md": "README.md",
            "new-z.md": "z.md",
        }

    def test_empty_files_do_not_move(self, packed: Path, other: Path) -> None:
        (other / "a.py").touch()
        pack_model(other, packed)
        (other / "a.py").rename(other / "b.py")
        assert changes(compared(packed, other)) == {"a.py": "removed", "b.py": "added"}

    def test_files_are_the_same_in_another_layout(self, packed: Path, other: Path) -> None:
        report = compared(packed, other, layouts=("raw",))
        assert (report.differs, changes(report)) == (False, {})

    def test_both_sides_are_named_by_digest(self, packed: Path, other: Path) -> None:
        (other / "config.json").unlink()
        report = compared(packed, other)
        digests = tags_of(packed)
        assert (report.old, report.new) == (f"oci:{packed}@{digests['v1']}", f"oci:{packed}@{digests['v2']}")

    def test_a_tag_that_is_not_there_is_not_found(self, packed: Path) -> None:
        with pytest.raises(NotFound):
            diff_artifacts(reference(packed), reference(packed, "v9"))


class TestSending:
    def test_as_much_is_told_as_a_push_then_sends(
        self, packed: Path, other: Path, plain: Registry, repository: str
    ) -> None:
        flip(other / SHARD, -1)
        (other / "new.py").write_text("pass")
        report = compared(packed, other)
        there = f"{plain.host}/{repository}"
        push_to(f"oci:{packed}:v1", f"{there}:v1")
        (pushed,) = push_to(f"oci:{packed}:v2", f"{there}:v2")
        layers = {layer["digest"] for layer in manifest_of(packed, "v2")["layers"]}
        assert report.send_size == sum(blob_path(packed, digest).stat().st_size for digest in pushed.sent)
        assert report.send_layers == len(layers.intersection(pushed.sent))

    def test_another_layout_of_the_same_blobs_sends_its_config(self, model: Path, store: Path) -> None:
        pack_model(model, store, "v2", layouts=("modelpack",), provenance=False)
        pack_model(model, store)
        report = diff_artifacts(reference(store), reference(store, "v2"))
        config = manifest_of(store, "v2")["config"]["size"]
        assert (report.differs, report.send_size, report.send_layers) == (False, config, 0)


class TestTensors:
    """A shard of 26 MiB: `first` shares chunk 0 with `large`, which has 1 and 2 alone and shares 3 with `last`."""

    @pytest.fixture
    def contents(self) -> dict[str, bytes]:
        return {"first": noise(1 << 20, 1), "large": noise(24 << 20, 2), "last": noise(1 << 20, 3), "none": b""}

    @pytest.fixture
    def folder(self, contents: dict[str, bytes], tmp_path: Path) -> Path:
        (tmp_path / "big").mkdir()
        (tmp_path / "big" / "a.safetensors").write_bytes(shard(contents))
        return tmp_path / "big"

    @pytest.fixture
    def before(self, folder: Path, store: Path) -> Path:
        """The store with that shard as `v1`."""
        pack_model(folder, store)
        return store

    def after(self, before: Path, folder: Path, data: bytes) -> DiffReport:
        (folder / "a.safetensors").write_bytes(data)
        return compared(before, folder)

    @pytest.mark.parametrize(
        ("offset", "found"),
        [
            (500, {"first": "touched", "large": "touched"}),
            (CHUNK + 5, {"large": "changed"}),
            (3 * CHUNK - 1, {"large": "changed"}),
            (3 * CHUNK, {"large": "touched", "last": "touched"}),
            (-1, {"large": "touched", "last": "touched"}),
        ],
    )
    def test_a_changed_byte_is_told_of_the_tensors_of_its_chunk(
        self, before: Path, folder: Path, offset: int, found: dict[str, str]
    ) -> None:
        flip(folder / "a.safetensors", offset)
        report = compared(before, folder)
        assert tensors(report, "a.safetensors") == found

    def test_the_chunks_that_differ_are_summed(self, before: Path, folder: Path) -> None:
        size = (folder / "a.safetensors").stat().st_size
        flip(folder / "a.safetensors", CHUNK)
        flip(folder / "a.safetensors", -1)
        assert of(compared(before, folder), "a.safetensors").changed_size == CHUNK + size % CHUNK

    def test_tensors_are_told_with_both_shapes(self, before: Path, folder: Path) -> None:
        flip(folder / "a.safetensors", CHUNK)
        (large,) = of(compared(before, folder), "a.safetensors").tensors or []
        assert large.old is not None
        assert (large.old, large.old.dtype, large.old.shape) == (large.new, "U8", [24 << 20])

    def test_added_and_removed_tensors_are_told(self, before: Path, folder: Path, contents: dict[str, bytes]) -> None:
        renamed = {name.replace("last", "lost"): data for name, data in contents.items()}
        report = self.after(before, folder, shard(renamed))
        assert tensors(report, "a.safetensors") == {
            "first": "touched",
            "large": "touched",
            "lost": "added",
            "last": "removed",
        }

    @pytest.mark.parametrize(("dtype", "change"), [("I8", "retyped"), ("U8", "reshaped")])
    def test_another_dtype_or_shape_is_told(self, store: Path, tmp_path: Path, dtype: str, change: str) -> None:
        def header(dtype: str, shape: list[int]) -> bytes:
            return canonical_json({"t": {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}})

        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "a.safetensors").write_bytes(headed(header("U8", [4]), b"1234"))
        pack_model(tmp_path / "m", store)
        report = self.after(store, tmp_path / "m", headed(header(dtype, [4] if dtype != "U8" else [2, 2]), b"1234"))
        assert tensors(report, "a.safetensors") == {"t": change}

    def test_tensors_that_start_elsewhere_are_not_compared(
        self, before: Path, folder: Path, contents: dict[str, bytes]
    ) -> None:
        report = self.after(before, folder, shard({"a new one": b"x", **contents}))
        assert tensors(report, "a.safetensors") == {
            "a new one": "added",
            "first": "shifted",
            "large": "shifted",
            "last": "shifted",
        }

    def test_a_shift_by_whole_chunks_is_followed(self, store: Path, tmp_path: Path) -> None:
        """The header keeps its length, so what lies behind 8 MiB more is in the next chunk, and the same."""

        def file(filler: int, last: bytes) -> bytes:
            offsets = {"a": [0, filler], "b": [filler, filler + (16 << 20)]}
            rows = {
                name: {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
                for name, (start, end) in offsets.items()
            }
            header = canonical_json(rows).ljust(CHUNK - 8)
            return headed(header, bytes(filler) + noise(8 << 20, 1) + last)

        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "a.safetensors").write_bytes(file(CHUNK, noise(8 << 20, 2)))
        pack_model(tmp_path / "m", store)
        same = self.after(store, tmp_path / "m", file(2 * CHUNK, noise(8 << 20, 2)))
        other = self.after(store, tmp_path / "m", file(2 * CHUNK, noise(8 << 20, 3)))
        assert [tensors(report, "a.safetensors") for report in (same, other)] == [
            {"a": "reshaped"},
            {"a": "reshaped", "b": "changed"},
        ]

    def test_no_tensor_is_read(self, before: Path, folder: Path) -> None:
        flip(folder / "a.safetensors", CHUNK)
        pack_model(folder, before, "v2")
        digests = [layer_of(before, "a.safetensors", tag) for tag in ("v1", "v2")]
        for digest in digests:
            blob = blob_path(before, digest).read_bytes()
            blob_path(before, digest).write_bytes(blob[:5000] + bytes(len(blob) - 5000))
        report = diff_artifacts(reference(before, "v1"), reference(before, "v2"))
        assert tensors(report, "a.safetensors") == {"large": "changed"}

    def test_a_header_that_rotted_is_invalid(self, before: Path, folder: Path) -> None:
        flip(folder / "a.safetensors", CHUNK)
        pack_model(folder, before, "v2")
        flip(blob_path(before, layer_of(before, "a.safetensors", "v2")), 4096 + 7)
        with pytest.raises(Invalid, match=r"a\.safetensors"):
            diff_artifacts(reference(before, "v1"), reference(before, "v2"))

    def test_tensors_in_a_registry_are_told_too(
        self, model: Path, other: Path, plain: Registry, repository: str
    ) -> None:
        flip(other / SHARD, -1)
        there = f"{plain.host}/{repository}"
        for folder, tag in ((model, "v1"), (other, "v2")):
            pack_to(folder, f"{there}:{tag}")
        references = (parse_reference(f"{there}:{tag}") for tag in ("v1", "v2"))
        report = diff_artifacts(*references, access=IMPATIENT)
        assert tensors(report, SHARD) == {"layers.2.up": "touched", "layers.2.down": "touched"}


@dataclass(frozen=True)
class StatingSource(FileSource):
    """A folder that states what it is told to of each file once it is asked for it, as an object store does."""

    states: tuple[str, ...] = ()
    checked: list[str] = field(default_factory=list)

    def check(self, entry: Entry) -> Entry:
        super().check(entry)
        self.checked.append(entry.path)
        content = (self.root / entry.path).read_bytes()
        crcs = Crcs()
        crcs.update(memoryview(content))
        all_stated = {
            "crc64": crcs.crc64,
            "sha256": hashlib.sha256(content).hexdigest(),
            "git_sha1": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        return msgspec.structs.replace(entry, **{name: all_stated[name] for name in self.states})


def attach(store: Path, folder: Path, *states: str) -> None:
    """Attach provenance to `v1`: that it was made from `folder`, a `StatingSource`."""
    source = StatingSource(folder, states)
    files = tuple(source.check(entry) for entry in source.list(lambda path: True))
    made = Provenance(origin=source.origin, options=Options(layouts=("image",), max_layers=110), files=files)
    attach_provenance(OciDir(store), OciDir(store).resolve("v1"), made)


def told_by(report: DiffReport) -> set[str]:
    return {file.by for file in report.files}


class TestSource:
    def test_small_files_of_a_folder_are_read_and_shards_are_unknown(self, model: Path, packed: Path) -> None:
        report = diff_source(reference(packed), str(model))
        assert (report.differs, report.new, report.send_size) == (False, f"file://{model}", None)
        assert {file.path: (file.change, file.by) for file in report.files} == {
            path: ("unknown", "header") if path.endswith(".safetensors") else ("same", "content")
            for path in files_of(model)
        }

    def test_files_that_came_and_went_are_told(self, packed: Path, other: Path) -> None:
        (other / "README.md").rename(other / "LIESMICH.md")
        report = diff_source(reference(packed), str(other))
        found = {path: change for path, change in changes(report).items() if change != "unknown"}
        assert (report.differs, found) == (True, {"LIESMICH.md": "added", "README.md": "removed"})

    def test_what_a_layout_leaves_out_is_left_out(self, packed: Path, other: Path) -> None:
        (other / ".git").mkdir()
        (other / ".git" / "HEAD").write_text("x")
        assert not diff_source(reference(packed), str(other)).differs

    def test_what_the_artifact_has_is_never_left_out(self, store: Path, other: Path, tmp_path: Path) -> None:
        (other / ".DS_Store").write_text("x")
        rules = asset("layouts/image.toml").read_text()
        (tmp_path / "all.toml").write_text(re.sub(r"(?m)^exclude.*$", "exclude = []", rules))
        pack_model(other, store, layouts=(str(tmp_path / "all.toml"),))
        assert of(diff_source(reference(store), str(other)), ".DS_Store").change == "same"

    def test_a_small_file_with_another_byte_is_changed(self, packed: Path, other: Path) -> None:
        flip(other / "config.json", 10)
        changed = of(diff_source(reference(packed), str(other)), "config.json")
        assert (changed.change, changed.by, changed.changed_size) == ("changed", "content", None)

    def test_a_large_file_that_is_no_shard_is_unknown(self, packed: Path, other: Path) -> None:
        (other / "large.gguf").write_bytes(bytes(2 << 20))
        pack_model(other, packed)
        file = of(diff_source(reference(packed), str(other)), "large.gguf")
        assert (file.change, file.by) == ("unknown", "size")

    def test_a_shard_of_another_size_is_changed_and_its_header_says_how(self, packed: Path, other: Path) -> None:
        (other / SHARD).write_bytes(shard({"layers.2.up": bytes(50_000), "new": b""}))
        report = diff_source(reference(packed), str(other))
        assert (of(report, SHARD).change, of(report, SHARD).by) == ("changed", "size")
        assert tensors(report, SHARD) == {"new": "added", "layers.2.down": "removed"}

    def test_a_shard_with_another_header_is_changed(self, packed: Path, other: Path) -> None:
        data = (other / SHARD).read_bytes()
        (other / SHARD).write_bytes(data.replace(b'"U8"', b'"I8"', 1))
        report = diff_source(reference(packed), str(other))
        assert (of(report, SHARD).change, of(report, SHARD).by) == ("changed", "header")
        assert tensors(report, SHARD) == {"layers.2.up": "retyped"}

    def test_a_shard_with_other_metadata_is_changed(self, store: Path, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        for value in ("a", "b"):
            header = canonical_json({"__metadata__": {"format": value}})
            (tmp_path / "m" / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
            pack_model(tmp_path / "m", store, value)
        file = of(diff_source(reference(store, "a"), str(tmp_path / "m")), "a.safetensors")
        assert (file.change, file.by, file.tensors) == ("changed", "header", [])

    def test_the_tensors_of_a_source_are_not_read(self, packed: Path, other: Path) -> None:
        flip(other / SHARD, -1)
        file = of(diff_source(reference(packed), str(other)), SHARD)
        assert (file.change, file.tensors) == ("unknown", None)

    def test_a_shard_of_the_source_that_is_broken_is_invalid(self, packed: Path, other: Path) -> None:
        flip(other / SHARD, 7)
        with pytest.raises(Invalid, match=SHARD):
            diff_source(reference(packed), str(other))

    @pytest.mark.parametrize(("content", "change"), [(b"", "same"), (b"x", "changed")])
    def test_a_stated_crc64_decides(self, packed: Path, other: Path, content: bytes, change: str) -> None:
        if content:
            flip(other / SHARD, -1)
        report = diff_with(reference(packed), StatingSource(other, ("crc64",)))
        assert (of(report, SHARD).change, told_by(report)) == (change, {"crc64"})
        assert of(report, SHARD).tensors == ([] if content else None)

    def test_a_stated_sha256_decides_for_raw_layers(self, model: Path, store: Path, other: Path) -> None:
        pack_model(model, store, layouts=("raw",))
        flip(other / SHARD, -1)
        report = diff_with(reference(store), StatingSource(other, ("sha256", "crc64")))
        assert (changes(report), told_by(report)) == ({SHARD: "changed"}, {"sha256"})

    def test_a_stated_sha256_is_compared_with_that_of_the_provenance(
        self, model: Path, packed: Path, other: Path
    ) -> None:
        flip(other / SHARD, -1)
        attach(packed, model, "sha256")
        report = diff_with(reference(packed), StatingSource(other, ("sha256",)))
        assert (changes(report), told_by(report)) == ({SHARD: "changed"}, {"sha256"})

    def test_a_stated_git_id_is_compared_with_that_of_the_provenance(
        self, model: Path, packed: Path, other: Path
    ) -> None:
        flip(other / "config.json", 10)
        attach(packed, model, "git_sha1")
        report = diff_with(reference(packed), StatingSource(other, ("git_sha1",)))
        assert (changes(report), told_by(report)) == ({"config.json": "changed"}, {"git-sha1"})

    def test_what_is_stated_and_was_not_before_tells_nothing(self, model: Path, packed: Path) -> None:
        report = diff_with(reference(packed), StatingSource(model, ("sha256", "git_sha1")))
        assert told_by(report) == {"content", "header"}

    def test_nothing_is_asked_of_files_of_another_size(self, packed: Path, other: Path) -> None:
        (other / "config.json").write_text("{}")
        source = StatingSource(other)
        diff_with(reference(packed), source)
        assert "config.json" not in source.checked

    def test_the_crc32_list_of_the_source_decides_for_its_shards(self, packed: Path, other: Path) -> None:
        lines = [f"{row.crc32:08x} {row.path}\n" for row in rows_of(packed)]
        (other / "crc32.txt").write_text("".join(lines).replace(f"{self.crc32(packed)} ", "00000000 "))
        report = diff_source(reference(packed), str(other))
        assert changes(report) == {SHARD: "changed", "crc32.txt": "added"}
        assert told_by(report) == {"", "content", "crc32.txt"}

    def crc32(self, packed: Path) -> str:
        (row,) = [row for row in rows_of(packed) if row.path == SHARD]
        return f"{row.crc32:08x}"

    def test_a_source_that_is_not_there_is_not_found(self, packed: Path, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            diff_source(reference(packed), str(tmp_path / "nope"))

    def test_a_hub_is_compared_by_what_it_states(self, model: Path, store: Path, other: Path) -> None:
        pack_model(model, store, layouts=("raw",))
        flip(other / "config.json", 10)
        flip(other / SHARD, -1)
        with hugging_face() as hub:
            hub.put("Qwen/Qwen3-8B", files_of(other))
            access = SourceAccess(endpoint=hub.url, credentials=False)
            report = diff_source(reference(store), "hf://Qwen/Qwen3-8B", source_access=access)
        assert (changes(report), report.new) == (
            {SHARD: "changed", "config.json": "changed"},
            "hf://Qwen/Qwen3-8B",
        )
        assert (of(report, SHARD).by, of(report, "config.json").by) == ("sha256", "content")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("oci:./store:v1", False),
        ("oci://store", False),
        ("registry.example/models/x:v1", False),
        ("localhost:5000/x", False),
        ("hf://Qwen/Qwen3-8B@main", True),
        ("file:///models", True),
        ("./Qwen3-8B", True),
        ("Qwen3-8B", True),
        ("s3://bucket", True),
    ],
)
def test_what_is_a_source_is_told_by_its_form(text: str, source: bool) -> None:
    assert is_source(text) is source


def test_a_folder_that_could_be_a_reference_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.v1" / "qwen").mkdir(parents=True)
    assert (is_source("models.v1/qwen"), is_source("models.v1/other")) == (True, False)
