import errno
import fcntl
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from modelctl.core.disk import FileBlob, is_local, locked, on_disk, replace_file, write_all
from modelctl.core.errors import ChecksumMismatch, Conflict, Denied, DiskProblem, ModelctlError, NotFound


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, NotFound),
        (errno.EACCES, Denied),
        (errno.EPERM, Denied),
        (errno.EROFS, Denied),
        (errno.ENOSPC, DiskProblem),
        (errno.EIO, DiskProblem),
        (errno.ELOOP, DiskProblem),
    ],
)
def test_the_systems_errors_become_ours(number: int, kind: type[ModelctlError]) -> None:
    with pytest.raises(kind), on_disk("x"):
        raise OSError(number, os.strerror(number))


def test_an_error_of_the_disk_says_what_the_system_said() -> None:
    with pytest.raises(DiskProblem, match=r"No space left on device \(ENOSPC\)"), on_disk("x"):
        raise OSError(errno.ENOSPC, "")


def test_an_error_with_a_number_of_its_own_speaks_for_itself() -> None:
    with pytest.raises(DiskProblem, match=r"why: \[X509: NO_CERTIFICATE\]"), on_disk("x"):
        raise ssl.SSLError(136, "[X509: NO_CERTIFICATE]")


def test_a_broken_pipe_is_no_problem_of_a_disk() -> None:
    with pytest.raises(BrokenPipeError), on_disk("x"):
        raise BrokenPipeError(errno.EPIPE, "")


def test_a_file_reads_by_position(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    buffer = bytearray(4)
    blob = FileBlob(os.open(tmp_path / "f", os.O_RDONLY), 10, "f")
    blob.read_into(3, memoryview(buffer))
    blob.close()
    assert buffer == b"3456"


def test_a_file_that_ends_early_is_an_error_and_not_a_short_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123")
    blob = FileBlob(os.open(tmp_path / "f", os.O_RDONLY), 10, "f")
    with pytest.raises(ChecksumMismatch, match="ended at byte 4; 10 bytes were expected"):
        blob.read_into(2, memoryview(bytearray(8)))
    blob.close()


def test_all_is_written_though_the_system_takes_it_in_parts(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    write_all(writer, b"x" * 5000, "pipe")
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert len(pipe.read()) == 5000


def test_a_full_device_is_a_problem_of_the_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(DiskProblem, match="ENOSPC"):
        write_all(full.fileno(), b"x", "/dev/full")


def test_a_lock_that_somebody_holds_is_a_conflict(tmp_path: Path) -> None:
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    with locked(tmp_path / "lock", exclusive), pytest.raises(Conflict, match="store is in use"):
        with locked(tmp_path / "lock", exclusive, busy="store"):
            pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    with locked(tmp_path / "lock", exclusive):
        pass
    with locked(tmp_path / "lock", exclusive):
        assert (tmp_path / "lock").exists()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskProblem), locked(tmp_path / "lock", fcntl.LOCK_EX):
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    replace_file(tmp_path / "a", b"new", 0o600)
    assert ((tmp_path / "a").read_bytes(), os.listdir(tmp_path)) == (b"new", ["a"])


def test_what_a_link_names_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to("there")
    replace_file(tmp_path / "link", b"new")
    assert ((tmp_path / "there").read_bytes(), (tmp_path / "link").is_symlink()) == (b"new", True)


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskProblem, match="folder"):
        replace_file(tmp_path / "folder", b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_on_a_disk_is_local(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert is_local(tmp_path / "a")


@pytest.mark.parametrize("path", ["/proc/self/stat", "/sys/kernel", "/nowhere"])
def test_what_is_not_known_to_tell_changes_is_not_local(path: str) -> None:
    assert not is_local(Path(path))


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts FUSE")
def test_fuse_is_not_local(tmp_path: Path) -> None:
    """A mount of another user's is told by the kernel without asking the file system, which nobody serves here."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=1,group_id=1"
    try:
        subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "none", tmp_path], pass_fds=[fd], check=True)
        local = is_local(tmp_path)
    finally:
        os.close(fd)
        subprocess.run(["umount", tmp_path], check=True)
    assert not local
