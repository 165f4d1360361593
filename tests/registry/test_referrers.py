"""What is attached to a manifest: in a layout, in a registry that lists it, and in one that leaves that to clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import BadAnswer, Conflict
from modelctl.core.media_types import OCI_INDEX, OCI_MANIFEST
from modelctl.core.types import Descriptor
from modelctl.registry.ocidir import OciDir
from modelctl.registry.referrers import (
    Entries,
    fallback_tag,
    is_attachment_tag,
    parse_list,
    render_list,
)
from modelctl.registry.remote import RemoteStore
from tests.conformance.referrers import NOTE, SIGNATURE, ReferrersConformance, attach, attached
from tests.conformance.stores import WEIGHTS, StoreConformance, descriptor, put, put_manifest
from tests.fakes.memory_registry import MemoryRegistry, index_of, memory_registry
from tests.fakes.registries import Registry
from tests.registries import remote
from tests.stores import blobs_of

OTHER = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "1" * 64, "size": 7, "org.example": {"kept": True}}
"""An entry that another client wrote."""


@pytest.fixture
def folder(tmp_path: Path) -> OciDir:
    store = OciDir(tmp_path / "store")
    store.create()
    return store


@pytest.fixture
def listing() -> Iterator[MemoryRegistry]:
    """A registry with the referrers API."""
    with memory_registry() as registry:
        yield registry


@pytest.fixture
def bare() -> Iterator[MemoryRegistry]:
    """A registry without it."""
    with memory_registry(api=False) as registry:
        yield registry


def store_in(registry: MemoryRegistry) -> RemoteStore:
    return remote(registry.host, "models/qwen")


class TestFolder(ReferrersConformance):
    @pytest.fixture
    def store(self, folder: OciDir) -> OciDir:
        return folder


class TestRegistryWithoutTheApi(ReferrersConformance):
    """distribution 2.8."""

    @pytest.fixture
    def store(self, plain: Registry, repository: str) -> RemoteStore:
        return remote(plain.host, repository)


class TestRegistryWithTheApi(ReferrersConformance, StoreConformance):
    @pytest.fixture
    def store(self, listing: MemoryRegistry) -> RemoteStore:
        return store_in(listing)


class TestInAFolder:
    def test_it_stands_in_the_index_without_a_tag(self, folder: OciDir) -> None:
        manifest = attach(folder, put_manifest(folder, WEIGHTS))

        assert index_entries(folder) == [
            {"mediaType": OCI_MANIFEST, "digest": manifest.digest, "size": manifest.size, "artifactType": SIGNATURE}
        ]

    def test_attaching_it_again_does_not_touch_the_index(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        attach(folder, root)
        before = (folder.path / "index.json").stat().st_ino
        attach(folder, root)

        assert (folder.path / "index.json").stat().st_ino == before

    def test_it_is_no_tag(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        attach(folder, root)

        assert list(folder.tags()) == ["v1"]

    def test_it_does_not_make_the_only_manifest_ambiguous(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        attach(folder, root)

        assert folder.resolve("").digest == root.digest

    def test_prune_keeps_it_while_its_subject_has_a_tag(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        attach(folder, attach(folder, root))
        before = blobs_of(folder.path)
        folder.prune()

        assert blobs_of(folder.path) == before

    def test_prune_removes_it_with_its_subject(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        attach(folder, attach(folder, root))
        folder.untag("v1")
        folder.prune()

        assert (blobs_of(folder.path), index_entries(folder)) == (set(), [])

    def test_prune_removes_it_when_the_tag_moved_on(self, folder: OciDir) -> None:
        old, new = put_manifest(folder, WEIGHTS), put_manifest(folder, b"new weights")
        folder.tag(old, "v1")
        gone = attach(folder, old)
        folder.tag(new, "v1")
        kept = attach(folder, new)
        folder.prune()

        assert ([gone.digest in blobs_of(folder.path)], attached(folder, new)) == ([False], [kept.digest])

    def test_a_dry_run_of_prune_names_it_and_keeps_it(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        manifest = attach(folder, root)
        folder.untag("v1")

        assert manifest.digest in {blob.digest for blob in folder.prune(dry_run=True)}
        assert attached(folder, root) == [manifest.digest]

    def test_prune_keeps_what_has_a_tag_of_its_own(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        folder.tag(root, "v1")
        twin = attach(folder, root)
        folder.tag(twin, "v1-modelpack")
        folder.untag("v1")
        folder.prune()

        assert folder.resolve("v1-modelpack").digest == twin.digest

    def test_prune_keeps_what_was_copied_here_without_its_subject(self, folder: OciDir) -> None:
        manifest = attach(folder, descriptor(b"elsewhere", OCI_MANIFEST))
        folder.prune()

        assert manifest.digest in blobs_of(folder.path)

    def test_a_list_that_regclient_wrote_is_read(self, folder: OciDir) -> None:
        root = put_manifest(folder, WEIGHTS)
        manifest = attach(folder, root)
        folder.untag(manifest.digest)
        entry = {"mediaType": OCI_MANIFEST, "digest": manifest.digest, "size": manifest.size}
        listed = put(folder, index_of(entry))
        folder.tag(Descriptor(media_type=OCI_INDEX, digest=listed.digest, size=listed.size), fallback_tag(root.digest))

        assert attached(folder, root) == [manifest.digest]

    @pytest.mark.parametrize(
        "raw", [b"not json", b"[]", b"[" * 100_000, b'{"subject": 1}', b'{"subject": {}}', b"\xff"]
    )
    def test_what_is_no_manifest_is_attached_to_nothing(self, folder: OciDir, raw: bytes) -> None:
        folder.put_manifest(descriptor(raw, OCI_MANIFEST), raw)

        assert index_entries(folder) == []


def index_entries(folder: OciDir) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((folder.path / "index.json").read_bytes())["manifests"]
    return entries


class TestInARegistryWithTheApi:
    def test_no_tag_is_written(self, listing: MemoryRegistry) -> None:
        store = store_in(listing)
        attach(store, put_manifest(store, WEIGHTS))

        assert listing.tags == {}

    @pytest.mark.parametrize("filters", [True, False])
    def test_all_pages_are_read(self, filters: bool) -> None:
        with memory_registry(page=2, filters=filters) as registry:
            store = store_in(registry)
            root = put_manifest(store, WEIGHTS)
            found = [attach(store, root, bytes([number])).digest for number in range(5)]
            attach(store, root, artifact_type=NOTE)

            assert attached(store, root, SIGNATURE) == sorted(found)

    @pytest.mark.parametrize("answer", [b"<html>sign in</html>", b"{}", b"[]", b'{"manifests": [1]}'])
    def test_an_answer_that_is_no_index_leads_to_the_tag(self, listing: MemoryRegistry, answer: bytes) -> None:
        listing.answer = answer
        store = store_in(listing)
        root = put_manifest(store, WEIGHTS)
        listing.put_list(root.digest, OTHER)

        assert attached(store, root) == [OTHER["digest"]]

    @pytest.mark.parametrize("change", [{"size": -1}, {"size": "7"}, {"mediaType": None}], ids=str)
    def test_an_entry_that_is_not_a_descriptor_is_a_bad_answer(
        self, listing: MemoryRegistry, change: dict[str, object]
    ) -> None:
        listing.answer = index_of({**OTHER, **change})
        store = store_in(listing)

        with pytest.raises(BadAnswer, match="not a descriptor"):
            attached(store, descriptor(WEIGHTS))

    def test_an_entry_with_another_kind_of_digest_is_left_out(self, listing: MemoryRegistry) -> None:
        listing.answer = index_of({**OTHER, "digest": "sha512:" + "1" * 128}, OTHER)

        assert attached(store_in(listing), descriptor(WEIGHTS)) == [OTHER["digest"]]


class TestInARegistryWithoutTheApi:
    def test_the_list_is_an_index_under_a_tag(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        manifest = attach(store, root)

        assert listed(bare, root) == [
            {
                "mediaType": OCI_MANIFEST,
                "digest": manifest.digest,
                "size": manifest.size,
                "artifactType": SIGNATURE,
            }
        ]

    def test_what_others_wrote_is_kept_as_it_is(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        bare.put_list(root.digest, OTHER)
        attach(store, root)

        assert OTHER in listed(bare, root)

    def test_attaching_it_again_writes_no_list(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        attach(store, root)
        bare.requests.clear()
        attach(store, root)

        assert [line for line in bare.requests if "PUT" in line and fallback_tag(root.digest) in line] == []

    def test_a_writer_who_had_not_seen_ours_does_not_undo_it(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        bare.overtaken_by = [index_of(OTHER)]
        manifest = attach(store, root)

        assert {entry["digest"] for entry in listed(bare, root)} == {manifest.digest, OTHER["digest"]}

    def test_what_another_writer_undid_of_a_third_is_written_again(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        bare.put_list(root.digest, OTHER)
        bare.overtaken_by = [index_of()]
        attach(store, root)

        assert OTHER in listed(bare, root)

    def test_others_who_never_stop_are_named(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        bare.overtaken_by = [index_of()] * 1000

        with pytest.raises(Conflict, match=f"referrers of {root.digest}"):
            attach(store, root)

    def test_a_tag_that_holds_no_list_is_not_overwritten(self, bare: MemoryRegistry) -> None:
        store = store_in(bare)
        root = put_manifest(store, WEIGHTS)
        store.tag(root, fallback_tag(root.digest))
        with pytest.raises(BadAnswer, match="not an index"):
            attach(store, root)

        assert store.resolve(fallback_tag(root.digest)).digest == root.digest

    def test_an_entry_whose_manifest_was_deleted_hinders_nobody(self, plain: Registry, repository: str) -> None:
        store = remote(plain.host, repository)
        root = put_manifest(store, WEIGHTS)
        gone = attach(store, root, b"gone")
        path = f"/v2/{repository}/manifests/{gone.digest}"
        store.transport.request("DELETE", path, scope="", expect=(202,))
        kept = attach(store, root, b"kept")

        assert attached(store, root) == [kept.digest]

    def test_two_writers_at_once_lose_nothing(self, plain: Registry, repository: str) -> None:
        root = put_manifest(remote(plain.host, repository), WEIGHTS)
        barrier = threading.Barrier(2)
        found: list[str] = []

        def writer(number: int) -> None:
            store = remote(plain.host, repository)
            barrier.wait()
            found.extend(attach(store, root, bytes([number, item])).digest for item in range(5))

        threads = [threading.Thread(target=writer, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert attached(remote(plain.host, repository), root) == sorted(found)


def listed(registry: MemoryRegistry, subject: Descriptor) -> list[dict[str, object]]:
    _, raw = registry.manifests[registry.tags[fallback_tag(subject.digest)]]
    entries: list[dict[str, object]] = json.loads(raw)["manifests"]
    return entries


digests = st.binary(max_size=1).map(lambda data: descriptor(data).digest)
lists = st.dictionaries(digests, st.just({}), max_size=4).map(
    lambda found: {digest: {"digest": digest} for digest in found}
)


@given(entries=lists)
def test_a_list_is_read_back_as_it_was(entries: Entries) -> None:
    assert parse_list(render_list(entries), "") == entries


@given(entries=lists)
def test_the_order_in_which_entries_came_does_not_matter(entries: Entries) -> None:
    assert render_list(dict(reversed(entries.items()))) == render_list(entries)


@given(data=st.binary(max_size=200))
def test_what_is_no_list_is_a_bad_answer(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_list(data, "")


def test_a_list_of_nothing_may_be_null() -> None:
    assert parse_list(b'{"manifests": null}', "") == {}


@pytest.mark.parametrize(
    ("tag", "is_one"),
    [
        ("sha256-" + "0" * 64, True),
        ("sha256-" + "0" * 64 + ".sig", True),
        ("sha256-" + "0" * 64 + ".sbom", True),
        ("sha256-" + "0" * 64 + ".old", False),
        ("sha256-0", False),
        ("v1", False),
    ],
)
def test_a_tag_of_what_is_attached_is_told_from_other_tags(tag: str, is_one: bool) -> None:
    assert is_attachment_tag(tag) == is_one
