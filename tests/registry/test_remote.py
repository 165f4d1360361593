"""A repository of a registry: what every store does, and what one behind HTTP does beyond it."""

from __future__ import annotations

from contextlib import closing

import pytest

from modelctl.core.errors import BadAnswer, Conflict, DigestMismatch, NotFound
from modelctl.core.protocols import BytesBlob
from modelctl.core.types import Descriptor, Digest, digest_of
from modelctl.registry.remote import RemoteStore
from tests.conformance.stores import CONFIG, WEIGHTS, StoreConformance, descriptor, put, put_manifest, read
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry
from tests.registries import remote


@pytest.fixture
def store(plain: Registry, repository: str) -> RemoteStore:
    return remote(plain.host, repository)


class TestRemoteStore(StoreConformance):
    """The fixture is the module's."""


def test_a_blob_of_another_size_is_named(store: RemoteStore) -> None:
    put(store, WEIGHTS)
    other = Descriptor(media_type="", digest=digest_of(WEIGHTS), size=len(WEIGHTS) + 1)

    with pytest.raises(DigestMismatch, match="it has 300000 bytes; its descriptor says 300001"):
        store.has(other)


def test_a_blob_may_be_read_in_pieces_of_any_size(store: RemoteStore) -> None:
    data, at = bytearray(len(WEIGHTS)), 0
    with closing(store.open(put(store, WEIGHTS))) as blob:
        for size in (1, 7, 99_992, 150_000, 50_000):
            blob.read_into(at, memoryview(data)[at : at + size])
            at += size

    assert data == WEIGHTS


def test_reading_on_costs_one_request(store: RemoteStore, plain: Registry) -> None:
    blob = put(store, WEIGHTS)
    with fault_proxy(plain.host) as proxy, closing(remote(proxy.host, store.name).open(blob)) as opened:
        for at in range(0, len(WEIGHTS), 10_000):
            opened.read_into(at, memoryview(bytearray(10_000)))

        assert len(proxy.requests) == 1


def test_reading_past_the_end_is_refused(store: RemoteStore) -> None:
    with closing(store.open(put(store, WEIGHTS))) as blob, pytest.raises(DigestMismatch, match="300010 were expected"):
        blob.read_into(len(WEIGHTS) - 10, memoryview(bytearray(20)))


def test_a_blob_goes_over_from_another_repository_without_its_bytes(store: RemoteStore) -> None:
    blob = put(store, WEIGHTS)
    other = RemoteStore(store.transport, f"{store.name}-copy")

    assert other.mount(blob, store.name)


def test_a_blob_that_went_over_is_there(store: RemoteStore) -> None:
    blob = put(store, WEIGHTS)
    other = RemoteStore(store.transport, f"{store.name}-copy")
    other.mount(blob, store.name)

    assert read(other, blob) == WEIGHTS


def test_a_blob_that_the_other_repository_has_not_does_not_go_over(store: RemoteStore) -> None:
    put(store, CONFIG)

    assert not store.mount(descriptor(b"nowhere"), f"{store.name}-other")


def test_an_upload_that_a_registry_begins_instead_of_a_mount_is_given_up(store: RemoteStore, plain: Registry) -> None:
    put(store, CONFIG)
    with fault_proxy(plain.host) as proxy:
        remote(proxy.host, store.name).mount(descriptor(b"nowhere"), f"{store.name}-other")

        assert [line.partition(" ")[0] for line in proxy.requests] == ["POST", "DELETE"]


def test_an_upload_that_cannot_be_given_up_is_no_error(store: RemoteStore, plain: Registry) -> None:
    put(store, CONFIG)
    with fault_proxy(plain.host, Fault("^DELETE", "status", status=500)) as proxy:
        assert not remote(proxy.host, store.name).mount(descriptor(b"nowhere"), f"{store.name}-other")


