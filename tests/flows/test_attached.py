"""What is attached to an artifact, in a layout and in a registry: provenance, read back, and all that travels along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from modelctl.core.errors import UsageProblem
from modelctl.core.protocols import BytesBlob, Store
from modelctl.core.reference import parse_reference
from modelctl.core.types import Descriptor, Entry, Origin, digest_of
from modelctl.flows.attached import MAX_READ, attach_provenance, load_provenances
from modelctl.flows.push_regions import push_regions
from modelctl.flows.region_jobs import RegionOptions
from modelctl.flows.region_report import Watcher
from modelctl.flows.stores import open_store
from modelctl.flows.tags import list_tags
from modelctl.packing.attestation import render_attestation
from modelctl.packing.provenance import Options, Provenance
from modelctl.registry.ocidir import OciDir
from tests.conformance.stores import WEIGHTS, put_manifest
from tests.fakes.memory_registry import memory_registry
from tests.fakes.registries import Registry
from tests.flows.regional import Settings
from tests.registries import IMPATIENT, problems_at, push_to, remote
from tests.stores import blob_path, flip, pack_model

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


IN_TOTO_TYPE = "application/vnd.in-toto+json"
TWIN_TYPE = "application/vnd.cncf.model.manifest.v1+json"


def sign(store: Store, root: Descriptor, word: str = "sig", payload: bytes = b"signed") -> Descriptor:
    """Attach something by a tag, as cosign does."""
    manifest = put_manifest(store, payload)
    store.tag(manifest, f"{root.digest.replace(':', '-')}.{word}")
    return manifest


def kinds(store: Store, root: Descriptor) -> set[str]:
    """Return what is attached: artifact types, and the ends of cosign's tags."""
    prefix = root.digest.replace(":", "-") + "."
    words = {tag.removeprefix(prefix) for tag in store.tags() if tag.startswith(prefix)}
    return {item.artifact_type for item in store.referrers(root.digest)} | words


@pytest.fixture
def twins(model: Path, tmp_path: Path) -> Path:
    """A layout that has a model as an image, and as a ModelPack that names that its subject; both signed."""
    path = tmp_path / "twins"
    pack_model(model, path, layouts=("image", "modelpack"))
    for tag, words in {"v1": ("sig", "att", "sbom"), "v1-modelpack": ("sig",)}.items():
        root = OciDir(path).resolve(tag)
        for word in words:
            sign(OciDir(path), root, word, f"{word} of {tag}".encode())
    return path


@pytest.fixture(params=["without the API", "with the API", "a layout"])
def destination(request: pytest.FixtureRequest, plain: Registry, repository: str, tmp_path: Path) -> Iterator[str]:
    """Where to push to: distribution, where clients list referrers; a registry that does; or a folder."""
    if request.param == "with the API":
        with memory_registry() as server:
            yield f"{server.host}/{repository}"
    else:
        yield f"oci:{tmp_path}/other" if request.param == "a layout" else f"{plain.host}/{repository}"


def opened(place: str) -> Store:
    return open_store(parse_reference(place), IMPATIENT)


