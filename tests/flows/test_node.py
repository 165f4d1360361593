"""The models of a node: every file proved, one copy of each content, and nothing lost that another model has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelctl.core.access import DEFAULT
from modelctl.core.errors import ChecksumMismatch, NotFound
from modelctl.core.progress import Progress
from modelctl.core.types import Digest
from modelctl.flows.node import NodePullReport, node_models, node_pull, node_remove
from tests.models import write_model
from tests.stores import blob_path, files_of, flip, layer_of, pack_model, reference, tags_of

SHARD = "model-00001-of-00004.safetensors"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A library that is not there yet."""
    return tmp_path / "library"


@pytest.fixture
def two(model: Path, packed: Path) -> tuple[Path, Path]:
    """The model with another README as `v2`; return the store and the model."""
    (model / "README.md").write_text("other words")
    pack_model(model, packed, tag="v2")
    return packed, model


def keep(store: Path, root: Path, tag: str = "v1") -> NodePullReport:
    return node_pull(reference(store, tag), str(root), 2, DEFAULT, Progress())


def inodes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_model_stands_in_a_folder_of_its_digest(model: Path, packed: Path, root: Path) -> None:
    report = keep(packed, root)
    assert report.folder == str(root / "models" / tags_of(packed)["v1"].removeprefix("sha256:"))
    assert files_of(Path(report.folder)) == files_of(model)


def test_the_next_version_takes_over_what_it_shares(two: tuple[Path, Path], root: Path) -> None:
    store, model = two
    first, second = keep(store, root), keep(store, root, "v2")
    before, after = inodes(Path(first.folder)), inodes(Path(second.folder))
    assert files_of(Path(second.folder)) == files_of(model)
    assert {path for path in after if after[path] != before[path]} == {"README.md"}
    assert second.shared == second.size - len("other words")


def test_equal_files_of_a_model_are_one(model: Path, store: Path, root: Path) -> None:
    (model / "copy.safetensors").write_bytes((model / SHARD).read_bytes())
    pack_model(model, store)
    found = inodes(Path(keep(store, root).folder))
    assert found["copy.safetensors"] == found[SHARD]


def test_what_was_mended_is_shared_again(two: tuple[Path, Path], root: Path) -> None:
    store, model = two
    first, second = Path(keep(store, root).folder), Path(keep(store, root, "v2").folder)
    flip(first / SHARD, 9000)
    keep(store, root, "v2")
    keep(store, root)
    assert inodes(first)[SHARD] == inodes(second)[SHARD]
    assert files_of(second) == files_of(model)


def test_pulled_again_nothing_moves(packed: Path, root: Path) -> None:
    folder = Path(keep(packed, root).folder)
    before = inodes(folder)
    keep(packed, root)
    assert inodes(folder) == before


def test_what_rotted_is_pulled_again(model: Path, packed: Path, root: Path) -> None:
    folder = Path(keep(packed, root).folder)
    flip(folder / SHARD, 9000)
    keep(packed, root)
    assert files_of(folder) == files_of(model)


def test_what_rotted_is_not_passed_on_to_the_next_version(two: tuple[Path, Path], root: Path) -> None:
    store, model = two
    flip(Path(keep(store, root).folder) / SHARD, 9000)
    second = Path(keep(store, root, "v2").folder)
    assert files_of(second) == files_of(model)


def test_a_pull_that_failed_is_gone_on_with(model: Path, packed: Path, root: Path) -> None:
    blob = blob_path(packed, layer_of(packed, SHARD))
    right = blob.read_bytes()
    flip(blob, 9000)
    with pytest.raises(ChecksumMismatch):
        keep(packed, root)
    blob.write_bytes(right)
    assert files_of(Path(keep(packed, root).folder)) == files_of(model)


def test_the_models_are_listed_with_their_sizes(two: tuple[Path, Path], root: Path) -> None:
    reports = [keep(two[0], root), keep(two[0], root, "v2")]
    assert sorted((one.digest, one.files, one.size) for one in node_models(str(root))) == sorted(
        (one.digest, one.files, one.size) for one in reports
    )


def test_of_a_library_that_is_not_there_nothing_is_listed(root: Path) -> None:
    assert node_models(str(root)) == []


def test_a_model_that_is_removed_frees_what_no_other_has(two: tuple[Path, Path], root: Path) -> None:
    store, model = two
    first, second = keep(store, root), keep(store, root, "v2")
    size = (Path(first.folder) / "README.md").stat().st_size
    assert node_remove(str(root), Digest(first.digest)).freed == size
    assert files_of(Path(second.folder)) == files_of(model)


def test_when_the_last_is_removed_no_file_is_left(packed: Path, root: Path) -> None:
    report = keep(packed, root)
    assert node_remove(str(root), Digest(report.digest)).freed == report.size
    assert set(files_of(root)) == {"lock"}


def test_a_model_of_which_a_part_is_here_is_not_listed_and_can_be_removed(packed: Path, root: Path) -> None:
    flip(blob_path(packed, layer_of(packed, SHARD)), 9000)
    with pytest.raises(ChecksumMismatch):
        keep(packed, root)
    assert node_models(str(root)) == []
    node_remove(str(root), Digest(tags_of(packed)["v1"]))
    assert set(files_of(root)) == {"lock"}


def test_what_a_killed_removal_left_goes_with_the_next(two: tuple[Path, Path], root: Path) -> None:
    store, _ = two
    first, second = keep(store, root), keep(store, root, "v2")
    Path(first.folder).rename(root / "partial" / f"removed-{Path(first.folder).name}")
    node_remove(str(root), Digest(second.digest))
    assert set(files_of(root)) == {"lock"}


def test_pods_of_any_user_can_read_whatever_the_umask(packed: Path, root: Path) -> None:
    before = os.umask(0o077)
    try:
        report = keep(packed, root)
        now = os.umask(0o077)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (root, *Path(report.folder).rglob("*"), Path(report.folder))}
    assert (modes, now) == ({0o755, 0o644}, 0o077)


def test_a_root_that_is_mistyped_is_not_made(root: Path) -> None:
    with pytest.raises(NotFound):
        node_remove(str(root), Digest("sha256:" + "0" * 64))
    assert not root.exists()


def test_what_else_is_among_the_models_is_not_listed(packed: Path, root: Path) -> None:
    report = keep(packed, root)
    (root / "models" / "lost+found").mkdir()
    assert [one.digest for one in node_models(str(root))] == [report.digest]


def test_a_model_that_is_not_there_cannot_be_removed(root: Path) -> None:
    with pytest.raises(NotFound, match="sha256"):
        node_remove(str(root), Digest("sha256:" + "0" * 64))


def test_what_a_killed_run_left_out_is_shared_the_next_time(packed: Path, root: Path) -> None:
    report = keep(packed, root)
    for content in (root / "files").iterdir():
        content.unlink()
    keep(packed, root)
    assert {path.stat().st_nlink for path in Path(report.folder).rglob("*") if path.is_file()} == {2}


def test_a_library_of_several_models_does_not_mind_which_came_first(tmp_path: Path, root: Path) -> None:
    stores = []
    for seed in (1, 2):
        store = tmp_path / f"store{seed}"
        pack_model(write_model(tmp_path / f"model{seed}", seed=seed), store)
        stores.append(store)
    folders = [Path(keep(store, root).folder) for store in stores]
    assert [files_of(folder) for folder in folders] == [files_of(tmp_path / f"model{seed}") for seed in (1, 2)]
