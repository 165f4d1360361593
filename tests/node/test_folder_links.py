"""Links that somebody planted in a target: no byte outside it is ever written, and nothing there is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.errors import Conflict, ModelctlError
from modelctl.node.folder import UNFINISHED
from tests.node.files import DIGEST, LARGE, OTHER, fill, interrupted
from tests.stores import files_of, names_in

OWN = f"{UNFINISHED}/{DIGEST.removeprefix('sha256:')}"
FILES = {"config.json": b"{}", "a/weights": b"w" * 3000}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the target, with one file; it must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"precious")
    return tmp_path / "outside"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def fill_if_it_may(target: Path, files: dict[str, bytes], *, overwrite: bool) -> None:
    """Fill a folder; a refusal is as good."""
    try:
        fill(target, files, overwrite=overwrite)
    except ModelctlError:
        return


def plant(target: Path, name: str, outside: Path) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).symlink_to(outside)


LINKS = [
    ("config.json", "precious"),
    ("config.json", "new"),
    ("config.json", ""),
    ("a", ""),
    ("a/weights", "precious"),
    ("stranger", ""),
    (UNFINISHED, ""),
    (UNFINISHED, "new"),
    (f"{UNFINISHED}/lock", "precious"),
    (f"{UNFINISHED}/lock", "new"),
    (OWN, ""),
    (OWN, "new"),
    (f"{OWN}/link", ""),
    (f"{UNFINISHED}/{OTHER.removeprefix('sha256:')}", ""),
]
"""Where a link stands in the target, and where outside of it it points to."""


@pytest.mark.parametrize("overwrite", [False, True], ids=["plain", "overwrite"])
@pytest.mark.parametrize(("name", "to"), LINKS)
def test_a_planted_link_leads_nowhere(target: Path, outside: Path, name: str, to: str, overwrite: bool) -> None:
    plant(target, name, outside / to)
    fill_if_it_may(target, FILES, overwrite=overwrite)

    assert (names_in(outside), files_of(outside)) == ({"precious"}, {"precious": b"precious"})


@pytest.mark.parametrize("name", [UNFINISHED, OWN])
def test_a_pull_that_breaks_leaves_no_byte_behind_a_planted_link(target: Path, outside: Path, name: str) -> None:
    plant(target, name, outside)
    with pytest.raises(Conflict):
        interrupted(target, "large", LARGE, after=CHUNK)

    assert names_in(outside) == {"precious"}


def unfinished_name(target: Path) -> str:
    """Return the name that the unfinished file of `large` has."""
    part = interrupted(target, "large", LARGE, after=CHUNK)
    part.unlink()
    return str(part.relative_to(target))


@pytest.mark.parametrize("overwrite", [False, True], ids=["plain", "overwrite"])
@pytest.mark.parametrize("to", ["precious", "new", ""])
def test_a_link_planted_as_an_unfinished_file_leads_nowhere(
    target: Path, outside: Path, to: str, overwrite: bool
) -> None:
    plant(target, unfinished_name(target), outside / to)
    fill_if_it_may(target, {"large": LARGE}, overwrite=overwrite)

    assert (names_in(outside), files_of(outside)) == ({"precious"}, {"precious": b"precious"})


def test_a_hard_link_planted_as_an_unfinished_file_is_not_written_to(target: Path, outside: Path) -> None:
    os.link(outside / "precious", target / unfinished_name(target))
    fill_if_it_may(target, {"large": LARGE}, overwrite=True)

    assert files_of(outside) == {"precious": b"precious"}


def test_a_hard_link_planted_as_an_unfinished_file_is_a_conflict(target: Path, outside: Path) -> None:
    os.link(outside / "precious", target / unfinished_name(target))

    with pytest.raises(Conflict, match="somebody else linked it"):
        fill(target, {"large": LARGE})


def test_a_pipe_planted_as_an_unfinished_file_is_a_conflict(target: Path) -> None:
    os.mkfifo(target / unfinished_name(target))

    with pytest.raises(Conflict):
        fill(target, {"large": LARGE})


def test_a_hard_link_under_a_final_name_is_replaced_and_not_written_to(target: Path, outside: Path) -> None:
    os.link(outside / "precious", target / "config.json")
    fill(target, FILES, overwrite=True)

    assert files_of(outside) == {"precious": b"precious"}


def test_overwrite_replaces_a_link_under_a_final_name_by_the_file(target: Path, outside: Path) -> None:
    plant(target, "config.json", outside / "precious")
    fill(target, FILES, overwrite=True)

    assert not (target / "config.json").is_symlink()


@pytest.mark.parametrize("name", ["a", UNFINISHED, OWN])
def test_a_link_where_a_folder_must_be_is_a_conflict(target: Path, outside: Path, name: str) -> None:
    plant(target, name, outside)

    with pytest.raises(Conflict, match="stands in its way"):
        fill(target, FILES, overwrite=True)


def test_a_file_where_the_unfinished_files_go_is_a_conflict(target: Path) -> None:
    (target / UNFINISHED).write_text("mine")

    with pytest.raises(Conflict, match="stands in its way"):
        fill(target, FILES)


def test_overwrite_removes_a_planted_link_among_the_unfinished_files(target: Path, outside: Path) -> None:
    plant(target, f"{UNFINISHED}/{OTHER.removeprefix('sha256:')}", outside)
    fill(target, FILES, overwrite=True)

    assert files_of(target) == FILES


def test_the_target_itself_may_be_a_link(tmp_path: Path, target: Path) -> None:
    (tmp_path / "link").symlink_to(target)
    fill(tmp_path / "link", FILES)

    assert files_of(target) == FILES
