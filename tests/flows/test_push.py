"""Push: what is there is not sent, what is near is mounted, the tag is last, and the digest stays what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import BadAnswer, Conflict, DigestMismatch, ModelctlError, NotFound, UsageProblem
from modelctl.core.media_types import IN_TOTO, OCI_INDEX
from modelctl.core.progress import Progress
from modelctl.core.reference import parse_reference
from modelctl.core.types import Descriptor, Digest, canonical_json, digest_of
from modelctl.flows.push import PushReport, push
from modelctl.registry.ocidir import OciDir
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.memory_registry import memory_registry
from tests.fakes.registries import Registry
from tests.models import write_model
from tests.registries import IMPATIENT, pack_to, problems_at, pull_from, push_to, remote, tagged
from tests.stores import blobs_of, files_of, flip, layer_of, pack_model, problems, pushed_of, tags_of

SHARD = "model-00001-of-00004.safetensors"


@pytest.fixture
def there(plain: Registry, repository: str) -> str:
    """A repository that has nothing yet, as it stands in a reference."""
    return f"{plain.host}/{repository}"


@pytest.fixture
def source(packed: Path) -> str:
    return f"oci:{packed}:v1"


def test_a_pushed_model_has_the_digest_that_it_had(there: str, source: str, packed: Path) -> None:
    push_to(source, f"{there}:v1")

    assert remote(*there.split("/", 1)).resolve("v1").digest == tags_of(packed)["v1"]


def test_a_pushed_model_is_right(there: str, source: str) -> None:
    push_to(source, f"{there}:v1")

    assert problems_at(f"{there}:v1") == {}


def test_a_pushed_model_is_pulled_as_it_was(there: str, source: str, model: Path, target: Path) -> None:
    push_to(source, f"{there}:v1")
    pull_from(f"{there}:v1", target)

    assert files_of(target) == files_of(model)


def test_the_first_push_sends_every_blob(there: str, source: str, packed: Path) -> None:
    (report,) = push_to(source, f"{there}:v1")

    assert (set(report.sent), report.skipped, report.mounted) == (pushed_of(packed), [], [])


def test_the_second_push_skips_every_blob(there: str, source: str, packed: Path) -> None:
    push_to(source, f"{there}:v1")
    (report,) = push_to(source, f"{there}:v2")

    assert (report.sent, set(report.skipped)) == ([], pushed_of(packed))


def test_a_push_of_what_is_there_uploads_nothing(plain: Registry, repository: str, source: str) -> None:
    push_to(source, f"{plain.host}/{repository}:v1")
    with fault_proxy(plain.host) as proxy:
        push_to(source, f"{proxy.host}/{repository}:v1")

        assert {line.partition(" ")[0] for line in proxy.requests} <= {"HEAD", "GET", "PUT"}


def test_a_new_version_sends_only_what_is_new(there: str, source: str, model: Path, packed: Path) -> None:
    push_to(source, f"{there}:v1")
    (model / "README.md").write_text("another\n")
    pack_model(model, packed, tag="v2")
    (report,) = push_to(f"oci:{packed}:v2", f"{there}:v2")

    assert len(report.skipped) == len(["four", "shards", "not", "changed", "config files", "empty config"])


def test_from_another_repository_every_blob_is_mounted(there: str, source: str, packed: Path) -> None:
    push_to(source, f"{there}:v1")
    (report,) = push_to(f"{there}:v1", f"{there}-copy:v1")

    assert (report.sent, set(report.mounted)) == ([], pushed_of(packed))


def test_what_was_mounted_is_right(there: str, source: str) -> None:
    push_to(source, f"{there}:v1")
    push_to(f"{there}:v1", f"{there}-copy:v1")

    assert problems_at(f"{there}-copy:v1") == {}


def test_where_nothing_can_be_mounted_it_is_sent(plain: Registry, repository: str, source: str, packed: Path) -> None:
    push_to(source, f"{plain.host}/{repository}:v1")
    begun = {"Location": f"/v2/{repository}-copy/blobs/uploads/begun"}
    with fault_proxy(plain.host, Fault("^POST .*mount", "status", status=202, headers=begun, times=99)) as proxy:
        (report,) = push_to(f"{proxy.host}/{repository}:v1", f"{proxy.host}/{repository}-copy:v1")

    assert (report.mounted, set(report.sent)) == ([], pushed_of(packed))


def test_from_registry_to_registry_the_digest_stays(plain: Registry, there: str, source: str, packed: Path) -> None:
    push_to(source, f"{there}:v1")
    with fault_proxy(plain.host) as other:
        (report,) = push_to(f"{there}:v1", f"{other.host}/{there.partition('/')[2]}-other:v1")

    assert report.digest == tags_of(packed)["v1"]


def test_several_places_all_get_it(there: str, source: str, tmp_path: Path, packed: Path) -> None:
    push_to(source, f"{there}-a:v1", f"{there}-b:v1", f"oci:{tmp_path}/copy:v1")

    assert (problems_at(f"{there}-a:v1"), problems_at(f"{there}-b:v1"), problems(tmp_path / "copy")) == ({}, {}, {})


@pytest.fixture
def blocked(tmp_path: Path) -> str:
    """A destination that takes nothing: a file is where its layout would be."""
    (tmp_path / "blocked").touch()
    return f"oci:{tmp_path}/blocked:v1"


def push_each(source: str, *texts: str, **options: Any) -> tuple[list[PushReport], list[ModelctlError]]:
    """Push to each place; return the reports, and the errors."""
    places = [parse_reference(text) for text in texts]
    return push(parse_reference(source), places, Progress(), access=IMPATIENT, **options)


def test_one_place_that_fails_keeps_no_other_from_it(there: str, source: str, blocked: str) -> None:
    reports, errors = push_each(source, f"{there}-a:v1", blocked, f"{there}-b:v1")

    assert ([one.state for one in reports], len(errors)) == (["Pushed", "Failed", "Pushed"], 1)
    assert (problems_at(f"{there}-a:v1"), problems_at(f"{there}-b:v1")) == ({}, {})


def test_as_much_is_expected_as_goes_to_all_places(source: str, tmp_path: Path) -> None:
    expected, done = [], []

    class Watcher(Progress):
        def expect(self, files: int, size: int) -> None:
            expected.append(size)

        def advance(self, name: str, size: int) -> None:
            done.append(size)

    push(parse_reference(source), [parse_reference(f"oci:{tmp_path}/{name}:v1") for name in "ab"], Watcher())

    assert expected == [sum(done)]


def test_the_report_of_a_place_that_fails_has_its_error(there: str, source: str, blocked: str) -> None:
    (_, failed), (error,) = push_each(source, f"{there}:v1", blocked)

    assert (failed.reference, failed.code, failed.why, failed.hint) == (blocked, error.code, error.seen, error.hint)
    assert "destination: " in failed.why


@pytest.mark.parametrize("last", ["@sha256:" + "0" * 64, ":v1@sha256:" + "0" * 64])
def test_a_later_place_with_a_digest_is_refused_before_anything_is_sent(there: str, source: str, last: str) -> None:
    with pytest.raises(UsageProblem, match="name a tag"):
        push_to(source, f"{there}-a:v1", f"{there}-b{last}")

    assert not tagged(f"{there}-a:v1")


def test_from_a_registry_a_layout_gets_the_same_blobs(there: str, source: str, packed: Path, tmp_path: Path) -> None:
    push_to(source, f"{there}:v1")
    push_to(f"{there}:v1", f"oci:{tmp_path}/copy:v1")

    assert (blobs_of(tmp_path / "copy"), tags_of(tmp_path / "copy")) == (blobs_of(packed), tags_of(packed))


def test_from_layout_to_layout_it_is_a_copy(source: str, packed: Path, tmp_path: Path) -> None:
    push_to(source, f"oci:{tmp_path}/copy:v1")

    assert blobs_of(tmp_path / "copy") == blobs_of(packed)


def test_packed_into_a_registry_it_has_the_digest_of_one_that_was_pushed(there: str, model: Path, packed: Path) -> None:
    report = pack_to(model, f"{there}:v1")

    assert report.artifacts[0].digest == tags_of(packed)["v1"]


def test_packed_into_a_registry_it_is_right(there: str, model: Path) -> None:
    pack_to(model, f"{there}:v1", layouts=("image", "modelpack"))

    assert (problems_at(f"{there}:v1"), problems_at(f"{there}:v1-modelpack")) == ({}, {})


def test_what_is_attached_goes_along(there: str, source: str, packed: Path) -> None:
    push_to(source, f"{there}:v1")
    digest = Digest(tags_of(packed)["v1"])

    assert remote(*there.split("/", 1)).referrers(digest) == OciDir(packed).referrers(digest)


def test_what_is_listed_as_attached_and_gone_is_no_hindrance(there: str, source: str, packed: Path) -> None:
    with memory_registry(api=False) as registry:
        push_to(source, f"{registry.host}/models/qwen:v1")
        (attached,) = OciDir(packed).referrers(Digest(tags_of(packed)["v1"]))
        del registry.manifests[attached.digest]
        push_to(f"{registry.host}/models/qwen:v1", f"{there}:v1")

    assert problems_at(f"{there}:v1") == {}


def test_an_index_that_is_attached_stays_where_it_is(there: str, source: str, packed: Path) -> None:
    root = OciDir(packed).resolve("v1")
    subject = {"mediaType": root.media_type, "digest": root.digest, "size": root.size}
    raw = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject})
    OciDir(packed).put_manifest(Descriptor(media_type=OCI_INDEX, digest=digest_of(raw), size=len(raw)), raw)
    push_to(source, f"{there}:v1")

    assert [one.artifact_type for one in remote(*there.split("/", 1)).referrers(root.digest)] == [IN_TOTO]


def test_without_a_tag_it_is_latest(there: str, source: str) -> None:
    push_to(source, there)

    assert tagged(f"{there}:latest")


def test_a_digest_cannot_be_pushed_to(there: str, source: str, packed: Path) -> None:
    with pytest.raises(UsageProblem, match="name a tag"):
        push_to(source, f"{there}@{tags_of(packed)['v1']}")


@pytest.fixture
def elsewhere(there: str, source: str, tmp_path: Path) -> str:
    """The repository, whose tag `v1` names another model; return that one's digest."""
    (report,) = pack_to(write_model(tmp_path / "other", seed=9), f"{there}:v1").artifacts
    return report.digest


