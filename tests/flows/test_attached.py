"""Provenance, attached to an artifact in a layout and in a registry, and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from modelctl.core.protocols import BytesBlob, Store
from modelctl.core.reference import parse_reference
from modelctl.core.types import Descriptor, Entry, Origin, digest_of
from modelctl.flows.attached import MAX_READ, attach_provenance, load_provenances
from modelctl.flows.tags import list_tags
from modelctl.packing.attestation import render_attestation
from modelctl.packing.provenance import Options, Provenance
from modelctl.registry.ocidir import OciDir
from tests.conformance.stores import WEIGHTS, put_manifest
from tests.fakes.memory_registry import memory_registry
from tests.fakes.registries import Registry
from tests.registries import remote
from tests.stores import blob_path, flip

MADE = Provenance(
    origin=Origin(url="hf://Qwen/Qwen3-8B", revision="c" * 40),
    options=Options(layouts=("image",), max_layers=110),
    files=(Entry(path="config.json", size=2, version="c:1"),),
)


@pytest.fixture
def layout(tmp_path: Path) -> OciDir:
    store = OciDir(tmp_path / "store")
    store.create()
    return store


@pytest.fixture(params=["layout", "registry"])
def store(request: pytest.FixtureRequest, layout: OciDir, plain: Registry, repository: str) -> Store:
    return layout if request.param == "layout" else remote(plain.host, repository)


def read_back(store: Store, root: Descriptor) -> list[Provenance]:
    return list(load_provenances(store, root.digest, store.referrers(root.digest)).values())


def test_what_was_attached_is_read_back(store: Store) -> None:
    root = put_manifest(store, WEIGHTS)
    attach_provenance(store, root, MADE)

    assert read_back(store, root) == [MADE]


def test_it_is_new_once(store: Store) -> None:
    root = put_manifest(store, WEIGHTS)

    assert [attach_provenance(store, root, MADE) for _ in range(2)] == [True, False]


def test_another_version_of_modelctl_adds_its_own(store: Store) -> None:
    root = put_manifest(store, WEIGHTS)
    later = msgspec.structs.replace(MADE, version="99")
    for made in (MADE, later):
        attach_provenance(store, root, made)

    assert sorted(made.version for made in read_back(store, root)) == [MADE.version, "99"]


def test_the_same_again_sends_nothing() -> None:
    with memory_registry() as registry:
        store = remote(registry.host, "models/qwen")
        root = put_manifest(store, WEIGHTS)
        attach_provenance(store, root, MADE)
        registry.requests.clear()
        attach_provenance(store, root, MADE)

        assert [line.partition(" ")[0] for line in registry.requests] == ["GET"]


def test_a_manifest_has_none_at_first(store: Store) -> None:
    assert read_back(store, put_manifest(store, WEIGHTS)) == []


def attach(store: OciDir, root: Descriptor, statement: bytes) -> Descriptor:
    attestation = render_attestation(statement, root)
    for data in attestation.blobs:
        with store.upload(BytesBlob(data)) as upload:
            upload.write(data)
            upload.commit(digest_of(data))
    store.put_manifest(attestation.manifest, attestation.raw)
    return attestation.manifest


def test_what_others_state_is_passed_over(layout: OciDir) -> None:
    root = put_manifest(layout, WEIGHTS)
    attach_provenance(layout, root, MADE)
    for number in range(MAX_READ - 1):
        attach(layout, root, b"{}" + b" " * number)

    assert read_back(layout, root) == [MADE]


def test_provenance_of_another_manifest_is_passed_over(layout: OciDir) -> None:
    root, other = put_manifest(layout, WEIGHTS), put_manifest(layout, b"other weights")
    attach_provenance(layout, other, MADE)
    attach(layout, root, statement_of(layout, layout.referrers(other.digest)[0]))

    assert read_back(layout, root) == []


def statement_of(layout: OciDir, attestation: Descriptor) -> bytes:
    document = msgspec.json.decode(blob_path(layout.path, attestation.digest).read_bytes())
    return blob_path(layout.path, document["layers"][0]["digest"]).read_bytes()


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [remove, lambda path: flip(path, 9), lambda path: flip(path, -1)])
@pytest.mark.parametrize("part", ["manifest", "statement"])
def test_what_is_spoilt_is_passed_over(layout: OciDir, spoil: Callable[[Path], None], part: str) -> None:
    root = put_manifest(layout, WEIGHTS)
    attach_provenance(layout, root, MADE)
    attached = layout.referrers(root.digest)
    digest = attached[0].digest if part == "manifest" else digest_of(statement_of(layout, attached[0]))
    spoil(blob_path(layout.path, digest))

    assert load_provenances(layout, root.digest, attached) == {}


def test_the_tag_that_lists_referrers_is_not_shown(store: Store, repository: str, plain: Registry) -> None:
    root = put_manifest(store, WEIGHTS)
    store.tag(root, "v1")
    attach_provenance(store, root, MADE)
    place = str(store) if isinstance(store, OciDir) else f"{plain.host}/{repository}"

    assert [tag.tag for tag in list_tags(parse_reference(place))] == ["v1"]