def test_all_that_is_attached_travels(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")
    store = opened(destination)

    assert kinds(store, store.resolve("v1")) == {IN_TOTO_TYPE, TWIN_TYPE, "sig", "att", "sbom"}


def test_what_is_attached_to_what_is_attached_travels_too(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")
    twin = OciDir(twins).resolve("v1-modelpack")

    assert kinds(opened(destination), twin) == {IN_TOTO_TYPE, "sig"}


def test_the_twin_is_whole(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")

    assert problems_at(f"{destination}@{OciDir(twins).resolve('v1-modelpack').digest}") == {}


def test_signatures_come_as_they_are(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")
    tag = OciDir(twins).resolve("v1").digest.replace(":", "-") + ".sig"

    assert opened(destination).resolve(tag).digest == OciDir(twins).resolve(tag).digest


def test_they_travel_on_from_there(twins: Path, destination: str, tmp_path: Path) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")
    push_to(f"{destination}:v1", f"oci:{tmp_path}/last:v1")
    last = OciDir(tmp_path / "last")

    assert kinds(last, last.resolve("v1")) == {IN_TOTO_TYPE, TWIN_TYPE, "sig", "att", "sbom"}


@pytest.mark.parametrize(
    ("attached", "expected"),
    [
        ("none", set()),
        ("sig", {"sig"}),
        ("sig,att", {"sig", "att"}),
        (IN_TOTO_TYPE, {IN_TOTO_TYPE}),
        ("application/vnd.in-toto*,sbom", {IN_TOTO_TYPE, "sbom"}),
        (TWIN_TYPE, {TWIN_TYPE}),
        ("sig,all", {IN_TOTO_TYPE, TWIN_TYPE, "sig", "att", "sbom"}),
    ],
)
def test_only_what_is_wanted_travels(
    twins: Path, plain: Registry, repository: str, attached: str, expected: set[str]
) -> None:
    push_to(f"oci:{twins}:v1", f"{plain.host}/{repository}:v1", attached=attached)
    store = opened(f"{plain.host}/{repository}")

    assert kinds(store, store.resolve("v1")) == expected


@pytest.mark.parametrize("attached", ["", "sigs", "sig,", "*"])
def test_what_cannot_be_attached_is_refused(twins: Path, plain: Registry, repository: str, attached: str) -> None:
    with pytest.raises(UsageProblem):
        push_to(f"oci:{twins}:v1", f"{plain.host}/{repository}:v1", attached=attached)


def test_what_others_attached_there_stays(twins: Path, plain: Registry, repository: str) -> None:
    push_to(f"oci:{twins}:v1", f"{plain.host}/{repository}:v1", attached="none")
    store = opened(f"{plain.host}/{repository}")
    attach_provenance(store, store.resolve("v1"), msgspec.structs.replace(MADE, version="99"))
    push_to(f"oci:{twins}:v1", f"{plain.host}/{repository}:v1")

    assert len(store.referrers(store.resolve("v1").digest)) == 3


def test_to_push_again_sends_no_blob(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")
    (again,) = push_to(f"oci:{twins}:v1", f"{destination}:v1")

    assert again.sent == []


def test_tags_of_what_is_attached_are_not_shown(twins: Path, destination: str) -> None:
    push_to(f"oci:{twins}:v1", f"{destination}:v1")

    assert [tag.tag for tag in list_tags(parse_reference(destination))] == ["v1"]


def test_a_signature_does_not_hide_which_manifest_is_meant(twins: Path, tmp_path: Path) -> None:
    push_to(f"oci:{twins}:v1", f"oci:{tmp_path}/other:v1", attached="sig")

    assert OciDir(tmp_path / "other").resolve("").digest == OciDir(twins).resolve("v1").digest


@pytest.fixture
def regions(settings: Settings, plain: Registry, repository: str) -> list[Store]:
    """The model's repository in two regions, with nothing in it."""
    for name in ("a", "b"):
        settings.add(name, plain.host, namespace=name)
    return [opened(f"{plain.host}/{name}/{repository}") for name in ("a", "b")]


@pytest.mark.parametrize(
    ("attached", "expected"), [("all", {IN_TOTO_TYPE, TWIN_TYPE, "sig", "att", "sbom"}), ("sig", {"sig"})]
)
def test_it_travels_to_regions(
    twins: Path, regions: list[Store], repository: str, attached: str, expected: set[str]
) -> None:
    options = RegionOptions(access=IMPATIENT, attached=attached)
    push_regions(parse_reference(f"oci:{twins}:v1"), f"{repository}:v1", ("all",), options, Watcher())

    assert [kinds(store, store.resolve("v1")) for store in regions] == [expected] * 2