def digest_at(reference: str) -> str:
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    return remote(host, name).resolve(tag).digest


def test_a_tag_that_points_elsewhere_is_moved(there: str, source: str, packed: Path, elsewhere: str) -> None:
    push_to(source, f"{there}:v1")

    assert digest_at(f"{there}:v1") == tags_of(packed)["v1"]


def test_told_to_fail_a_tag_that_points_elsewhere_is_a_conflict(there: str, source: str, elsewhere: str) -> None:
    with pytest.raises(Conflict, match=f"to {elsewhere}, not to sha256"):
        push_to(source, f"{there}:v1", if_exists="fail")


def test_told_to_fail_nothing_is_sent(plain: Registry, there: str, source: str, elsewhere: str) -> None:
    with fault_proxy(plain.host) as proxy, pytest.raises(Conflict):
        push_to(source, f"{proxy.host}/{there.partition('/')[2]}:v1", if_exists="fail")

    assert {line.partition(" ")[0] for line in proxy.requests} == {"HEAD"}


def test_told_to_fail_a_later_place_that_is_refused_keeps_all_from_it(there: str, source: str, elsewhere: str) -> None:
    reports, (error,) = push_each(source, f"{there}-a:v1", f"{there}:v1", f"{there}-b:v1", if_exists="fail")

    assert ([one.state for one in reports], error.code) == (["Untried", "Failed", "Untried"], "conflict")
    assert not tagged(f"{there}-a:v1")


