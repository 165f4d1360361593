"""Pack: the same model gives the same digest, and only what changed is new."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from modelctl.core.errors import ChecksumMismatch, Conflict, Invalid, NotFound, UsageProblem
from modelctl.core.media_types import KIND
from modelctl.flows.pack import PackReport
from tests.models import shard
from tests.stores import (
    blob_path,
    blobs_of,
    files_of,
    flip,
    layer_of,
    manifest_of,
    names_in,
    pack_model,
    problems,
    tags_of,
)


def digest(report: PackReport) -> str:
    return report.artifacts[0].digest


def copied(model: Path, folder: Path) -> Path:
    """Copy a model: its files made in the opposite order, of another time, owner's mode and folder's mode."""
    folder.mkdir(mode=0o700)
    for number, path in enumerate(sorted(files_of(model), reverse=True)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(model / path, folder / path)
        (folder / path).chmod(0o600 + number)
        os.utime(folder / path, (number, 1_000_000 * number))
    return folder


def test_a_packed_model_verifies(model: Path, store: Path) -> None:
    pack_model(model, store)

    assert problems(store) == {}


def test_a_copy_of_a_model_has_the_same_digest(model: Path, store: Path, tmp_path: Path) -> None:
    first = pack_model(model, store)
    second = pack_model(copied(model, tmp_path / "copy"), tmp_path / "store2")

    assert digest(first) == digest(second)


def test_the_number_of_jobs_does_not_change_the_digest(model: Path, store: Path, tmp_path: Path) -> None:
    assert digest(pack_model(model, store, jobs=1)) == digest(pack_model(model, tmp_path / "store2", jobs=8))


def test_a_model_packed_again_writes_no_blob(model: Path, store: Path) -> None:
    pack_model(model, store)
    before = blobs_of(store)
    pack_model(model, store)

    assert blobs_of(store) == before


def test_a_model_packed_again_is_reported_as_not_new(model: Path, store: Path) -> None:
    pack_model(model, store)
    report = pack_model(model, store)

    assert (report.new_size, [layer.new for layer in report.layers]) == (0, [False] * len(report.layers))


def test_a_changed_readme_changes_only_its_layer_and_the_documents(model: Path, store: Path) -> None:
    pack_model(model, store)
    before = manifest_of(store)["layers"]
    (model / "README.md").write_text("# Another text\n")
    pack_model(model, store)
    changed = [
        new["annotations"][KIND]
        for old, new in zip(before, manifest_of(store)["layers"], strict=True)
        if old["digest"] != new["digest"]
    ]

    assert changed == ["doc", "table"]


def test_a_changed_readme_writes_six_blobs(model: Path, store: Path) -> None:
    pack_model(model, store)
    before = blobs_of(store)
    (model / "README.md").write_text("# Another text\n")
    pack_model(model, store)

    assert len(blobs_of(store) - before) == len(
        ["doc layer", "table", "config", "manifest", "statement", "its manifest"]
    )


def test_a_blob_that_rotted_is_put_right_by_packing_again(model: Path, store: Path) -> None:
    pack_model(model, store)
    flip(blob_path(store, layer_of(store, "model-00002-of-00004.safetensors")), 5000)
    pack_model(model, store)

    assert problems(store) == {}


def test_a_blob_that_was_cut_short_is_put_right_by_packing_again(model: Path, store: Path) -> None:
    pack_model(model, store)
    os.truncate(blob_path(store, layer_of(store, "model-00002-of-00004.safetensors")), 5000)
    pack_model(model, store)

    assert problems(store) == {}


def test_without_a_tag_it_is_latest(model: Path, store: Path) -> None:
    pack_model(model, store, tag="latest")
    found = tags_of(store)

    assert list(found) == ["latest"]


def test_two_layouts_get_two_tags(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"))

    assert set(tags_of(store)) == {"v1", "v1-modelpack"}


def test_the_second_layout_names_the_first_as_its_subject(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"))

    assert manifest_of(store, "v1-modelpack")["subject"]["digest"] == tags_of(store)["v1"]


def test_two_layouts_share_their_layers(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"))
    image, twin = manifest_of(store, "v1"), manifest_of(store, "v1-modelpack")

    assert [layer["digest"] for layer in image["layers"]] == [layer["digest"] for layer in twin["layers"]]


def test_a_second_layout_verifies(model: Path, store: Path) -> None:
    pack_model(model, store, layouts=("image", "modelpack"))

    assert problems(store, "v1-modelpack") == {}


def test_a_second_layout_does_not_change_the_first(model: Path, store: Path, tmp_path: Path) -> None:
    twins = pack_model(model, store, layouts=("image", "modelpack"))

    assert digest(twins) == digest(pack_model(model, tmp_path / "store2"))


@pytest.mark.parametrize("names", [("image", "kserve"), ("image", "raw")])
def test_layouts_that_share_no_blobs_are_refused_together(model: Path, store: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageProblem, match="share no blobs"):
        pack_model(model, store, layouts=names)


@pytest.mark.parametrize("names", [(), ("image", "image"), ("nosuch",)])
def test_layouts_that_are_none_or_named_twice_or_unknown_are_refused(
    model: Path, store: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(UsageProblem):
        pack_model(model, store, layouts=names)


def test_a_dry_run_writes_nothing(model: Path, store: Path, tmp_path: Path) -> None:
    before = names_in(tmp_path)
    pack_model(model, store, dry_run=True)

    assert names_in(tmp_path) == before


def test_a_dry_run_names_the_layers_that_a_run_makes(model: Path, store: Path) -> None:
    dry = pack_model(model, store, dry_run=True)
    run = pack_model(model, store)

    assert [(layer.files, layer.size) for layer in dry.layers] == [(layer.files, layer.size) for layer in run.layers]


@pytest.mark.parametrize("inside", ["", "store", "a/b/store"])
def test_a_store_inside_the_model_is_refused(model: Path, inside: str) -> None:
    with pytest.raises(Conflict, match="packed into itself"):
        pack_model(model, model / inside)


def test_a_store_inside_the_model_behind_a_link_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)

    with pytest.raises(Conflict, match="packed into itself"):
        pack_model(model, tmp_path / "link" / "store")


def test_a_refused_store_inside_the_model_leaves_the_model_as_it_was(model: Path) -> None:
    before = names_in(model)
    with pytest.raises(Conflict):
        pack_model(model, model / "store")

    assert names_in(model) == before


def test_a_folder_that_is_not_a_store_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="is not an OCI layout"):
        pack_model(model, tmp_path)


def test_an_annotation_stands_in_the_manifest(model: Path, store: Path) -> None:
    pack_model(model, store, annotations={"org.example.run": "42"})

    assert manifest_of(store)["annotations"] == {"org.example.run": "42"}


def test_an_annotation_is_part_of_the_digest(model: Path, store: Path) -> None:
    assert digest(pack_model(model, store)) != digest(pack_model(model, store, annotations={"org.example.run": "42"}))


@pytest.mark.parametrize("key", ["", "io.modelctl.kind", "io.modelctl.anything"])
def test_an_annotation_under_a_key_that_is_not_the_users_is_refused(model: Path, store: Path, key: str) -> None:
    with pytest.raises(UsageProblem, match="--annotation"):
        pack_model(model, store, annotations={key: "x"})


def test_a_reference_with_a_digest_is_refused(model: Path, store: Path) -> None:
    with pytest.raises(UsageProblem, match="a digest follows from the content"):
        pack_model(model, store, tag="v1@sha256:" + "0" * 64)


def test_include_packs_only_what_matches(model: Path, store: Path) -> None:
    report = pack_model(model, store, include=["*.json"], exclude=["*.index.json"])
    packed = {path for layer in report.layers for path in layer.files}

    assert packed == {"config.json", "tokenizer.json"}


def test_exclude_leaves_out_what_matches(model: Path, store: Path) -> None:
    report = pack_model(model, store, exclude=["*.md", "tokenizer*"])
    packed = {path for layer in report.layers for path in layer.files}

    assert packed == files_of(model).keys() - {"README.md", "tokenizer.json"}


def test_an_exclude_that_leaves_nothing_is_refused(model: Path, store: Path) -> None:
    with pytest.raises(NotFound, match="no file to pack"):
        pack_model(model, store, exclude=["*"])


def test_what_the_layout_leaves_out_is_reported(model: Path, store: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("ref")

    assert pack_model(model, store).left_out == [".git/HEAD"]


def test_a_pickle_is_refused_unless_it_is_allowed(model: Path, store: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(Invalid, match=r"pytorch_model\.bin"):
        pack_model(model, store)


def test_a_pickle_that_is_allowed_is_packed(model: Path, store: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    pack_model(model, store, allow_pickle=True)

    assert problems(store) == {}


def test_a_model_that_contradicts_its_crc32_list_is_refused(model: Path, store: Path) -> None:
    (model / "crc32.txt").write_text("00000000 config.json\n")

    with pytest.raises(ChecksumMismatch, match=r"config\.json"):
        pack_model(model, store)


def test_a_refused_model_gets_no_tag(model: Path, store: Path) -> None:
    (model / "crc32.txt").write_text("00000000 config.json\n")
    with pytest.raises(ChecksumMismatch):
        pack_model(model, store)

    assert tags_of(store) == {}


def test_a_broken_shard_is_refused_before_anything_is_written(model: Path, store: Path) -> None:
    (model / "model-00001-of-00004.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(Invalid):
        pack_model(model, store)

    assert not store.exists()


def test_above_the_limit_neighbours_share_a_layer(model: Path, store: Path) -> None:
    for number in range(8):
        (model / f"extra-{number}.safetensors").write_bytes(shard({f"t{number}": bytes([number])}))
    pack_model(model, store, max_layers=10)

    assert (len(manifest_of(store)["layers"]) <= 10, problems(store)) == (True, {})


def test_the_report_names_the_tag_and_the_digest(model: Path, store: Path) -> None:
    (artifact,) = pack_model(model, store).artifacts

    assert (artifact.tag, artifact.reference) == ("v1", f"oci:{store}@{tags_of(store)['v1']}")


def test_the_manifest_states_neither_time_nor_host(model: Path, store: Path) -> None:
    pack_model(model, store)
    config = json.loads(blob_path(store, manifest_of(store)["config"]["digest"]).read_bytes())

    assert set(config) == {"architecture", "os", "config", "rootfs"}


def test_a_tag_that_points_elsewhere_moves(model: Path, store: Path) -> None:
    before = digest(pack_model(model, store))
    (model / "README.md").write_text("another\n")
    after = digest(pack_model(model, store))
    assert before != after == tags_of(store)["v1"]


def test_a_tag_that_points_elsewhere_may_be_left(model: Path, store: Path) -> None:
    before = digest(pack_model(model, store))
    (model / "README.md").write_text("another\n")
    pack_model(model, store, if_exists="skip")
    assert tags_of(store)["v1"] == before


def test_a_tag_that_points_elsewhere_may_be_an_error_that_leaves_it(model: Path, store: Path) -> None:
    before = digest(pack_model(model, store))
    (model / "README.md").write_text("another\n")
    with pytest.raises(Conflict, match=f"oci:{store}:v1 points elsewhere"):
        pack_model(model, store, if_exists="fail")
    assert tags_of(store)["v1"] == before


@pytest.mark.parametrize("if_exists", ["fail", "skip", "replace"])
def test_a_report_says_whether_the_tag_was_set(model: Path, store: Path, if_exists: str) -> None:
    assert [one.tagged for one in pack_model(model, store, if_exists=if_exists).artifacts] == [True]


def test_a_report_says_which_tags_were_left(twins: Path, model: Path) -> None:
    report = pack_model(model, twins, layouts=("image", "modelpack"), if_exists="skip")

    assert [(one.tag, one.tagged) for one in report.artifacts] == [("v1", True), ("v1-modelpack", False)]


def test_one_tag_that_must_not_move_keeps_all_from_being_set(twins: Path, model: Path) -> None:
    before = tags_of(twins)
    with pytest.raises(Conflict, match="v1-modelpack points elsewhere"):
        pack_model(model, twins, layouts=("image", "modelpack"), if_exists="fail")

    assert tags_of(twins) == before


@pytest.fixture
def twins(model: Path, store: Path) -> Path:
    """A store whose `v1-modelpack` is not the model's, and that has no `v1`."""
    (model / "README.md").write_text("another\n")
    pack_model(model, store, tag="v1-modelpack")
    (model / "README.md").write_text("the model\n")
    return store
