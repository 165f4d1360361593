"""A target: what it takes, what it refuses, and where it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelctl.core.chunks import BUFFER, CHUNK
from modelctl.core.errors import ChecksumMismatch, Conflict, DiskProblem
from modelctl.node.folder import UNFINISHED, open_folder
from tests.fakes.memory import MemoryBlob
from tests.node.files import DIGEST, LARGE, OTHER, fill, interrupted, nothing, part_of, restore, row_of
from tests.stores import files_of, names_in

FILES = {"config.json": b"{}", "a/b/weights": b"w" * 3000, "empty": b""}


def test_an_empty_folder_is_filled_with_exactly_the_files(tmp_path: Path) -> None:
    fill(tmp_path / "target", FILES)

    assert files_of(tmp_path / "target") == FILES


def test_nothing_of_its_own_is_left(tmp_path: Path) -> None:
    fill(tmp_path, FILES)

    assert names_in(tmp_path) == {"config.json", "a", "a/b", "a/b/weights", "empty"}


def test_a_file_of_several_chunks_is_restored(tmp_path: Path) -> None:
    fill(tmp_path, {"large": LARGE})

    assert (tmp_path / "large").read_bytes() == LARGE


def test_a_file_is_readable_by_all(tmp_path: Path) -> None:
    fill(tmp_path, FILES)

    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o644


def test_a_file_stands_nowhere_under_its_name_before_it_is_proved(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK)

    assert not (tmp_path / "large").exists()


def test_a_folder_that_is_full_already_is_left_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    before = {path: (tmp_path / path).stat().st_ino for path in FILES}
    fill(tmp_path, FILES)

    assert {path: (tmp_path / path).stat().st_ino for path in FILES} == before


def test_a_file_that_is_missing_is_added(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    (tmp_path / "config.json").unlink()
    fill(tmp_path, FILES)

    assert files_of(tmp_path) == FILES


@pytest.mark.parametrize("stranger", ["notes.txt", "a/notes.txt", ".hidden", "a/b/notes"])
def test_a_folder_that_holds_a_strange_file_is_refused(tmp_path: Path, stranger: str) -> None:
    fill(tmp_path, FILES)
    (tmp_path / stranger).write_text("mine")

    with pytest.raises(Conflict, match="is not of it"):
        fill(tmp_path, FILES)


def test_a_folder_that_holds_a_strange_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")

    with pytest.raises(Conflict, match="link"):
        fill(tmp_path, FILES)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{ }")

    with pytest.raises(Conflict, match=r"config\.json.*another size"):
        fill(tmp_path, FILES)


def test_a_file_of_the_same_size_with_other_bytes_is_refused(tmp_path: Path) -> None:
    data = bytearray(LARGE)
    data[CHUNK + 5] ^= 1
    (tmp_path / "large").write_bytes(data)

    with pytest.raises(Conflict, match=f"chunk 1 .from byte {CHUNK}. has other bytes"):
        fill(tmp_path, {"large": LARGE})


def test_a_refused_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict):
        fill(tmp_path, FILES)

    assert names_in(tmp_path) == {"notes.txt"}


def test_empty_folders_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    fill(tmp_path, FILES)

    assert files_of(tmp_path) == FILES


def test_overwrite_replaces_a_file_with_other_bytes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"[]")
    fill(tmp_path, FILES, overwrite=True)

    assert files_of(tmp_path) == FILES


def test_overwrite_leaves_files_that_are_not_the_artifacts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    fill(tmp_path, FILES, overwrite=True)

    assert files_of(tmp_path) == {**FILES, "a/notes.txt": b"mine"}


def test_overwrite_leaves_a_file_that_is_right(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    before = (tmp_path / "config.json").stat().st_ino
    (tmp_path / "notes.txt").write_text("mine")
    fill(tmp_path, FILES, overwrite=True)

    assert (tmp_path / "config.json").stat().st_ino == before


def test_a_folder_where_a_file_must_go_is_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    with pytest.raises(Conflict, match=r"config\.json"):
        fill(tmp_path, FILES)


def test_a_file_where_a_folder_must_go_is_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")

    with pytest.raises(Conflict, match="a/b/weights"):
        fill(tmp_path, FILES, overwrite=True)


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(DiskProblem, match="File exists"):
        fill(tmp_path / "file", FILES)


def test_an_interrupted_pull_goes_on_at_the_chunk_it_stopped_in(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK + 3 * BUFFER)
    blob = MemoryBlob(LARGE)
    restore(tmp_path, "large", LARGE, blob)

    assert sum(size for _, size in blob.reads) == len(LARGE) - CHUNK


def test_a_pull_that_was_interrupted_before_the_rename_reads_nothing_again(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=len(LARGE))
    blob = MemoryBlob(LARGE)
    restore(tmp_path, "large", LARGE, blob)

    assert blob.reads == []


def test_what_was_interrupted_is_whole_in_the_end(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK + BUFFER)
    fill(tmp_path, {"large": LARGE})

    assert (names_in(tmp_path), (tmp_path / "large").read_bytes()) == ({"large"}, LARGE)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_part_with_wrong_bytes_is_done_again_from_the_first_wrong_chunk(tmp_path: Path, chunk: int) -> None:
    part = interrupted(tmp_path, "large", LARGE, after=len(LARGE))
    data = bytearray(part.read_bytes())
    data[chunk * CHUNK + 7] ^= 1
    part.write_bytes(data)
    blob = MemoryBlob(LARGE)
    restore(tmp_path, "large", LARGE, blob)

    assert sum(size for _, size in blob.reads) == len(LARGE) - chunk * CHUNK


def test_a_part_with_wrong_bytes_is_put_right(tmp_path: Path) -> None:
    part = interrupted(tmp_path, "large", LARGE, after=len(LARGE))
    part.write_bytes(b"\0" * len(LARGE))
    restore(tmp_path, "large", LARGE, MemoryBlob(LARGE))

    assert (tmp_path / "large").read_bytes() == LARGE


def test_a_part_that_is_too_long_is_cut(tmp_path: Path) -> None:
    part = interrupted(tmp_path, "large", LARGE, after=len(LARGE))
    part.write_bytes(LARGE + b"more")
    restore(tmp_path, "large", LARGE, MemoryBlob(LARGE))

    assert (tmp_path / "large").read_bytes() == LARGE


def test_a_blob_with_a_wrong_chunk_is_refused_by_its_name(tmp_path: Path) -> None:
    wrong = LARGE[: CHUNK + 10] + b"\0" + LARGE[CHUNK + 11 :]

    with pytest.raises(ChecksumMismatch, match=f"large, chunk 1 .from byte {CHUNK}"):
        restore(tmp_path, "large", LARGE, MemoryBlob(wrong))


def test_a_blob_with_a_wrong_chunk_leaves_what_was_right_before_it(tmp_path: Path) -> None:
    wrong = LARGE[: CHUNK + 10] + b"\0" + LARGE[CHUNK + 11 :]
    with pytest.raises(ChecksumMismatch):
        restore(tmp_path, "large", LARGE, MemoryBlob(wrong))

    assert part_of(tmp_path).read_bytes() == LARGE[:CHUNK]


def test_another_pull_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    with open_folder(tmp_path, DIGEST, overwrite=False), pytest.raises(Conflict, match="in use"):
        fill(tmp_path, FILES)


def test_a_folder_may_be_filled_when_the_other_pull_is_done(tmp_path: Path) -> None:
    with open_folder(tmp_path, DIGEST, overwrite=False) as folder:
        folder.restore(row_of("config.json", b"{}"), MemoryBlob(b"{}"), nothing)
    fill(tmp_path, FILES)

    assert files_of(tmp_path) == FILES


def test_an_unfinished_pull_of_another_artifact_is_a_conflict(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK)

    with pytest.raises(Conflict, match=f"unfinished pull of another artifact\n.*{DIGEST}"):
        fill(tmp_path, FILES, OTHER)


def test_a_pull_that_another_unfinished_one_refused_leaves_its_parts(tmp_path: Path) -> None:
    part = interrupted(tmp_path, "large", LARGE, after=CHUNK)
    with pytest.raises(Conflict):
        fill(tmp_path, FILES, OTHER)

    assert part.read_bytes() == LARGE[:CHUNK]


def test_overwrite_drops_the_unfinished_pull_of_another_artifact(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK)
    fill(tmp_path, FILES, OTHER, overwrite=True)

    assert names_in(tmp_path) == {"config.json", "a", "a/b", "a/b/weights", "empty"}


def test_an_unfinished_pull_without_files_is_no_conflict(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_folder(tmp_path, DIGEST, overwrite=False):
        raise KeyboardInterrupt
    fill(tmp_path, FILES, OTHER)

    assert files_of(tmp_path) == FILES


def test_a_pull_that_stopped_before_its_first_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_folder(tmp_path, DIGEST, overwrite=False):
        raise KeyboardInterrupt

    assert not (tmp_path / UNFINISHED).exists()


def test_the_part_of_a_file_that_is_no_longer_wanted_goes_in_the_end(tmp_path: Path) -> None:
    interrupted(tmp_path, "large", LARGE, after=CHUNK)
    fill(tmp_path, FILES)

    assert not (tmp_path / UNFINISHED).exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_was_made_for_a_job_that_failed_goes_again(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "target"
    if there:
        target.mkdir()
    with pytest.raises(DiskProblem), open_folder(target, DIGEST, overwrite=False):
        raise DiskProblem("the first thing that is asked for")

    assert target.exists() is there