def test_told_to_fail_a_place_that_does_not_answer_keeps_no_other_from_it(
    plain: Registry, there: str, source: str
) -> None:
    with fault_proxy(plain.host, Fault("^HEAD .*/manifests/", "status", status=400, times=1)) as proxy:
        reports, _ = push_each(source, f"{proxy.host}/a:v1", f"{there}:v1", if_exists="fail")

    assert ([one.state for one in reports], proxy.struck) == (["Failed", "Pushed"], 1)


def test_told_to_skip_a_tag_that_points_elsewhere_stays(there: str, source: str, elsewhere: str) -> None:
    push_to(source, f"{there}:v1", if_exists="skip")

    assert digest_at(f"{there}:v1") == elsewhere


def test_told_to_skip_the_model_is_there_by_its_digest(there: str, source: str, packed: Path, elsewhere: str) -> None:
    (report,) = push_to(source, f"{there}:v1", if_exists="skip")

    assert (report.tagged, problems_at(f"{there}@{tags_of(packed)['v1']}")) == (False, {})


@pytest.mark.parametrize("if_exists", ["fail", "skip", "replace"])
def test_a_tag_that_is_not_there_is_set(there: str, source: str, if_exists: str) -> None:
    push_to(source, f"{there}:v1", if_exists=if_exists)

    assert tagged(f"{there}:v1")


