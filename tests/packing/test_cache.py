"""The digest cache: `XDG_CACHE_HOME` is each test's own."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import msgspec
import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.types import Entry, FileRow, Form, digest_of
from modelctl.packing import form
from modelctl.packing.cache import CachedLayer, Remembered, cache_folder, may_keep, open_cache
from modelctl.packing.plan import PlannedLayer

WEEK_S = 7 * 86400.0
HOUR_NS = 3600 * 10**9


def planned(path: str = "a.safetensors", version: str = "v1", *, size: int = 10, form: Form = "tar") -> PlannedLayer:
    return PlannedLayer("weight", form, "", (Entry(path=path, size=size, version=version),))


def sealed(path: str = "a.safetensors", content: bytes = b"x", chunks: int = 2) -> Remembered:
    """What a layer could have been sealed to; another `content`, another digest."""
    digest = digest_of(content)
    row = FileRow(
        path=path,
        size=chunks * CHUNK,
        layer=digest,
        offset=4096,
        crc32=2**32 - 1,
        crc64=2**64 - 1,
        chunks=bytes(range(32)) * chunks,
    )
    return Remembered(digest=digest, size=6144, rows=(row,))


def keep(layer: PlannedLayer, known: Remembered) -> None:
    """Remember a layer, as a process of its own would."""
    with open_cache() as cache:
        cache.keep(layer, known.digest, known.size, known.rows)


def found(layer: PlannedLayer) -> Remembered | None:
    """Look for a layer, as a process of its own would."""
    with open_cache() as cache:
        return cache.find(layer)


def size_of(known: Remembered) -> int:
    """Return what a layer takes in the cache [bytes]."""
    return len(msgspec.msgpack.encode(known))


def names() -> list[str]:
    with open_cache() as cache:
        return [layer.title for layer in cache.entries()]


def database() -> Path:
    return cache_folder() / "layers.sqlite"


def edit(statement: str, *values: object) -> None:
    """Change the file behind the cache's back."""
    connection = sqlite3.connect(database(), isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def stdin_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin
    return process.stdin


def stdout_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout
    return process.stdout


@pytest.fixture
def kept() -> Remembered:
    """What the cache remembers of `planned()`."""
    known = sealed()
    keep(planned(), known)
    return known


def test_what_was_kept_is_found_to_the_bit(kept: Remembered) -> None:
    assert found(planned()) == kept


def test_an_empty_cache_finds_nothing() -> None:
    assert found(planned()) is None


@pytest.mark.parametrize(
    "other",
    [
        planned(version="v2"),
        planned("b.safetensors"),
        planned(size=11),
        planned(form="raw"),
        PlannedLayer("weight", "tar", "models/", planned().entries),
        PlannedLayer("weight", "tar", "", planned().entries * 2),
    ],
    ids=["version", "path", "size", "form", "prefix", "members"],
)
def test_another_layer_is_not_found(kept: Remembered, other: PlannedLayer) -> None:
    assert found(other) is None


def test_another_version_of_the_form_finds_nothing(kept: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "VERSION", form.VERSION + 1)
    assert found(planned()) is None


def test_the_kind_of_a_layer_does_not_count(kept: Remembered) -> None:
    assert found(PlannedLayer("doc", "tar", "", planned().entries)) == kept


def test_a_layer_whose_version_nobody_states_is_not_kept() -> None:
    keep(planned(version=""), sealed())
    assert names() == []


def test_what_was_kept_last_is_found(kept: Remembered) -> None:
    keep(planned(), sealed(content=b"y"))
    assert found(planned()) == sealed(content=b"y")


def test_a_row_that_rotted_is_not_found(kept: Remembered) -> None:
    edit("UPDATE layers SET value = substr(value, 1, length(value) - 5) || x'00' || substr(value, -4)")
    assert found(planned()) is None


def test_one_that_lacks_the_hash_of_a_chunk_is_not_found(kept: Remembered) -> None:
    (row,) = kept.rows
    short = msgspec.structs.replace(kept, rows=(msgspec.structs.replace(row, chunks=row.chunks[32:]),))
    keep(planned(), short)
    assert found(planned()) is None


def test_a_row_of_another_layer_is_not_found(kept: Remembered) -> None:
    keep(planned("b"), sealed("b", b"b"))
    edit("UPDATE layers SET (proof, value) = (SELECT proof, value FROM layers WHERE title = 'b')")
    assert (found(planned()), found(planned("b"))) == (None, sealed("b", b"b"))


class TestFile:
    def test_only_its_owner_may_read_it(self, kept: Remembered) -> None:
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (cache_folder(), database())]
        assert modes == [0o700, 0o600]

    def test_a_folder_that_others_may_write_to_is_closed_to_them(self) -> None:
        cache_folder().mkdir(parents=True)
        cache_folder().chmod(0o777)
        keep(planned(), sealed())
        assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
    def test_a_folder_of_somebody_else_is_not_used(self) -> None:
        cache_folder().mkdir(parents=True)
        os.chown(cache_folder(), 1, 1)
        with open_cache() as cache:
            assert "belongs to somebody else" in cache.problem
        assert list(cache_folder().iterdir()) == []

    def test_it_has_a_write_ahead_log_while_it_is_open(self) -> None:
        with open_cache() as cache:
            cache.keep(planned(), sealed().digest, 1, ())
            assert database().with_name("layers.sqlite-wal").exists()
        assert not database().with_name("layers.sqlite-wal").exists()

    @pytest.mark.parametrize("version", [0, 2, 99])
    def test_one_of_another_version_is_begun_anew(self, kept: Remembered, version: int) -> None:
        edit(f"PRAGMA user_version = {version}")
        assert found(planned()) is None
        keep(planned(), kept)
        assert found(planned()) == kept

    @pytest.mark.parametrize("data", [b"x" * 8192, b"SQLite format 3\0" + b"\xff" * 4096], ids=["text", "header"])
    def test_garbage_is_begun_anew(self, kept: Remembered, data: bytes) -> None:
        database().write_bytes(data)
        with open_cache() as cache:
            cache.keep(planned(), kept.digest, kept.size, kept.rows)
            assert (cache.find(planned()), cache.problem) == (kept, "")

    def test_one_without_the_table_is_begun_anew(self, kept: Remembered) -> None:
        edit("ALTER TABLE layers RENAME COLUMN proof TO other")
        keep(planned(), kept)
        assert found(planned()) == kept

    def test_one_that_turns_out_corrupt_is_gone_the_next_time(self, kept: Remembered) -> None:
        whole = database().read_bytes()
        database().write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with open_cache() as cache:
            assert (cache.find(planned()), "malformed" in cache.problem) == (None, True)
        keep(planned(), kept)
        assert found(planned()) == kept

    def test_one_of_another_version_that_is_in_use_is_left_alone(self, kept: Remembered) -> None:
        with open_cache():
            edit("PRAGMA user_version = 99")
            with open_cache() as second:
                assert (second.find(planned()), "in use" in second.problem) == (None, True)
        assert database().exists()

    def test_a_cut_file_is_begun_anew(self, kept: Remembered) -> None:
        os.truncate(database(), 5000)
        with open_cache() as cache:
            cache.find(planned())
        keep(planned(), kept)
        assert found(planned()) == kept


