import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from modelctl.core.errors import ChecksumMismatch, Invalid, NotFound
from modelctl.core.types import Entry
from modelctl.sources.file import FileSource, open_source
from tests.conformance.sources import FILES, SourceConformance

OLD_NS = 1_000_000_000 * 10**9


def everything(path: str) -> bool:
    return True


def paths_of(folder: Path, wanted: Callable[[str], bool] = everything) -> list[str]:
    return [entry.path for entry in open_source(str(folder)).list(wanted)]


def content_of(source: FileSource, entry: Entry) -> bytes:
    data = bytearray(entry.size)
    blob = source.open(entry)
    blob.read_into(0, memoryview(data))
    blob.close()
    return bytes(data)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.json").write_bytes(b"bb")
    (folder / "a.md").write_bytes(b"a")
    (folder / "sub" / "c.txt").write_bytes(b"ccc")
    return folder


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A Hugging Face cache with one file, whose snapshot is returned."""
    cache = tmp_path / "models--org--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "0123abcd").write_bytes(b"weights")
    folder = cache / "snapshots" / "deadbeef"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").symlink_to("../../blobs/0123abcd")
    (folder / "sub" / "model.bin").symlink_to("../../../blobs/0123abcd")
    return folder


class TestFileSource(SourceConformance):
    @pytest.fixture
    def source(self, tmp_path: Path) -> FileSource:
        (tmp_path / "sub").mkdir()
        for path, data in FILES.items():
            (tmp_path / path).write_bytes(data)
        return open_source(str(tmp_path))


class TestListing:
    def test_files_come_by_path_with_their_sizes(self, model: Path) -> None:
        entries = open_source(str(model)).list(everything)
        assert [(entry.path, entry.size) for entry in entries] == [("a.md", 1), ("b.json", 2), ("sub/c.txt", 3)]

    def test_only_wanted_files_are_listed(self, model: Path) -> None:
        assert paths_of(model, lambda path: path.endswith(".json")) == ["b.json"]

    def test_empty_folders_are_not_listed(self, model: Path) -> None:
        (model / "empty").mkdir()
        assert "empty" not in paths_of(model)

    def test_a_name_that_is_not_utf8_is_listed_so_that_it_can_be_refused_by_name(self, model: Path) -> None:
        (Path(os.fsdecode(os.fsencode(model) + b"/caf\xe9"))).write_bytes(b"")
        assert "caf\udce9" in paths_of(model)

    def test_a_folder_that_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no such folder"):
            open_source(str(tmp_path / "missing"))

    def test_a_file_is_not_a_folder(self, model: Path) -> None:
        with pytest.raises(NotFound, match="it is a file"):
            open_source(str(model / "a.md"))

    def test_a_folder_may_be_named_by_a_link(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(model)
        assert paths_of(tmp_path / "link") == paths_of(model)


class TestSpecialFiles:
    def test_a_fifo_is_refused_without_opening_it(self, model: Path) -> None:
        os.mkfifo(model / "pipe")
        with pytest.raises(Invalid, match=r"'pipe'\n.*a FIFO"):
            paths_of(model)

    def test_a_socket_is_refused(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(model)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("sock")
            with pytest.raises(Invalid, match=r"'sock'\n.*a socket"):
                paths_of(model)

    def test_a_device_is_refused(self) -> None:
        with pytest.raises(Invalid, match=r"'null'\n.*a device"):
            paths_of(Path("/dev"), lambda path: path == "null")

    def test_a_link_to_a_device_is_refused(self, model: Path) -> None:
        (model / "null").symlink_to("/dev/null")
        with pytest.raises(Invalid, match="link 'null'"):
            paths_of(model)

    def test_a_link_to_a_fifo_inside_is_refused(self, model: Path) -> None:
        os.mkfifo(model / "pipe")
        (model / "link").symlink_to("pipe")
        with pytest.raises(Invalid, match=r"'link'\n.*a FIFO"):
            paths_of(model, lambda path: path == "link")

    def test_an_unwanted_fifo_is_no_trouble(self, model: Path) -> None:
        os.mkfifo(model / "pipe")
        assert paths_of(model, lambda path: path != "pipe") == ["a.md", "b.json", "sub/c.txt"]


class TestLinks:
    def test_a_link_inside_the_folder_is_the_file_it_points_to(self, model: Path) -> None:
        (model / "sub" / "link.md").symlink_to("../a.md")
        source = open_source(str(model))
        (entry,) = source.list(lambda path: path == "sub/link.md")
        assert content_of(source, entry) == b"a"

    @pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
    def test_a_link_out_of_the_folder_is_refused(self, model: Path, target: str) -> None:
        (model.parent / "outside").write_bytes(b"secret")
        (model / "link").symlink_to(target)
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(model)

    def test_a_link_to_a_sibling_whose_name_only_starts_alike_is_refused(self, model: Path) -> None:
        (model.parent / "model-secret").write_bytes(b"secret")
        (model / "link").symlink_to("../model-secret")
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(model)

    @pytest.mark.parametrize("target", ["nothing", "link"])
    def test_a_link_to_nothing_is_refused(self, model: Path, target: str) -> None:
        (model / "link").symlink_to(target)
        with pytest.raises(Invalid, match=f"link 'link'\n.*points to nothing: '{target}'"):
            paths_of(model)

    def test_a_link_to_a_folder_is_refused(self, model: Path) -> None:
        (model / "link").symlink_to("sub")
        with pytest.raises(Invalid, match="it points to a folder"):
            paths_of(model)

    def test_an_unwanted_link_is_no_trouble(self, model: Path) -> None:
        (model / "link").symlink_to("/etc/passwd")
        assert "link" not in paths_of(model, lambda path: path != "link")


class TestHuggingFaceCache:
    def test_a_snapshot_is_a_model(self, snapshot: Path) -> None:
        source = open_source(str(snapshot))
        assert [content_of(source, entry) for entry in source.list(everything)] == [b"weights", b"weights"]

    def test_a_link_to_another_models_blobs_is_refused(self, snapshot: Path) -> None:
        other = snapshot.parents[2] / "models--org--other" / "blobs"
        other.mkdir(parents=True)
        (other / "9999").write_bytes(b"other")
        (snapshot / "link").symlink_to("../../../models--org--other/blobs/9999")
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(snapshot)

    def test_a_link_below_the_blobs_is_refused(self, snapshot: Path) -> None:
        (snapshot.parents[1] / "blobs" / "deep").mkdir()
        (snapshot.parents[1] / "blobs" / "deep" / "x").write_bytes(b"x")
        (snapshot / "link").symlink_to("../../blobs/deep/x")
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(snapshot)

    def test_blobs_that_are_themselves_a_link_elsewhere_are_refused(self, snapshot: Path) -> None:
        blobs = snapshot.parents[1] / "blobs"
        blobs.rename(snapshot.parents[2] / "elsewhere")
        blobs.symlink_to(snapshot.parents[2] / "elsewhere")
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(snapshot)

    def test_blobs_beside_a_folder_that_is_no_snapshot_are_refused(self, model: Path) -> None:
        (model.parents[0] / "blobs").mkdir()
        (model.parents[0] / "blobs" / "x").write_bytes(b"x")
        (model / "link").symlink_to("../blobs/x")
        with pytest.raises(Invalid, match="it leaves the model"):
            paths_of(model)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 1)


def rewrite(path: Path) -> None:
    path.write_bytes(b"B" * path.stat().st_size)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"B" * path.stat().st_size)
    os.utime(other, ns=(OLD_NS, OLD_NS))
    other.rename(path)


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [grow, shrink, rewrite, replace, put_a_folder, put_a_fifo]


class TestChanges:
    @pytest.fixture
    def listed(self, model: Path) -> tuple[FileSource, Entry]:
        os.utime(model / "b.json", ns=(OLD_NS, OLD_NS))
        source = open_source(str(model))
        (entry,) = source.list(lambda path: path == "b.json")
        return source, entry

    def test_an_unchanged_file_opens_and_checks(self, listed: tuple[FileSource, Entry]) -> None:
        source, entry = listed
        source.check(entry)
        assert content_of(source, entry) == b"bb"

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_file_that_changed_since_it_was_listed_is_not_opened(
        self, listed: tuple[FileSource, Entry], model: Path, change: Callable[[Path], None]
    ) -> None:
        source, entry = listed
        change(model / "b.json")
        with pytest.raises(ChecksumMismatch, match=r"b\.json changed while it was read"):
            source.open(entry)

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_file_that_changed_while_it_was_read_fails_its_check(
        self, listed: tuple[FileSource, Entry], model: Path, change: Callable[[Path], None]
    ) -> None:
        source, entry = listed
        content_of(source, entry)
        change(model / "b.json")
        with pytest.raises(ChecksumMismatch, match=r"b\.json changed while it was read"):
            source.check(entry)

    def test_a_file_that_shrank_below_an_open_blob_is_an_error(
        self, listed: tuple[FileSource, Entry], model: Path
    ) -> None:
        source, entry = listed
        blob = source.open(entry)
        shrink(model / "b.json")
        with pytest.raises(ChecksumMismatch, match="ended at byte 1"):
            blob.read_into(0, memoryview(bytearray(2)))
        blob.close()

    def test_a_file_that_is_gone_is_not_found(self, listed: tuple[FileSource, Entry], model: Path) -> None:
        source, entry = listed
        (model / "b.json").unlink()
        with pytest.raises(NotFound):
            source.open(entry)

    def test_a_link_that_was_put_to_another_file_fails_its_check(self, model: Path) -> None:
        (model / "link").symlink_to("a.md")
        source = open_source(str(model))
        (entry,) = source.list(lambda path: path == "link")
        (model / "link").unlink()
        (model / "link").symlink_to("b.json")
        with pytest.raises(ChecksumMismatch, match="link changed"):
            source.check(entry)