@pytest.mark.parametrize("if_exists", ["fail", "skip", "replace"])
def test_a_tag_that_points_there_already_is_no_conflict(there: str, source: str, if_exists: str) -> None:
    push_to(source, f"{there}:v1")

    assert push_to(source, f"{there}:v1", if_exists=if_exists)[0].tagged


@pytest.mark.parametrize("last", ["PATCH", "PUT .*uploads", "PUT .*manifests/sha256", "PUT .*manifests/v1"])
def test_a_push_that_ends_early_sets_no_tag(plain: Registry, repository: str, source: str, last: str) -> None:
    refused = Fault(f"^{last}", "status", status=400, times=99)
    with fault_proxy(plain.host, refused) as proxy, pytest.raises(BadAnswer):
        push_to(source, f"{proxy.host}/{repository}:v1")

    assert not tagged(f"{plain.host}/{repository}:v1")


@pytest.mark.parametrize("struck", ["^POST", "^PATCH", "^PUT .*uploads"])
def test_an_upload_that_fails_is_named_with_its_blob_and_repository(
    plain: Registry, repository: str, source: str, struck: str
) -> None:
    with fault_proxy(plain.host, Fault(struck, "status", status=413, times=99)) as proxy:
        named = rf"destination: registry {proxy.host}, upload of blob sha256:[0-9a-f]{{64}} to {repository}\n"
        with pytest.raises(BadAnswer, match=named):
            push_to(source, f"{proxy.host}/{repository}:v1")


def test_bad_bytes_of_a_registry_are_the_sources_fault_and_not_sent(
    plain: Registry, repository: str, source: str, packed: Path
) -> None:
    push_to(source, f"{plain.host}/{repository}-bad:v1")
    digest = layer_of(packed, SHARD)
    wrong = Fault(f"^GET .*{digest}", "wrong-byte", at=70_000, times=99)
    with fault_proxy(plain.host, wrong) as bad, fault_proxy(plain.host) as proxy:
        with pytest.raises(DigestMismatch, match=f"source: blob {digest} in {bad.host}/{repository}-bad\n"):
            push_to(f"{bad.host}/{repository}-bad:v1", f"{proxy.host}/{repository}:v1")

    assert [line for line in proxy.requests if line.startswith("PUT") and digest[7:] in line] == []