class TestUnusable:
    """What cannot be read or written is a note."""

    def test_a_folder_that_cannot_be_made_is_a_problem_and_no_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with open_cache() as cache:
            cache.keep(planned(), sealed().digest, 1, ())
            assert (cache.find(planned()), cache.entries(), cache.prune(0, 0)) == (None, [], 0)
            assert "Not a directory" in cache.problem

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts the folder read-only")
    def test_a_read_only_file_system_is_a_problem_and_no_error(self, kept: Remembered) -> None:
        code = """
from tests.packing.test_cache import *
with open_cache() as cache:
    cache.keep(planned("b"), sealed().digest, 1, ())
    print(cache.find(planned("b")), cache.problem)
"""
        folder = cache_folder()
        mount = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "-", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (ended.stdout.startswith("None "), "Read-only file system" in ended.stdout) == (True, True)
        assert found(planned()) == kept

    def test_a_full_disk_is_a_problem_and_what_was_kept_is_found(self, kept: Remembered) -> None:
        code = """
import resource, signal
from tests.packing.test_cache import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_cache() as cache:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    large = sealed(chunks=10_000)
    cache.keep(planned("large"), large.digest, 1, large.rows)
    cache.keep(planned("small"), large.digest, 1, ())
    print(bool(cache.problem), cache.find(planned()) == sealed())
    print(cache.find(planned("large")), cache.find(planned("small")))
"""
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ended.stdout == "True True\nNone None\n"
        assert found(planned()) == kept


