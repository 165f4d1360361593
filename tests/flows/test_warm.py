"""Warm: everything is in memory afterwards, and it is what the table says, or it says what is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelctl.core.errors import ChecksumMismatch, DigestMismatch, ModelctlError, NotFound, Partial, UsageProblem
from modelctl.core.progress import Progress
from modelctl.core.types import Digest
from modelctl.flows.hold import hold, parse_address
from modelctl.flows.warm import Warmed, WarmFile, WarmReport, missing_pages, warmed
from modelctl.packing.artifact import load_artifact
from modelctl.registry.ocidir import OciDir
from tests.fakes.registries import free_port
from tests.stores import files_of, flip, pull_model

SHARD = "model-00001-of-00004.safetensors"


@pytest.fixture
def pulled(packed: Path, target: Path) -> Path:
    """The model, and `.modelctl/` in it as a mounted artifact shows it."""
    pull_model(packed, target)
    return target


@pytest.fixture
def mounted(packed: Path, pulled: Path) -> tuple[Path, Digest]:
    """The model as a kubelet mounts it, table and all; and the table's digest."""
    store = OciDir(packed)
    artifact = load_artifact(store, store.resolve("v1"))
    archive = packed / "blobs" / artifact.table_descriptor.digest.replace(":", "/")
    subprocess.run(["tar", "-xf", archive, "-C", pulled], check=True)
    return pulled, artifact.table_descriptor.digest


@contextmanager
def warm(folder: Path, table: Digest | None = None) -> Iterator[Warmed]:
    with warmed(str(folder), table, 2, Progress()) as pages:
        yield pages


def test_every_file_is_in_memory(pulled: Path) -> None:
    with warm(pulled) as pages:
        measured = pages.measure()
    assert {file.path: file.resident for file in measured.files} == {
        path: len(data) for path, data in files_of(pulled).items()
    }
    assert measured.resident == measured.size


def test_with_a_table_every_file_is_proved(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    with warm(folder, table) as pages:
        assert pages.measure().table == table


def test_the_table_is_not_taken_from_the_mount_alone(mounted: tuple[Path, Digest]) -> None:
    folder, _ = mounted
    with pytest.raises(DigestMismatch, match="the table in"), warm(folder, Digest("sha256:" + "0" * 64)):
        pass


def test_a_mount_without_a_table_is_not_believed(pulled: Path) -> None:
    with pytest.raises(NotFound, match=r"\.modelctl"), warm(pulled, Digest("sha256:" + "0" * 64)):
        pass


def test_a_file_with_another_byte_is_named(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    flip(folder / SHARD, 9000)
    with pytest.raises(ChecksumMismatch, match=SHARD), warm(folder, table):
        pass


def test_a_file_of_another_size_is_named(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    os.truncate(folder / SHARD, 100)
    with pytest.raises(ChecksumMismatch, match=SHARD), warm(folder, table):
        pass


def test_a_file_that_is_missing_is_named(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    (folder / SHARD).unlink()
    with pytest.raises(NotFound, match=SHARD), warm(folder, table):
        pass


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no files"), warm(tmp_path):
        pass


def test_what_was_taken_away_comes_back(pulled: Path) -> None:
    with warm(pulled) as pages:
        os.posix_fadvise(os.open(pulled / SHARD, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
        taken = pages.measure().size - pages.measure().resident
        assert pages.refresh(print) == taken
        assert pages.measure().resident == pages.measure().size


def report(size: int, resident: int) -> WarmReport:
    files = [WarmFile(path="a", size=size, resident=resident)]
    return WarmReport(folder="/m", table="", size=size, resident=resident, files=files)


def test_less_than_all_in_memory_is_a_partial_result() -> None:
    problem = missing_pages(report(100, 40))
    assert isinstance(problem, Partial)
    assert "40 of 100 bytes" in problem.why


def test_all_in_memory_is_none() -> None:
    assert missing_pages(report(100, 100)) is None


class _Enough(Exception):
    """Ends a holder, as SIGTERM does."""


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def holder(pulled: Path) -> Iterator[tuple[Path, int, list[str]]]:
    """A model being held: its folder, the holder's port, and what it said."""
    said: list[str] = []
    stop = threading.Event()
    port = free_port()

    class Watched(Warmed):
        def refresh(self, advance: Callable[[int], None]) -> int:
            if stop.is_set():
                raise _Enough
            return super().refresh(advance)

    def run() -> None:
        with warm(pulled) as pages, suppress(_Enough):
            watched = Watched(pages.folder, pages.table, pages.paths, pages.pages)
            hold(watched, 0.05, ("127.0.0.1", port), said.append)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        try:
            get(port, "/healthz")
            break
        except urllib.error.URLError:
            continue
    yield pulled, port, said
    stop.set()
    thread.join()


def test_a_holder_says_how_much_it_holds(holder: tuple[Path, int, list[str]]) -> None:
    folder, port, _ = holder
    size = sum(map(len, files_of(folder).values()))
    lines = get(port, "/metrics")[1].splitlines()
    assert f"modelctl_resident_bytes {float(size)}" in lines
    assert f"modelctl_model_bytes {float(size)}" in lines


def test_a_holder_is_healthy_while_it_looks(holder: tuple[Path, int, list[str]]) -> None:
    assert get(holder[1], "/healthz") == (200, "200 OK\n")


def test_a_holder_serves_nothing_else(holder: tuple[Path, int, list[str]]) -> None:
    assert get(holder[1], "/etc/passwd")[0] == 404


def test_one_who_says_nothing_does_not_keep_others_waiting(holder: tuple[Path, int, list[str]]) -> None:
    with socket.create_connection(("127.0.0.1", holder[1])):
        assert get(holder[1], "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [(":9464", ("", 9464)), ("localhost:1", ("localhost", 1)), ("[::1]:9464", ("::1", 9464))],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("listen", ["9464", "localhost", "localhost:http", ":", "::1:9464", ":99999", "[x]:1"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(UsageProblem, match="--listen"):
        parse_address(listen)


def test_links_of_a_hugging_face_cache_are_followed(pulled: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    blobs = tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (pulled / SHARD).rename(blobs / "abc")
    (snapshot / SHARD).symlink_to("../../blobs/abc")
    with warm(snapshot) as pages:
        assert [file.path for file in pages.measure().files] == [SHARD]


def test_a_name_that_is_not_utf_8_is_no_matter(pulled: Path) -> None:
    (pulled / os.fsdecode(b"\xff.txt")).write_text("x")
    with warm(pulled) as pages:
        assert pages.measure().resident == pages.measure().size


def test_a_table_that_is_a_link_is_not_read(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    (folder / ".modelctl/files.json").unlink()
    (folder / ".modelctl/files.json").symlink_to("/dev/zero")
    with pytest.raises(ModelctlError), warm(folder, table):
        pass
