"""Tags of a store: listed, resolved, added, forgotten; and what prune then takes away."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelctl.core.errors import Conflict, NotFound, UsageProblem
from modelctl.core.reference import parse_reference
from modelctl.flows.tags import add_tag, list_tags, prune, remove, resolve_digest
from modelctl.registry.ocidir import OciDir
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry
from tests.models import write_model
from tests.registries import push_to
from tests.stores import blob_path, blobs_of, pack_model, problems, reference, tags_of, whole


@pytest.fixture
def two(packed: Path, tmp_path: Path) -> Path:
    """A store with two versions, `v1` and `v2`, that share their small files."""
    pack_model(write_model(tmp_path / "other", seed=7), packed, tag="v2")
    return packed


@pytest.fixture
def twins(model: Path, store: Path) -> Path:
    """A store with one model in two layouts, `v1` and `v1-modelpack`."""
    pack_model(model, store, layouts=("image", "modelpack"))
    return store


def test_all_tags_are_listed_by_name(two: Path) -> None:
    assert [(tag.tag, tag.digest) for tag in list_tags(whole(two))] == sorted(tags_of(two).items())


def test_one_tag_is_listed_alone(two: Path) -> None:
    assert [tag.tag for tag in list_tags(reference(two, "v2"))] == ["v2"]


def test_a_tag_that_is_not_there_is_an_error_that_names_those_that_are(two: Path) -> None:
    with pytest.raises(NotFound, match=f"tag 'v3' in oci:{two}\n  why: its tags are: v1, v2$"):
        list_tags(reference(two, "v3"))


def test_of_many_tags_the_first_are_named(two: Path) -> None:
    for number in range(30):
        add_tag(reference(two), f"a{number:02}")
    with pytest.raises(NotFound, match=r"a00, .*, a19 and 12 more$"):
        list_tags(reference(two, "v3"))


def test_a_tag_that_points_elsewhere_than_its_digest_is_an_error(two: Path) -> None:
    with pytest.raises(NotFound, match=f"why: the tag names {tags_of(two)['v1']}$"):
        list_tags(parse_reference(f"oci:{two}:v1@{tags_of(two)['v2']}"))


def test_the_tags_of_a_digest_are_listed(two: Path) -> None:
    by_digest = parse_reference(f"oci:{two}@{tags_of(two)['v2']}")

    assert [tag.tag for tag in list_tags(by_digest)] == ["v2"]


def test_a_listed_size_is_the_manifests(packed: Path) -> None:
    (tag,) = list_tags(whole(packed))

    assert tag.size == blob_path(packed, tag.digest).stat().st_size


def test_a_tag_resolves_to_its_digest(two: Path) -> None:
    assert resolve_digest(reference(two, "v2")) == tags_of(two)["v2"]


def test_an_added_tag_names_the_same_manifest(packed: Path) -> None:
    add_tag(reference(packed), "prod")

    assert tags_of(packed)["prod"] == tags_of(packed)["v1"]


def test_a_tag_may_be_added_by_digest(two: Path) -> None:
    add_tag(parse_reference(f"oci:{two}@{tags_of(two)['v2']}"), "prod")

    assert tags_of(two)["prod"] == tags_of(two)["v2"]


def test_an_added_tag_replaces_one_of_that_name(two: Path) -> None:
    add_tag(reference(two, "v2"), "v1")

    assert tags_of(two)["v1"] == tags_of(two)["v2"]


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "a:b", "x" * 129, "x\n"])
def test_a_name_that_is_no_tag_is_refused(packed: Path, name: str) -> None:
    with pytest.raises(UsageProblem, match="not a tag"):
        add_tag(reference(packed), name)


def test_a_tag_on_what_is_not_there_is_refused(packed: Path) -> None:
    with pytest.raises(NotFound):
        add_tag(reference(packed, "v2"), "prod")


def test_a_removed_tag_is_gone(two: Path) -> None:
    remove(reference(two, "v1"))

    assert list(tags_of(two)) == ["v2"]


def test_removing_a_tag_says_what_still_names_the_manifest(packed: Path) -> None:
    add_tag(reference(packed), "prod")
    report = remove(reference(packed, "v1"))

    assert (report.removed, report.remaining) == (["v1"], ["prod"])


def test_removing_a_digest_removes_all_its_tags(packed: Path) -> None:
    add_tag(reference(packed), "prod")
    report = remove(parse_reference(f"oci:{packed}@{tags_of(packed)['v1']}"))

    assert (sorted(report.removed), tags_of(packed)) == (["prod", "v1"], {})


@pytest.mark.parametrize("with_manifest", [False, True])
def test_of_a_tag_with_a_digest_the_tag_is_removed(packed: Path, *, with_manifest: bool) -> None:
    add_tag(reference(packed), "prod")
    report = remove(parse_reference(f"oci:{packed}:prod@{tags_of(packed)['v1']}"), with_manifest=with_manifest)

    assert (sorted(report.removed), list(tags_of(packed))) == (
        (["prod", "v1"], []) if with_manifest else (["prod"], ["v1"])
    )


@pytest.mark.parametrize("with_manifest", [False, True])
def test_a_tag_that_does_not_point_to_the_digest_beside_it_stays(two: Path, *, with_manifest: bool) -> None:
    before = tags_of(two)
    with pytest.raises(Conflict, match=rf":v1 points elsewhere\n  why: to {before['v1']}, not to {before['v2']}"):
        remove(parse_reference(f"oci:{two}:v1@{before['v2']}"), with_manifest=with_manifest)

    assert tags_of(two) == before


@pytest.fixture
def there(plain: Registry, repository: str, packed: Path) -> str:
    """A repository that has the model as `v1`, as it stands in a reference."""
    push_to(f"oci:{packed}:v1", f"{plain.host}/{repository}:v1")
    return f"{plain.host}/{repository}"


def test_in_a_registry_too_only_the_tag_goes_of_one_with_a_digest(there: str) -> None:
    tag = parse_reference(f"{there}:v1")
    pinned = parse_reference(f"{there}:v1@{resolve_digest(tag)}")
    add_tag(tag, "prod")

    with pytest.raises(Conflict, match="cannot forget a tag alone, and prod name"):
        remove(pinned)

    assert [one.tag for one in list_tags(parse_reference(there))] == ["prod", "v1"]


def test_a_registry_that_forgets_the_repository_with_its_last_tag_has_no_tags_left(there: str) -> None:
    """After the DELETE there is no repository to be asked for its tags."""
    host, _, name = there.partition("/")
    gone = Fault("^GET .*/tags/list", "status", status=404, skip=1)
    with fault_proxy(host, gone) as proxy:
        report = remove(parse_reference(f"{proxy.host}/{name}:v1"))

    assert (report.removed, report.remaining, report.notes, proxy.struck) == (["v1"], [], [], 1)


def test_a_registry_that_does_not_list_tags_after_a_removal_is_noted(there: str) -> None:
    host, _, name = there.partition("/")
    with fault_proxy(host, Fault("^GET .*/tags/list", "status", status=400, skip=1)) as proxy:
        report = remove(parse_reference(f"{proxy.host}/{name}:v1"))

    assert (report.removed, "is not known" in report.notes[0], proxy.struck) == (["v1"], True, 1)


def test_removing_a_tag_leaves_the_blobs(packed: Path) -> None:
    before = blobs_of(packed)
    remove(reference(packed))

    assert blobs_of(packed) == before


def test_removing_a_store_is_refused(packed: Path) -> None:
    with pytest.raises(UsageProblem, match="names no tag"):
        remove(whole(packed))


def test_removing_what_is_not_there_is_refused(packed: Path) -> None:
    with pytest.raises(NotFound):
        remove(reference(packed, "v2"))


def test_prune_removes_nothing_that_is_tagged(two: Path) -> None:
    before = blobs_of(two)
    prune(whole(two), dry_run=False)

    assert blobs_of(two) == before


def test_prune_leaves_a_version_whole_when_the_other_goes(two: Path) -> None:
    remove(reference(two, "v1"))
    prune(whole(two), dry_run=False)

    assert problems(two, "v2") == {}


def test_prune_leaves_of_one_version_what_a_store_of_it_alone_has(two: Path, tmp_path: Path) -> None:
    pack_model(tmp_path / "other", tmp_path / "alone")
    remove(reference(two, "v1"))
    prune(whole(two), dry_run=False)

    assert blobs_of(two) == blobs_of(tmp_path / "alone")


def test_prune_says_what_it_removed(two: Path) -> None:
    before = blobs_of(two)
    remove(reference(two, "v1"))
    report = prune(whole(two), dry_run=False)

    assert set(report.blobs) == before - blobs_of(two)


def test_prune_sums_the_sizes_of_what_it_removed(two: Path) -> None:
    remove(reference(two, "v1"))
    report = prune(whole(two), dry_run=True)

    assert report.size == sum(blob_path(two, blob).stat().st_size for blob in report.blobs)


def test_a_dry_run_removes_nothing(two: Path) -> None:
    remove(reference(two, "v1"))
    before = blobs_of(two)
    prune(whole(two), dry_run=True)

    assert blobs_of(two) == before


def test_prune_keeps_twins(twins: Path) -> None:
    before = blobs_of(twins)
    prune(whole(twins), dry_run=False)

    assert blobs_of(twins) == before


def test_a_twin_stays_whole_when_its_subject_goes(twins: Path) -> None:
    remove(reference(twins, "v1"))
    prune(whole(twins), dry_run=False)

    assert problems(twins, "v1-modelpack") == {}


def test_a_subject_stays_whole_when_its_twin_goes(twins: Path) -> None:
    remove(reference(twins, "v1-modelpack"))
    prune(whole(twins), dry_run=False)

    assert problems(twins, "v1") == {}


def test_a_pruned_model_may_be_packed_again(model: Path, packed: Path) -> None:
    remove(reference(packed))
    prune(whole(packed), dry_run=False)
    pack_model(model, packed)

    assert problems(packed) == {}


def test_prune_of_one_artifact_is_refused(packed: Path) -> None:
    with pytest.raises(UsageProblem):
        prune(reference(packed), dry_run=False)


def test_prune_while_somebody_packs_is_refused(packed: Path) -> None:
    with OciDir(packed).writing(), pytest.raises(Conflict, match="in use"):
        prune(whole(packed), dry_run=False)