def test_bad_bytes_of_a_layout_are_the_sources_fault_and_sent_once(
    plain: Registry, repository: str, source: str, packed: Path
) -> None:
    digest = layer_of(packed, SHARD)
    flip(packed / "blobs/sha256" / digest.removeprefix("sha256:"), 70_000)
    with fault_proxy(plain.host) as proxy:
        with pytest.raises(DigestMismatch, match=f"source: blob {digest} in oci:{packed}\n.* hash to sha256:"):
            push_to(source, f"{proxy.host}/{repository}:v1", jobs=1)

    assert len([line for line in proxy.requests if line.startswith("PUT") and digest[7:] in line]) == 1


def test_bad_bytes_of_a_destination_are_sent_again(plain: Registry, there: str, source: str) -> None:
    invalid = b'{"errors":[{"code":"DIGEST_INVALID"}]}'
    with fault_proxy(plain.host, Fault("^PUT .*uploads", "status", status=400, body=invalid)) as proxy:
        push_to(source, there.replace(plain.host, proxy.host) + ":v1")

    assert tagged(f"{there}:v1")


@pytest.mark.parametrize("status", [400, 404])
def test_a_registry_that_does_not_know_a_blob_yet_is_asked_again(
    plain: Registry, repository: str, source: str, status: int
) -> None:
    unknown = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'
    refused = Fault("^PUT .*manifests", "status", status=status, body=unknown, times=2)
    with fault_proxy(plain.host, refused) as proxy:
        push_to(source, f"{proxy.host}/{repository}:v1")

    assert (proxy.struck, tagged(f"{plain.host}/{repository}:v1")) == (2, True)


def test_an_error_says_that_it_is_the_destinations(there: str, source: str, plain: Registry) -> None:
    with (
        fault_proxy(plain.host, Fault("^POST", "status", status=400, times=99)) as proxy,
        pytest.raises(BadAnswer, match="destination: "),
    ):
        push_to(source, f"{proxy.host}/x:v1")


def test_an_error_says_that_it_is_the_sources(there: str) -> None:
    with pytest.raises(NotFound, match="source: "):
        push_to(f"{there}:v9", f"{there}-copy:v1")


def test_an_error_in_the_middle_of_a_blob_says_that_it_is_the_sources(
    plain: Registry, repository: str, source: str
) -> None:
    push_to(source, f"{plain.host}/{repository}:v1")
    refused = Fault("^GET .*blobs", "status", status=400, times=99)
    with fault_proxy(plain.host, refused) as proxy, pytest.raises(BadAnswer, match="source: "):
        push_to(f"{proxy.host}/{repository}:v1", f"{plain.host}/{repository}-copy:v1")


def test_a_blob_that_is_missing_in_the_source_is_named(there: str, source: str, packed: Path) -> None:
    digest = layer_of(packed, SHARD)
    (packed / "blobs" / digest.replace(":", "/")).unlink()

    with pytest.raises(NotFound, match=f"source: blob {digest}"):
        push_to(source, f"{there}:v1")


def test_a_blob_that_rotted_in_the_source_is_refused_by_the_registry(there: str, source: str, packed: Path) -> None:
    flip(packed / "blobs" / layer_of(packed, SHARD).replace(":", "/"), 9000)

    with pytest.raises(DigestMismatch):
        push_to(source, f"{there}:v1")


def test_a_blob_that_comes_with_another_byte_does_not_get_into_a_layout(
    plain: Registry, repository: str, source: str, packed: Path, tmp_path: Path
) -> None:
    push_to(source, f"{plain.host}/{repository}:v1")
    with fault_proxy(plain.host, Fault("^GET .*blobs", "wrong-byte", at=9)) as proxy, pytest.raises(DigestMismatch):
        push_to(f"{proxy.host}/{repository}:v1", f"oci:{tmp_path}/copy:v1", jobs=1)

    assert blobs_of(tmp_path / "copy") == set()


def test_what_is_no_artifact_is_refused(there: str, packed: Path) -> None:
    (packed / "blobs" / tags_of(packed)["v1"].replace(":", "/")).write_bytes(b"x" * 1000)

    with pytest.raises(ModelctlError):
        push_to(f"oci:{packed}:v1", f"{there}:v1", access=IMPATIENT)
