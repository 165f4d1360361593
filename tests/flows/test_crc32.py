"""The CRC-32 of every file of a folder."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from modelctl.core.errors import Invalid, NotFound
from modelctl.core.progress import Progress
from modelctl.flows.crc32 import compute_crc32s
from tests.stores import files_of


def computed(folder: Path, jobs: int = 2) -> dict[str, str]:
    return {file.path: file.crc32 for file in compute_crc32s(str(folder), jobs, Progress()).files}


@pytest.mark.parametrize("jobs", [1, 8])
def test_each_file_has_the_crc32_that_zlib_computes(model: Path, jobs: int) -> None:
    expected = {path: f"{zlib.crc32(data):08x}" for path, data in files_of(model).items()}

    assert computed(model, jobs) == expected


def test_files_are_listed_by_path(model: Path) -> None:
    assert list(computed(model)) == sorted(files_of(model))


def test_the_folders_own_list_is_left_out(model: Path) -> None:
    (model / "crc32.txt").write_text("00000000 config.json\n")

    assert "crc32.txt" not in computed(model)


def test_an_unfinished_pull_is_left_out(model: Path) -> None:
    (model / ".modelctl.unfinished").mkdir()
    (model / ".modelctl.unfinished" / "part").touch()

    assert not [path for path in computed(model) if path.startswith(".modelctl")]


def test_a_list_is_a_line_a_file(model: Path) -> None:
    lines = compute_crc32s(str(model), 2, Progress()).crc32_list().splitlines()

    assert lines == [f"{zlib.crc32(data):08x} {path}" for path, data in sorted(files_of(model).items())]


def test_a_file_without_bytes_has_crc32_zero(model: Path) -> None:
    (model / "empty").touch()

    assert computed(model)["empty"] == "00000000"


def test_a_name_that_no_model_may_have_is_refused(model: Path) -> None:
    (model / "a\nb").touch()

    with pytest.raises(Invalid, match="control character"):
        computed(model)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        computed(tmp_path / "nowhere")