def test_many_tags_are_listed_page_by_page(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    names = [f"v{number}" for number in range(5)]
    for tag in names:
        store.tag(root, tag)
    pages = [paged(store.name, names[:2], "v1"), paged(store.name, names[2:4], "v3"), paged(store.name, names[4:])]
    with fault_proxy(plain.host, *pages) as proxy:
        assert remote(proxy.host, store.name).tags() == names


def paged(name: str, tags: list[str], last: str = "") -> Fault:
    """Answer one request for tags as a registry does that lists two a page."""
    link = {"Link": f'</v2/{name}/tags/list?last={last}&n=2>; rel="next"'} if last else {}
    listed = ", ".join(f'"{tag}"' for tag in tags)
    return Fault("tags/list", "status", status=200, headers=link, body=f'{{"tags": [{listed}]}}'.encode())


def test_a_page_of_tags_is_asked_for_where_the_last_one_said(store: RemoteStore, plain: Registry) -> None:
    with fault_proxy(plain.host, paged(store.name, ["v0"], "v0"), paged(store.name, [])) as proxy:
        remote(proxy.host, store.name).tags()

        assert proxy.requests[1] == f"GET /v2/{store.name}/tags/list?last=v0&n=2"


def test_a_page_of_tags_at_another_place_is_refused(store: RemoteStore, plain: Registry) -> None:
    link = {"Link": '<http://127.0.0.1:9/v2/x/tags/list>; rel="next"'}
    fault = Fault("tags/list", "status", status=200, headers=link, body=b'{"tags": []}')
    with fault_proxy(plain.host, fault) as proxy, pytest.raises(BadAnswer, match="at another place"):
        remote(proxy.host, store.name).tags()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": "v1"}', b'{"tags": [1]}', b"\xff"])
def test_tags_that_are_no_list_of_names_are_refused(store: RemoteStore, plain: Registry, body: bytes) -> None:
    fault = Fault("tags/list", "status", status=200, body=body)
    with fault_proxy(plain.host, fault) as proxy, pytest.raises(BadAnswer, match="not a list of tags"):
        remote(proxy.host, store.name).tags()


def test_a_manifest_with_other_bytes_is_refused(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    with (
        fault_proxy(plain.host, Fault("^GET .*manifests", "wrong-byte", at=9)) as proxy,
        pytest.raises(DigestMismatch, match=f"manifest {root.digest}"),
    ):
        remote(proxy.host, store.name).open(root)


def test_a_manifest_whose_answer_breaks_off_is_asked_for_again(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    with fault_proxy(plain.host, Fault("^GET .*manifests", "cut-answer", at=9)) as proxy:
        assert read(remote(proxy.host, store.name), root)


def test_a_manifest_of_another_digest_is_refused_by_the_registry(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)

    with pytest.raises(BadAnswer, match="DIGEST_INVALID"):
        store.put_manifest(root, read(store, root).replace(b":2}", b": 2}"))


def test_a_registry_that_says_another_digest_is_refused(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    headers = {"Docker-Content-Digest": digest_of(b"another"), "Content-Length": "7"}
    with (
        fault_proxy(plain.host, Fault("^HEAD", "status", status=200, headers=headers)) as proxy,
        pytest.raises(DigestMismatch, match=f"it is {digest_of(b'another')}"),
    ):
        remote(proxy.host, store.name).resolve(root.digest)


def test_a_registry_that_does_not_say_the_digest_is_read(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    with fault_proxy(plain.host, Fault("^HEAD", "status", status=200)) as proxy:
        assert remote(proxy.host, store.name).resolve("v1").digest == root.digest


def test_a_tag_that_is_alone_is_forgotten_with_its_manifest(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.untag("v1")

    with pytest.raises(NotFound):
        store.resolve(root.digest)


def test_a_tag_beside_another_cannot_be_forgotten_alone(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")

    with pytest.raises(Conflict, match=r"v2 name .*\n.*--digest"):
        store.untag("v1")


@pytest.mark.parametrize("tags", [["v1"], ["v1", "v2"]])
@pytest.mark.parametrize("by_digest", [False, True])
def test_where_deleting_is_switched_off_that_is_said(
    store: RemoteStore, plain: Registry, tags: list[str], *, by_digest: bool
) -> None:
    root = put_manifest(store, WEIGHTS)
    for tag in tags:
        store.tag(root, tag)
    with (
        fault_proxy(plain.host, Fault("^DELETE", "status", status=405, times=99)) as proxy,
        pytest.raises(BadAnswer, match="deleting is switched off in this registry: it answered 405"),
    ):
        remote(proxy.host, store.name).untag(root.digest if by_digest else "v1")


def test_a_registry_that_deletes_manifests_but_no_tags_is_not_said_to_delete_nothing(
    store: RemoteStore, plain: Registry
) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")
    with (
        fault_proxy(plain.host, Fault("^DELETE .*/v1", "status", status=405, times=99)) as proxy,
        pytest.raises(Conflict, match=r"v2 name .*\n.*--digest"),
    ):
        remote(proxy.host, store.name).untag("v1")


def test_a_tag_that_could_not_be_forgotten_is_as_it_was(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")
    with pytest.raises(Conflict):
        store.untag("v1")

    assert store.resolve("v1").digest == root.digest


def test_a_tag_of_another_manifest_does_not_keep_one_from_being_forgotten(store: RemoteStore) -> None:
    store.tag(put_manifest(store, WEIGHTS), "v1")
    store.tag(put_manifest(store, CONFIG), "v2")
    store.untag("v1")

    assert store.tags() == ["v2"]


def test_a_digest_is_forgotten_with_all_its_tags(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    store.tag(root, "v2")

    assert sorted(store.untag(root.digest)) == ["v1", "v2"]


def test_a_manifest_that_was_stored_under_another_digest_is_refused(store: RemoteStore, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    stored = {"Docker-Content-Digest": digest_of(b"another")}
    with (
        fault_proxy(plain.host, Fault("^PUT", "status", status=201, headers=stored)) as proxy,
        pytest.raises(DigestMismatch, match=f"stored as {digest_of(b'another')}"),
    ):
        remote(proxy.host, store.name).tag(root, "v1")


@pytest.mark.parametrize("name", ["v9", Digest("sha256:" + "0" * 64)])
def test_what_is_not_there_cannot_be_forgotten(store: RemoteStore, name: str) -> None:
    put_manifest(store, WEIGHTS)

    with pytest.raises(NotFound):
        store.untag(name)


def test_a_missing_tag_is_named_with_its_registry(store: RemoteStore) -> None:
    with pytest.raises(
        NotFound,
        match=rf"registry {store.transport.registry}, manifest v9 in {store.name}\n.*\n  try: modelctl ls {store}$",
    ):
        store.resolve("v9")


def test_a_missing_blob_is_named_with_its_registry(store: RemoteStore) -> None:
    with pytest.raises(NotFound, match=rf"registry {store.transport.registry}, blob {digest_of(WEIGHTS)}"):
        read(store, descriptor(WEIGHTS))


def test_a_missing_repository_has_no_tags(store: RemoteStore) -> None:
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        store.tags()


def test_without_a_name_latest_is_meant(store: RemoteStore) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "latest")

    assert store.resolve("").digest == root.digest


def test_bytes_that_are_not_the_digests_are_refused(store: RemoteStore) -> None:
    with store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)

        with pytest.raises(DigestMismatch):
            upload.commit(digest_of(b"another"))