class TestSeveralAtOnce:
    def test_processes_that_begin_at_once_all_keep(self) -> None:
        code = """
import sys
from tests.packing.test_cache import *
print("ready", flush=True)
sys.stdin.read()
with open_cache() as cache:
    for number in range(50):
        known = sealed(f"{sys.argv[1]}-{number}")
        cache.keep(planned(f"{sys.argv[1]}-{number}"), known.digest, known.size, known.rows)
    print(cache.problem)
"""
        with ExitStack() as running:
            processes = [
                running.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", code, str(name)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                for name in range(4)
            ]
            assert [stdout_of(process).readline() for process in processes] == ["ready\n"] * 4
            [stdin_of(process).close() for process in processes]
            assert [stdout_of(process).read() for process in processes] == ["\n"] * 4
        assert sorted(names()) == sorted(f"{name}-{number}" for name in range(4) for number in range(50))

    def test_threads_share_one(self) -> None:
        with open_cache() as cache:

            def work(name: int) -> None:
                for number in range(50):
                    known = sealed(f"{name}-{number}")
                    cache.keep(planned(f"{name}-{number}"), known.digest, known.size, known.rows)
                    assert cache.find(planned(f"{name}-{number}")) == known

            threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert (len(cache.entries()), cache.problem) == (200, "")

    def test_what_a_killed_process_kept_is_found(self) -> None:
        code = """
import time
from tests.packing.test_cache import *
with open_cache() as cache:
    cache.keep(planned(), sealed().digest, sealed().size, sealed().rows)
    print("kept", flush=True)
    time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert found(planned()) == sealed()


class TestBounds:
    @pytest.fixture
    def four(self) -> None:
        """Layers 0 to 3; 3 was kept last, 0 was found last."""
        for number in range(4):
            keep(planned(str(number)), sealed(str(number)))
        found(planned("0"))

    @pytest.mark.usefixtures("four")
    def test_the_one_that_was_used_last_is_named_first(self) -> None:
        assert names() == ["0", "3", "2", "1"]

    @pytest.mark.usefixtures("four")
    def test_those_that_were_not_used_for_longest_are_pruned(self) -> None:
        with open_cache() as cache:
            assert cache.prune(WEEK_S, 3) == 1
        assert names() == ["0", "3", "2"]

    @pytest.mark.usefixtures("four")
    def test_old_ones_are_pruned(self) -> None:
        edit("UPDATE layers SET used = used - ? WHERE title IN ('0', '3')", WEEK_S)
        with open_cache() as cache:
            assert cache.prune(WEEK_S / 2, 100) == 2
        assert names() == ["2", "1"]

    @pytest.mark.usefixtures("four")
    def test_those_beyond_a_size_are_pruned(self) -> None:
        with open_cache() as cache:
            cache.prune(WEEK_S, 100, 2 * size_of(sealed("0")))
        assert names() == ["0", "3"]

    @pytest.mark.usefixtures("four")
    def test_all_may_be_pruned(self) -> None:
        with open_cache() as cache:
            assert (cache.prune(0, 100), cache.entries()) == (4, [])

    def test_pruning_gives_the_space_back(self) -> None:
        keep(planned(), sealed(chunks=100_000))
        before = database().stat().st_size
        with open_cache() as cache:
            cache.prune(0, 0)
        assert database().stat().st_size < before / 100

    @pytest.mark.usefixtures("four")
    def test_what_comes_in_drives_the_oldest_out(self) -> None:
        with open_cache(max_entries=3) as cache:
            cache.keep(planned("4"), sealed().digest, 1, ())
        assert names() == ["4", "0", "3"]

    @pytest.mark.usefixtures("four")
    def test_a_large_one_drives_the_oldest_out(self) -> None:
        large = sealed(chunks=3000)
        with open_cache(max_size=size_of(large) + 3 * size_of(sealed("0"))) as cache:
            cache.keep(planned("4"), large.digest, 1, large.rows)
        assert names() == ["4", "0", "3", "2"]

    @pytest.mark.usefixtures("four")
    def test_who_only_looks_drives_nothing_out(self) -> None:
        with open_cache(max_entries=1) as cache:
            cache.find(planned("1"))
        assert len(names()) == 4

    def test_a_layer_is_named_with_its_blob_and_when_it_was_used(self) -> None:
        before = time.time()
        keep(planned(), sealed())
        with open_cache() as cache:
            (layer,) = cache.entries()
        assert before <= layer.used_s <= time.time()
        assert layer == CachedLayer(title="a.safetensors", digest=sealed().digest, size=6144, used_s=layer.used_s)


def local(ctime_ns: int, mtime_ns: int = 0) -> Entry:
    return Entry(path="a", size=10, version=f"2049:77:10:{mtime_ns}:{ctime_ns}")


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (local(HOUR_NS - 2 * 10**9), True),
        (local(HOUR_NS - 2 * 10**9 + 10**6), False),
        (local(HOUR_NS), False),
        (local(HOUR_NS + 10**9), False),
        (local(0, mtime_ns=2 * HOUR_NS), True),
        (local(0, mtime_ns=-HOUR_NS), True),
        (Entry(path="a", size=10, version="etag 5:6"), True),
        (Entry(path="a", size=10), False),
    ],
    ids=["settled", "just not", "at once", "in the future", "set ahead", "before 1970", "of a hub", "unknown"],
)
def test_a_file_that_may_change_unseen_is_not_kept(entry: Entry, kept: bool) -> None:
    assert may_keep(entry, 3600.0) is kept


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    from modelctl.sources.file import open_source

    (tmp_path / "a").write_bytes(b"x")
    (entry,) = open_source(str(tmp_path)).list(lambda path: True)
    assert (may_keep(entry, time.time()), may_keep(entry, time.time() + 3)) == (False, True)
