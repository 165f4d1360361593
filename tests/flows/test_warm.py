"""Warm: everything is in memory afterwards, and it is what the table says, or it says what is wrong."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import subprocess
import threading
import time
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
from modelctl.node.pages import Pages
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
def warm(folder: Path, table: Digest | None = None, jobs: int = 2) -> Iterator[Warmed]:
    with warmed(str(folder), table, jobs, Progress()) as pages:
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


def take_away(pages: Pages) -> None:
    """Take a file's pages out of its mapping, as the kernel does when it reclaims them."""
    libc = ctypes.CDLL(None, use_errno=True)
    dont_need = 4  # MADV_DONTNEED
    assert libc.madvise(ctypes.c_void_p(pages.address), ctypes.c_size_t(pages.size), dont_need) == 0


def test_what_was_taken_away_comes_back(pulled: Path) -> None:
    with warm(pulled) as pages:
        take_away(pages.pages[-1])
        taken = pages.pages[-1].size
        assert pages.measure().size - pages.measure().resident == taken
        again, measured = pages.refresh(print)
        assert (again, measured.resident) == (taken, measured.size)


def test_more_files_than_a_process_may_open_are_no_matter(mounted: tuple[Path, Digest]) -> None:
    folder, table = mounted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
    try:
        with warm(folder, table, jobs=1) as pages:
            assert len(pages.pages) > 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_model_that_is_removed_meanwhile_is_not_measured(pulled: Path) -> None:
    with warm(pulled) as pages:
        (pulled / SHARD).unlink()
        with pytest.raises(NotFound, match=SHARD) as caught:
            pages.measure()
    assert "removed" in caught.value.why


def test_a_file_that_is_replaced_meanwhile_is_not_measured(pulled: Path) -> None:
    with warm(pulled) as pages:
        shutil.copy(pulled / SHARD, pulled / "fresh")
        os.replace(pulled / "fresh", pulled / SHARD)
        with pytest.raises(NotFound, match=SHARD):
            pages.refresh(print)


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


@contextmanager
def holding(pages: Warmed, told: list[int]) -> Iterator[int]:
    """Hold `pages` in a thread, which tells `told` what it brought in again; yield its port."""
    stop = threading.Event()
    port = free_port()

    class Watched(Warmed):
        def refresh(self, advance: Callable[[int], None]) -> tuple[int, WarmReport]:
            if stop.is_set():
                raise _Enough
            return pages.refresh(advance)

    def run() -> None:
        watched = Watched(pages.folder, pages.table, pages.paths, pages.pages)
        with suppress(_Enough):
            hold(watched, 0.05, ("127.0.0.1", port), told.append)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        try:
            get(port, "/healthz")
            break
        except urllib.error.URLError:
            continue
    yield port
    stop.set()
    thread.join()


@pytest.fixture
def holder(pulled: Path) -> Iterator[tuple[Warmed, int, list[int]]]:
    """A model being held: its pages, the holder's port, and what was brought in again."""
    told: list[int] = []
    with warm(pulled) as pages, holding(pages, told) as port:
        yield pages, port, told


def test_a_holder_says_how_much_it_holds(pulled: Path, holder: tuple[Warmed, int, list[int]]) -> None:
    size = sum(map(len, files_of(pulled).values()))
    lines = get(holder[1], "/metrics")[1].splitlines()
    assert f"modelctl_resident_bytes {float(size)}" in lines
    assert f"modelctl_model_bytes {float(size)}" in lines


def test_a_holder_is_healthy_while_it_looks(holder: tuple[Warmed, int, list[int]]) -> None:
    assert get(holder[1], "/healthz") == (200, "looked 0 s ago\n")


def test_a_holder_is_ready_while_all_is_in_memory(holder: tuple[Warmed, int, list[int]]) -> None:
    size = holder[0].measure().size
    assert get(holder[1], "/readyz") == (200, f"{size} of {size} bytes in memory\n")


def test_a_holder_is_not_ready_when_something_could_not_be_kept(pulled: Path) -> None:
    class Starved(Warmed):
        def refresh(self, advance: Callable[[int], None]) -> tuple[int, WarmReport]:
            return 0, self.measure()

    with warm(pulled) as pages:
        take_away(pages.pages[-1])
        measured = pages.measure()
        with holding(Starved(pages.folder, pages.table, pages.paths, pages.pages), []) as port:
            figures = f"{measured.resident} of {measured.size} bytes in memory\n"
            assert get(port, "/readyz") == (503, figures)
            assert get(port, "/healthz")[0] == 200


def test_a_holder_brings_in_again_what_was_taken_away(holder: tuple[Warmed, int, list[int]]) -> None:
    pages, port, told = holder
    size = pages.pages[-1].size
    take_away(pages.pages[-1])
    while not told:
        time.sleep(0.01)
    assert told == [size]
    assert f"modelctl_repopulated_bytes_total {float(size)}" in get(port, "/metrics")[1].splitlines()


def test_a_holder_ends_when_its_model_is_removed(pulled: Path) -> None:
    with warm(pulled) as pages:
        shutil.rmtree(pulled)
        with pytest.raises(NotFound) as caught:
            hold(pages, 0.01, None, print)
    assert (str(pulled) in caught.value.what, bool(caught.value.why), bool(caught.value.hint)) == (True, True, True)


def test_a_holder_serves_nothing_else(holder: tuple[Warmed, int, list[int]]) -> None:
    assert get(holder[1], "/etc/passwd")[0] == 404


def test_one_who_says_nothing_does_not_keep_others_waiting(holder: tuple[Warmed, int, list[int]]) -> None:
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
