"""A target with too little room, and one that several processes want."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.errors import Conflict, DiskProblem
from tests.models import write_model
from tests.node.files import LARGE, fill, interrupted
from tests.stores import files_of, names_in, pack_model

TINY = 1 << 20


@pytest.fixture(params=[TINY])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of `param` bytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_what_does_not_fit_is_refused_with_both_figures(small_disk: Path) -> None:
    with pytest.raises(DiskProblem, match=f"{len(LARGE)} bytes are needed and {TINY} are free"):
        fill(small_disk, {"large": LARGE})


def test_what_does_not_fit_is_refused_before_the_first_byte(small_disk: Path) -> None:
    with pytest.raises(DiskProblem):
        fill(small_disk, {"config.json": b"{}", "large": LARGE})

    assert names_in(small_disk) == set()


def test_what_fits_is_not_refused(small_disk: Path) -> None:
    fill(small_disk, {"half": LARGE[: TINY // 2]})

    assert files_of(small_disk) == {"half": LARGE[: TINY // 2]}


@pytest.mark.parametrize("small_disk", [len(LARGE) + CHUNK // 2], indirect=True)
def test_the_bytes_that_an_interrupted_pull_left_are_not_needed_again(small_disk: Path) -> None:
    interrupted(small_disk, "large", LARGE, after=CHUNK)
    fill(small_disk, {"large": LARGE})

    assert (small_disk / "large").read_bytes() == LARGE


@pytest.mark.parametrize("small_disk", [len(LARGE) + CHUNK // 2], indirect=True)
def test_the_part_of_another_file_makes_no_room(small_disk: Path) -> None:
    interrupted(small_disk, "large", LARGE, after=CHUNK)

    with pytest.raises(DiskProblem, match=f"{len(LARGE)} bytes are needed"):
        fill(small_disk, {"other": LARGE})


def pull_at_once(store: Path, target: Path, count: int) -> list[int]:
    """Pull into one folder from many processes at once; return how they ended."""
    command = [sys.executable, "-m", "modelctl", "pull", f"oci:{store}:v1", target, "--quiet"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
    return [process.wait() for process in processes]


def test_of_pulls_into_one_folder_at_once_each_succeeds_or_says_conflict(tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "model"), tmp_path / "store")

    assert set(pull_at_once(tmp_path / "store", tmp_path / "target", 6)) <= {0, Conflict.exit_status}


def test_pulls_into_one_folder_at_once_leave_the_whole_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    pack_model(model, tmp_path / "store")
    pull_at_once(tmp_path / "store", tmp_path / "target", 6)

    assert (files_of(tmp_path / "target"), names_in(tmp_path / "target")) == (files_of(model), names_in(model))
