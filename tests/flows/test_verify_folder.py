"""Verify a folder: against an artifact, and against a crc32.txt."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from modelctl.core.choices import Depth
from modelctl.core.errors import Invalid, NotFound
from modelctl.core.progress import Progress
from modelctl.flows.crc32 import compute_crc32s
from modelctl.flows.verify import VerifyReport, verify_crc32_list, verify_folder
from modelctl.node.folder import UNFINISHED
from tests.stores import files_of, flip, names_in, reference

SHARD = "model-00002-of-00004.safetensors"


def verified(folder: Path, store: Path, depth: Depth = "full") -> VerifyReport:
    return verify_folder(str(folder), reference(store), depth, jobs=2, progress=Progress())


def listed(folder: Path, list_path: str = "") -> VerifyReport:
    return verify_crc32_list(str(folder), list_path, jobs=2, progress=Progress())


def bad(report: VerifyReport) -> dict[str, list[str]]:
    return {file.path: file.problems for file in report.bad}


def write_list(folder: Path) -> Path:
    """Write the folder's own crc32.txt."""
    (folder / "crc32.txt").write_text(compute_crc32s(str(folder), 2, Progress()).crc32_list())
    return folder / "crc32.txt"


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_the_folder_that_was_packed_has_no_problem(model: Path, packed: Path, depth: Depth) -> None:
    report = verified(model, packed, depth)

    assert (bad(report), report.extra) == ({}, [])


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_a_missing_file_is_a_problem(model: Path, packed: Path, depth: Depth) -> None:
    (model / SHARD).unlink()

    assert bad(verified(model, packed, depth)) == {SHARD: [f"{SHARD}: missing"]}


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_a_file_of_another_size_is_a_problem(model: Path, packed: Path, depth: Depth) -> None:
    size = (model / SHARD).stat().st_size
    os.truncate(model / SHARD, 70_000)

    assert bad(verified(model, packed, depth)) == {SHARD: [f"{SHARD}: it has 70000 bytes, expected {size}"]}


@pytest.mark.parametrize("depth", ["crc", "full"])
def test_a_flipped_byte_is_a_problem(model: Path, packed: Path, depth: Depth) -> None:
    flip(model / SHARD, 50_000)

    assert list(bad(verified(model, packed, depth))) == [SHARD]


def test_at_depth_full_the_chunk_is_named(model: Path, packed: Path) -> None:
    flip(model / SHARD, 50_000)

    assert "chunk 0" in bad(verified(model, packed))[SHARD][1]


def test_at_depth_size_no_byte_is_read(model: Path, packed: Path) -> None:
    flip(model / SHARD, 50_000)

    assert bad(verified(model, packed, "size")) == {}


def test_a_file_that_the_artifact_has_not_is_extra(model: Path, packed: Path) -> None:
    (model / "notes").mkdir()
    (model / "notes" / "mine.txt").write_text("mine")

    assert verified(model, packed).extra == ["notes/mine.txt"]


def test_an_unfinished_pull_is_not_extra(model: Path, packed: Path) -> None:
    (model / UNFINISHED).mkdir()
    (model / UNFINISHED / "lock").touch()

    assert verified(model, packed).extra == []


def test_a_file_is_not_read_through_a_link_out_of_the_folder(model: Path, packed: Path, tmp_path: Path) -> None:
    (model / "config.json").rename(tmp_path / "config.json")
    (model / "config.json").symlink_to(tmp_path / "config.json")

    with pytest.raises(Invalid, match="leaves the model"):
        verified(model, packed)


def test_verifying_a_folder_never_changes_it(model: Path, packed: Path) -> None:
    before = (names_in(model), files_of(model))
    verified(model, packed)

    assert (names_in(model), files_of(model)) == before


def test_a_folder_that_is_not_there_is_not_found(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verified(tmp_path / "nowhere", packed)


def test_the_crcs_that_were_read_are_those_of_a_crc32_list(model: Path, packed: Path) -> None:
    assert verified(model, packed).crc32_list() == compute_crc32s(str(model), 2, Progress()).crc32_list()


def test_a_folder_agrees_with_its_own_list(model: Path) -> None:
    write_list(model)
    report = listed(model)

    assert (bad(report), report.extra) == ({}, [])


def test_a_list_may_lie_elsewhere(model: Path, tmp_path: Path) -> None:
    write_list(model).rename(tmp_path / "sums.txt")

    assert bad(listed(model, str(tmp_path / "sums.txt"))) == {}


def test_a_file_with_another_crc_is_a_problem(model: Path) -> None:
    write_list(model)
    before = zlib.crc32((model / SHARD).read_bytes())
    flip(model / SHARD, 50_000)
    after = zlib.crc32((model / SHARD).read_bytes())

    assert bad(listed(model)) == {SHARD: [f"CRC-32 is {after:08x}, the list says {before:08x}"]}


def test_a_file_that_the_list_names_and_is_missing_is_a_problem(model: Path) -> None:
    write_list(model)
    (model / SHARD).unlink()

    assert bad(listed(model)) == {SHARD: [f"{SHARD}: missing"]}


def test_a_file_that_the_list_does_not_name_is_extra(model: Path) -> None:
    write_list(model)
    (model / "mine.txt").write_text("mine")

    assert listed(model).extra == ["mine.txt"]


def test_a_folder_without_a_list_is_not_found(model: Path) -> None:
    with pytest.raises(NotFound, match=r"crc32\.txt"):
        listed(model)


def test_a_list_of_nothing_is_not_found(model: Path) -> None:
    (model / "crc32.txt").write_text("\n")

    with pytest.raises(NotFound, match="it lists no file"):
        listed(model)
