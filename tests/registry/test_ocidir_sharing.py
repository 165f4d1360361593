"""A layout with several writers at once, what killed ones left, and what prune may take away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelctl.core.errors import Conflict, NotFound
from modelctl.core.protocols import BytesBlob
from modelctl.registry.ocidir import OciDir
from tests.conformance.stores import CONFIG, WEIGHTS, descriptor, put, put_manifest
from tests.models import write_model
from tests.stores import blob_path, blobs_of, names_in, problems, tags_of


@pytest.fixture
def store(tmp_path: Path) -> OciDir:
    store = OciDir(tmp_path / "store")
    store.create()
    return store


def unfinished(store: OciDir) -> list[str]:
    return [name for name in names_in(store.path) if "unfinished" in name]


def leave_unfinished(store: OciDir) -> None:
    """Leave what a writer leaves that was killed in the middle of a blob."""
    script = (
        "import os, signal, sys\n"
        "from modelctl.core.protocols import BytesBlob\n"
        "from modelctl.registry.ocidir import OciDir\n"
        "store = OciDir(sys.argv[1])\n"
        "with store.writing(), store.upload(BytesBlob(b'')) as upload:\n"
        "    upload.write(bytes(9))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, store.path], check=False)


def pack_at_once(models: list[Path], store: Path) -> list[int]:
    """Pack each model in a process of its own, all at once, into one store that is not there yet."""
    commands = [
        [sys.executable, "-m", "modelctl", "pack", model, f"oci:{store}:{model.name}", "--quiet"] for model in models
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    return [process.wait() for process in processes]


def test_processes_that_pack_at_once_all_succeed(tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"m{seed}", seed=seed) for seed in range(4)]

    assert pack_at_once(models, tmp_path / "store") == [0, 0, 0, 0]


def test_processes_that_pack_at_once_keep_every_tag(tmp_path: Path) -> None:
    models = [write_model(tmp_path / f"m{seed}", seed=seed) for seed in range(4)]
    pack_at_once(models, tmp_path / "store")

    assert set(tags_of(tmp_path / "store")) == {"m0", "m1", "m2", "m3"}


def test_processes_that_pack_one_model_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    models = [write_model(tmp_path / name) for name in ("a", "b", "c")]
    pack_at_once(models, tmp_path / "store")

    assert [problems(tmp_path / "store", model.name) for model in models] == [{}, {}, {}]


def test_prune_removes_what_no_manifest_reaches(store: OciDir) -> None:
    loose = put(store, b"nobody names this")
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.prune()

    assert not store.has(loose)


def test_prune_says_what_it_removed(store: OciDir) -> None:
    loose = put(store, b"nobody names this")
    store.tag(put_manifest(store, WEIGHTS), "v1")

    assert [(blob.digest, blob.size) for blob in store.prune()] == [(loose.digest, 17)]


def test_prune_keeps_what_a_tag_reaches(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    before = blobs_of(store.path)
    store.prune()

    assert blobs_of(store.path) == before


def test_prune_keeps_what_two_manifests_share(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.tag(put_manifest(store, WEIGHTS, CONFIG), "v2")
    store.untag("v1")
    store.prune()

    assert store.has(descriptor(WEIGHTS))


def test_prune_empties_a_store_without_tags(store: OciDir) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.untag("v1")
    store.prune()

    assert blobs_of(store.path) == set()


def test_a_dry_run_of_prune_says_the_same(store: OciDir) -> None:
    loose = put(store, b"nobody names this")

    assert [blob.digest for blob in store.prune(dry_run=True)] == [loose.digest]


def test_a_dry_run_of_prune_removes_nothing(store: OciDir) -> None:
    loose = put(store, b"nobody names this")
    leave_unfinished(store)
    before = names_in(store.path)
    store.prune(dry_run=True)

    assert (names_in(store.path), store.has(loose)) == (before, True)


def test_prune_is_refused_while_somebody_writes(store: OciDir) -> None:
    with store.writing(), pytest.raises(Conflict, match="in use"):
        OciDir(store.path).prune()


def test_a_refused_prune_removes_nothing(store: OciDir) -> None:
    loose = put(store, b"not named yet")
    with store.writing(), pytest.raises(Conflict):
        OciDir(store.path).prune()

    assert store.has(loose)


def test_prune_goes_on_once_the_writer_is_done(store: OciDir) -> None:
    loose = put(store, b"nobody names this")
    with store.writing():
        pass

    assert [blob.digest for blob in store.prune()] == [loose.digest]


def test_a_killed_writer_leaves_an_unfinished_file(store: OciDir) -> None:
    leave_unfinished(store)

    assert len(unfinished(store)) == 1


def test_the_next_writer_removes_what_a_killed_one_left(store: OciDir) -> None:
    leave_unfinished(store)
    with store.writing():
        assert unfinished(store) == []


def test_prune_removes_what_a_killed_writer_left(store: OciDir) -> None:
    leave_unfinished(store)
    store.prune()

    assert unfinished(store) == []


def test_a_writer_leaves_the_unfinished_files_of_one_that_lives(store: OciDir) -> None:
    with store.writing(), store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)
        with OciDir(store.path).writing():
            assert len(unfinished(store)) == 1


def test_pruning_what_is_not_a_store_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        OciDir(tmp_path).prune()

    assert names_in(tmp_path) == set()


def test_prune_removes_a_manifest_that_nobody_names_with_its_layers(store: OciDir) -> None:
    kept = put_manifest(store, CONFIG)
    gone = put_manifest(store, WEIGHTS)
    store.tag(kept, "v1")
    store.prune()

    assert not blob_path(store.path, gone.digest).exists()
