"""Verify an artifact in regions: who has a bad copy of what; and mend one region from another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.access import Access
from modelctl.core.config import load_config
from modelctl.core.errors import ChecksumMismatch, Conflict, ModelctlError, NotFound, Unavailable, UsageProblem
from modelctl.core.progress import Progress
from modelctl.core.protocols import Store
from modelctl.core.reference import parse_reference
from modelctl.core.types import digest_of
from modelctl.flows.good_copies import GoodCopies, Holder
from modelctl.flows.push_regions import push_regions
from modelctl.flows.region_jobs import RegionOptions
from modelctl.flows.region_report import Watcher
from modelctl.flows.regions import place
from modelctl.flows.stores import open_artifact, open_store
from modelctl.flows.tags import list_tags
from modelctl.flows.verify_region import BadBlob, RegionVerdict
from modelctl.flows.verify_regions import RegionsVerdict, VerifyOptions, verify_regions
from modelctl.flows.workers import Stopped
from tests.conformance.stores import put_manifest
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.memory_registry import memory_registry
from tests.fakes.registries import Registry, registry
from tests.fakes.token_server import token_server
from tests.flows.regional import Settings
from tests.models import noise, write_model
from tests.registries import ALICE, IMPATIENT, push_to
from tests.stores import blob_path, flip, layer_of, manifest_of, pack_model, tags_of

SHARD = "model-00002-of-00004.safetensors"
OFFSET = 5000
"""Of a byte in a shard that is a layer of its own."""


@pytest.fixture
def model(tmp_path: Path, repository: str) -> Path:
    """A model that no other test has: registries keep equal blobs once, also those that a test spoils."""
    return write_model(tmp_path / "model", seed=int(repository.rpartition("-")[2]))


@dataclass(frozen=True)
class Three:
    """Three regions with registries of their own, each asking in another way who is there, that have the artifact."""

    settings: Settings
    registries: dict[str, Registry]
    store: Path
    name: str

    def blob(self, region: str, file: str = SHARD) -> Path:
        return self.registries[region].blob_path(layer_of(self.store, file))

    def document(self, region: str, kind: str) -> Path:
        manifest = manifest_of(self.store)
        digests = {"manifest": tags_of(self.store)["v1"], "config": manifest["config"]["digest"]}
        return self.registries[region].blob_path(digests.get(kind, manifest["layers"][-1]["digest"]))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Registry], str]]:
    folder = tmp_path_factory.mktemp("regions")
    with ExitStack() as stack:
        realm = stack.enter_context(token_server(folder))
        yield (
            {
                "open": stack.enter_context(registry(folder / "open")),
                "password": stack.enter_context(registry(folder / "password", password=ALICE[1], tls=True)),
                "token": stack.enter_context(registry(folder / "token", tokens=realm)),
            },
            realm.url.removeprefix("http://"),
        )


@pytest.fixture
def three(servers: tuple[dict[str, Registry], str], settings: Settings, packed: Path, repository: str) -> Three:
    registries, realm = servers
    alice = (f'username = "{ALICE[0]}"', f'password = "{ALICE[1]}"')
    settings.add("open", registries["open"].host, namespace="open")
    settings.add("password", registries["password"].host, *alice, f'ca_file = "{registries["password"].ca_file}"')
    settings.add("token", registries["token"].host, *alice, f'trust_realm = ["{realm}"]', namespace="deep/er")
    three = Three(settings, registries, packed, f"{repository}:v1")
    fill(three)
    return three


def fill(three: Three, *names: str) -> None:
    source = parse_reference(f"oci:{three.store}:v1")
    push_regions(source, three.name, names or ("all",), RegionOptions(access=IMPATIENT), Watcher())


Found = tuple[RegionsVerdict, dict[str, ModelctlError]]


def verified(
    name: str, *names: str, told: list[tuple[str, str]] | None = None, access: Access = IMPATIENT, **options: Any
) -> Found:
    def tell(row: RegionVerdict) -> None:
        told.append((row.region, row.state)) if told is not None else None

    wanted = VerifyOptions(access=access, **options)
    return verify_regions(name, names or ("all",), wanted, Progress(), tell)


def states(found: Found) -> dict[str, str]:
    return {row.region: row.state for row in found[0].regions}


def bad(found: Found, region: str) -> list[BadBlob]:
    return next(row.bad for row in found[0].regions if row.region == region)


def opened(name: str, region: str) -> Store:
    reference, access = place(name, region, load_config(), IMPATIENT)
    return open_store(reference, access)


def list_of_tags(place: str) -> list[str]:
    return [tag.tag for tag in list_tags(parse_reference(place), IMPATIENT)]


ALL_GOOD = {"open": "Good", "password": "Good", "token": "Good"}


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_what_is_right_everywhere_is_good(three: Three, depth: str) -> None:
    found = verified(three.name, depth=depth)

    assert (states(found), found[1], found[0].digest) == (ALL_GOOD, {}, tags_of(three.store)["v1"])


@pytest.mark.parametrize("depth", ["crc", "full"])
def test_the_region_and_the_shard_with_a_bad_copy_are_named(three: Three, depth: str) -> None:
    flip(three.blob("password"), OFFSET)
    found = verified(three.name, depth=depth)
    (blob,) = bad(found, "password")

    assert (states(found), blob.digest, [file.path for file in blob.files], blob.missing) == (
        ALL_GOOD | {"password": "Bad"},
        layer_of(three.store, SHARD),
        [SHARD],
        False,
    )


def test_of_a_bad_copy_it_says_what_was_seen_and_what_was_expected(three: Three) -> None:
    flip(three.blob("open"), OFFSET)
    found = verified(three.name, depth="crc")

    assert ("CRC-32 is" in bad(found, "open")[0].files[0].problems[0], "expected" in found[1]["open"].why) == (
        True,
        True,
    )


def test_each_region_may_have_bad_copies_of_its_own(three: Three) -> None:
    other = "model-00003-of-00004.safetensors"
    flip(three.blob("open"), OFFSET)
    flip(three.blob("token", other), OFFSET)
    found = verified(three.name, depth="crc")

    assert [(row.region, [file.path for one in row.bad for file in one.files]) for row in found[0].regions] == [
        ("open", [SHARD]),
        ("password", []),
        ("token", [other]),
    ]


@pytest.mark.parametrize("depth", ["size", "crc", "full"])
def test_a_missing_shard_is_named_as_missing(three: Three, depth: str) -> None:
    three.blob("token").unlink()
    (blob,) = bad(verified(three.name, depth=depth), "token")

    assert (blob.missing, [file.path for file in blob.files]) == (True, [SHARD])


def test_a_shard_of_another_size_is_found_without_reading_it(three: Three) -> None:
    os.truncate(three.blob("token"), 100)
    (blob,) = bad(verified(three.name, depth="size"), "token")

    assert (blob.missing, "has 100 bytes" in blob.files[0].problems[0]) == (False, True)


@pytest.mark.parametrize("kind", ["config", "table", "manifest"])
def test_a_bad_document_is_named_and_the_rest_is_looked_at(three: Three, kind: str) -> None:
    document = three.document("open", kind)
    flip(document, document.read_bytes().find(b"sha256:") + 20)
    flip(three.blob("open"), OFFSET)
    found = verified(three.name, depth="crc")

    assert {file.path for blob in bad(found, "open") for file in blob.files} == {kind, SHARD}


def test_a_region_whose_manifest_is_gone_lacks_it(three: Three) -> None:
    three.document("open", "manifest").unlink()

    assert states(verified(three.name, depth="size")) == ALL_GOOD | {"open": "Missing"}


def test_a_region_that_lacks_it_is_missing(three: Three, plain: Registry) -> None:
    three.settings.add("empty", plain.host, namespace="empty")
    found = verified(three.name, depth="size")

    assert (states(found), type(found[1]["empty"])) == (ALL_GOOD | {"empty": "Missing"}, NotFound)


def test_a_tag_that_points_elsewhere_than_in_the_others_differs(three: Three, tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "other", seed=10_000), tmp_path / "other-store")
    push_to(f"oci:{tmp_path}/other-store:v1", f"{three.registries['open'].host}/open/{three.name}")
    found = verified(three.name, depth="crc")

    assert (states(found), type(found[1]["open"]), tags_of(three.store)["v1"] in found[1]["open"].why) == (
        ALL_GOOD | {"open": "Differs"},
        Conflict,
        True,
    )


def test_with_two_versions_in_as_many_regions_neither_is_right(three: Three, tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "other", seed=10_000), tmp_path / "other-store")
    push_to(f"oci:{tmp_path}/other-store:v1", f"{three.registries['open'].host}/open/{three.name}")
    found = verified(three.name, "open", "token", depth="size")

    assert (states(found), found[0].digest) == ({"open": "Differs", "token": "Differs"}, "")


@pytest.mark.parametrize("says", ["digest", "from"])
def test_the_user_may_say_which_version_is_right(three: Three, tmp_path: Path, says: str) -> None:
    pack_model(write_model(tmp_path / "other", seed=10_000), tmp_path / "other-store")
    digest = tags_of(tmp_path / "other-store")["v1"]
    push_to(f"oci:{tmp_path}/other-store:v1", f"{three.registries['open'].host}/open/{three.name}")
    origin = parse_reference(f"oci:{tmp_path}/other-store:v1") if says == "from" else None
    found = verified(three.name if origin else f"{three.name}@{digest}", origin=origin)

    assert (found[0].digest, states(found)["open"], "Good" in (states(found)["token"], states(found)["password"])) == (
        digest,
        "Good",
        False,
    )


def test_a_dead_region_delays_no_other(three: Three) -> None:
    told: list[tuple[str, str]] = []
    three.settings.add("dead", "127.0.0.1:1")
    found = verified(three.name, depth="crc", told=told)

    assert (states(found), type(found[1]["dead"]), told[-1]) == (
        ALL_GOOD | {"dead": "Failed"},
        Unavailable,
        ("dead", "Failed"),
    )


def test_wrong_settings_are_of_their_region_only(three: Three) -> None:
    three.settings.add("wrong", "127.0.0.1:1", 'username = "alice"', 'password_file = "/nowhere"')
    found = verified(three.name, depth="size")

    assert states(found) == ALL_GOOD | {"wrong": "Failed"}
    assert "/nowhere" in next(row.why for row in found[0].regions if row.region == "wrong")


def test_a_region_that_dies_meanwhile_is_not_said_to_have_bad_copies(three: Three) -> None:
    with fault_proxy(three.registries["open"].host, Fault("blobs", "status", skip=4, times=1 << 30)) as proxy:
        three.settings.add("dying", proxy.host, namespace="open")
        found = verified(three.name, "open", "dying", depth="crc", jobs=1)

    assert (states(found), bad(found, "dying")) == ({"open": "Good", "dying": "Failed"}, [])


def test_a_shard_that_its_registry_cannot_read_is_named(three: Three) -> None:
    unread = Fault(f"^GET .*{layer_of(three.store, SHARD)}", "status", status=500, times=1 << 30)
    with fault_proxy(three.registries["open"].host, unread) as proxy:
        three.settings.add("worn", proxy.host, namespace="open")
        found = verified(three.name, "open", "worn", depth="crc")

    assert [(file.path, file.code) for blob in bad(found, "worn") for file in blob.files] == [(SHARD, "unavailable")]


def test_wrong_bytes_on_the_way_are_found(three: Three) -> None:
    wrong = Fault(f"^GET .*{layer_of(three.store, SHARD)}", "wrong-byte", at=OFFSET, times=1 << 30)
    with fault_proxy(three.registries["open"].host, wrong) as proxy:
        three.settings.add("noisy", proxy.host, namespace="open")
        found = verified(three.name, "open", "noisy", depth="crc")

    assert states(found) == {"open": "Good", "noisy": "Bad"}


def test_verifying_changes_nothing(three: Three) -> None:
    flip(three.blob("open"), OFFSET)
    with fault_proxy(three.registries["open"].host) as proxy:
        three.settings.add("watched", proxy.host, namespace="open")
        three.settings.add("lacks", proxy.host, namespace="lacks")
        verified(three.name, depth="full")

    assert {line.partition(" ")[0] for line in proxy.requests} == {"GET", "HEAD"}


@pytest.mark.parametrize("region", ["open", "password", "token"])
def test_a_missing_shard_is_sent_from_another_region(three: Three, region: str) -> None:
    three.blob(region).unlink()
    found = verified(three.name, depth="crc", repair=True)

    assert (states(found), found[1], bad(found, region)[0].repaired_from != region) == (
        ALL_GOOD | {region: "Repaired"},
        {},
        True,
    )


def test_what_was_repaired_is_good(three: Three) -> None:
    three.blob("open").unlink()
    verified(three.name, depth="crc", repair=True)

    assert states(verified(three.name, depth="full")) == ALL_GOOD


def test_where_a_registry_takes_a_blob_again_a_bad_copy_is_replaced(three: Three) -> None:
    with memory_registry() as memory:
        three.settings.add("memory", memory.host)
        fill(three, "memory")
        memory.blobs[layer_of(three.store, SHARD)] = noise(len(memory.blobs[layer_of(three.store, SHARD)]), 0)
        found = verified(three.name, depth="crc", repair=True)
        again = digest_of(memory.blobs[layer_of(three.store, SHARD)])

    assert (states(found)["memory"], again) == ("Repaired", layer_of(three.store, SHARD))


def test_where_a_registry_keeps_bad_bytes_it_says_so_and_what_to_do(three: Three) -> None:
    flip(three.blob("token"), OFFSET)
    found = verified(three.name, depth="crc", repair=True)
    place = str(three.blob("token").relative_to(three.registries["token"].root))

    assert (states(found), type(found[1]["token"]), place in bad(found, "token")[0].hint) == (
        ALL_GOOD | {"token": "Bad"},
        ChecksumMismatch,
        True,
    )


def test_what_it_says_to_do_helps(three: Three) -> None:
    flip(three.blob("token"), OFFSET)
    verified(three.name, depth="crc", repair=True)
    three.blob("token").unlink()
    found = verified(three.name, depth="crc", repair=True)

    assert (states(found)["token"], states(verified(three.name))) == ("Repaired", ALL_GOOD)


def test_two_regions_are_repaired_from_the_third(three: Three) -> None:
    for region in ("open", "token"):
        three.blob(region).unlink()
    found = verified(three.name, depth="size", repair=True)

    assert [blob.repaired_from for region in ("open", "token") for blob in bad(found, region)] == ["password"] * 2


def test_regions_are_repaired_from_each_other(three: Three) -> None:
    other = "model-00003-of-00004.safetensors"
    three.blob("open").unlink()
    three.blob("token", other).unlink()
    found = verified(three.name, "open", "token", depth="size", repair=True)

    assert [(region, blob.repaired_from) for region in ("open", "token") for blob in bad(found, region)] == [
        ("open", "token"),
        ("token", "open"),
    ]


def test_a_copy_that_only_seems_good_is_not_used(three: Three) -> None:
    three.blob("token").unlink()
    flip(three.blob("open"), OFFSET)
    found = verified(three.name, depth="size", repair=True)

    assert (bad(found, "token")[0].repaired_from, states(verified(three.name, depth="full"))["token"]) == (
        "password",
        "Good",
    )


def test_without_a_good_copy_nothing_is_sent(three: Three) -> None:
    three.blob("token").unlink()
    flip(three.blob("open"), OFFSET)
    found = verified(three.name, "open", "token", depth="size", repair=True)

    assert (states(found)["token"], three.blob("token").exists(), "--from" in found[1]["token"].hint) == (
        "Bad",
        False,
        True,
    )


def test_a_layout_may_have_the_good_copy(three: Three) -> None:
    three.blob("token").unlink()
    flip(three.blob("open"), OFFSET)
    origin = parse_reference(f"oci:{three.store}:v1")
    found = verified(three.name, "open", "token", depth="size", repair=True, origin=origin)

    assert (states(found)["token"], bad(found, "token")[0].repaired_from) == ("Repaired", str(origin))


@pytest.mark.parametrize("kind", ["config", "table", "manifest"])
def test_a_missing_document_is_sent_again(three: Three, kind: str) -> None:
    three.document("open", kind).unlink()
    found = verified(three.name, depth="size", repair=True)

    assert (states(found), states(verified(three.name, depth="size"))) == (ALL_GOOD | {"open": "Repaired"}, ALL_GOOD)


def test_a_region_that_lacks_all_of_it_gets_all_of_it(three: Three, plain: Registry) -> None:
    three.settings.add("empty", plain.host, namespace="empty")
    found = verified(three.name, depth="crc", repair=True)

    assert (states(found), states(verified(three.name))) == (
        ALL_GOOD | {"empty": "Repaired"},
        ALL_GOOD | {"empty": "Good"},
    )


def test_what_is_named_by_digest_gets_no_tag(three: Three, plain: Registry, tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "other", seed=10_000), tmp_path / "other-store")
    name, digest = three.name.removesuffix(":v1"), tags_of(three.store)["v1"]
    push_to(f"oci:{tmp_path}/other-store:v1", f"{plain.host}/empty/{name}:latest")
    three.settings.add("empty", plain.host, namespace="empty")
    found = verified(f"{name}@{digest}", depth="size", repair=True)

    assert (states(found), list_of_tags(f"{plain.host}/empty/{name}")) == (
        ALL_GOOD | {"empty": "Repaired"},
        ["latest"],
    )


def test_what_is_attached_comes_along(three: Three, plain: Registry) -> None:
    three.settings.add("empty", plain.host, namespace="empty")
    verified(three.name, depth="size", repair=True)

    assert len(opened(three.name, "empty").referrers(tags_of(three.store)["v1"])) == 1  # type: ignore[arg-type]


def test_signatures_come_along_for_what_is_named_by_digest(three: Three, plain: Registry) -> None:
    three.settings.add("empty", plain.host, namespace="empty")
    digest = tags_of(three.store)["v1"]
    signature = f"{digest.replace(':', '-')}.sig"
    store = opened(three.name, "open")
    store.tag(put_manifest(store, b"signed"), signature)
    name = three.name.removesuffix(":v1")
    verified(f"{name}@{digest}", depth="size", repair=True)

    assert signature in opened(name, "empty").tags()


class Seen(Progress):
    """Keeps how much each part of a job moved [bytes]."""

    def __init__(self) -> None:
        self.moved: Counter[str] = Counter()

    def advance(self, name: str, size: int) -> None:
        self.moved[name] += size


def test_a_copy_is_proved_in_a_part_of_the_job(three: Three) -> None:
    """So it ends with the job."""
    three.blob("token").unlink()
    seen = Seen()
    wanted = VerifyOptions(access=IMPATIENT, depth="size", repair=True)
    verify_regions(three.name, ("open", "token"), wanted, seen, lambda _row: None)

    assert seen.moved[f"token: a good copy of {SHARD}"] == three.blob("open").stat().st_size


def test_the_proof_of_a_copy_ends_when_it_is_told_to(packed: Path) -> None:
    store, artifact = open_artifact(parse_reference(f"oci:{packed}:v1"), IMPATIENT)
    holder = Holder("here", parse_reference(f"oci:{packed}:v1"), IMPATIENT, store, artifact)

    def stop(_size: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        GoodCopies([holder]).find(artifact.manifest.layers[0], stop)


def test_a_tag_is_not_moved(three: Three, tmp_path: Path) -> None:
    pack_model(write_model(tmp_path / "other", seed=10_000), tmp_path / "other-store")
    push_to(f"oci:{tmp_path}/other-store:v1", f"{three.registries['open'].host}/open/{three.name}")
    found = verified(three.name, depth="size", repair=True)

    assert (states(found)["open"], states(verified(three.name, depth="size"))["open"]) == ("Differs", "Differs")


def test_who_may_not_write_is_told(three: Three) -> None:
    three.blob("open").unlink()
    refused = Fault("^(POST|PATCH|PUT)", "status", status=403, times=1 << 30)
    with fault_proxy(three.registries["open"].host, refused) as proxy:
        three.settings.add("reader", proxy.host, namespace="open")
        found = verified(three.name, "reader", "token", depth="size", repair=True)

    assert (states(found), found[1]["reader"].code) == ({"reader": "Bad", "token": "Good"}, "denied")


def test_a_layout_on_disk_is_no_name_in_regions(three: Three) -> None:
    with pytest.raises(UsageProblem, match="no name in a region"):
        verify_regions(
            parse_reference(f"oci:{three.store}:v1"), ("all",), VerifyOptions(), Progress(), lambda _row: None
        )


def test_a_bad_layout_is_no_help(three: Three) -> None:
    three.blob("token").unlink()
    flip(blob_path(three.store, layer_of(three.store, SHARD)), OFFSET)
    origin = parse_reference(f"oci:{three.store}:v1")
    found = verified(three.name, "token", depth="size", repair=True, origin=origin)

    assert (states(found), three.blob("token").exists()) == ({"token": "Bad"}, False)
