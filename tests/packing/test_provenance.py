"""The statement of what an artifact was made from, and the artifact that carries it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.core.media_types import IN_TOTO, OCI_EMPTY, OCI_MANIFEST
from modelctl.core.types import Descriptor, Entry, Origin, canonical_json, digest_of
from modelctl.packing.artifact import parse_manifest
from modelctl.packing.attestation import load_statement, render_attestation
from modelctl.packing.provenance import (
    MAX_STATEMENT_SIZE,
    Options,
    Provenance,
    parse_provenance,
    render_provenance,
    same_files,
)
from tests.fakes.memory import MemoryStore

SUBJECT = digest_of(b"the manifest")
ROOT = Descriptor(media_type=OCI_MANIFEST, digest=SUBJECT, size=12)
SHA, OTHER_SHA = "1" * 64, "2" * 64
GIT, OTHER_GIT = "a" * 40, "b" * 40
HUB = Origin(url="hf://Qwen/Qwen3-8B", revision="c" * 40)
SHARD = Entry(path="model.safetensors", size=5_000, version="c:1", sha256=SHA)
CONFIG = Entry(path="config.json", size=20, version="c:2", git_sha1=GIT)
FROM_HUB = Provenance(
    origin=HUB, options=Options(layouts=("image",), max_layers=110), files=(SHARD, CONFIG), version="1.2.3"
)
STATEMENT = render_provenance(FROM_HUB, SUBJECT)

words = st.text("ab/é模 ", max_size=5)
hexadecimal = st.text("0123456789abcdef", min_size=40, max_size=40)
entries = st.builds(
    Entry,
    path=st.text("abcé模", min_size=1, max_size=6).map(lambda name: f"d-{name}/f {name}"),
    size=st.integers(0, 1 << 60),
    version=words,
    crc64=st.none() | st.integers(0, 2**64 - 1),
    sha256=st.just("") | hexadecimal.map(lambda text: text + "0" * 24),
    git_sha1=st.just("") | hexadecimal,
)
provenances = st.builds(
    Provenance,
    origin=st.builds(Origin, url=words.map(lambda text: f"oss://bucket/{text}"), revision=words | hexadecimal),
    options=st.builds(
        Options,
        layouts=st.lists(words, max_size=2).map(tuple),
        include=st.lists(words, max_size=2).map(tuple),
        exclude=st.lists(words, max_size=2).map(tuple),
        max_layers=st.integers(1, 1000),
        annotations=st.dictionaries(words, words, max_size=2),
    ),
    files=st.lists(entries, max_size=4, unique_by=lambda entry: entry.path.casefold()).map(tuple),
    version=words,
)


def ordered(provenance: Provenance) -> Provenance:
    files = sorted(provenance.files, key=lambda entry: entry.path.encode())
    return msgspec.structs.replace(provenance, files=tuple(files))


@given(provenance=provenances)
def test_a_statement_is_read_back_as_it_was(provenance: Provenance) -> None:
    assert parse_provenance(render_provenance(provenance, SUBJECT), SUBJECT) == ordered(provenance)


@pytest.mark.parametrize(
    ("origin", "uri"),
    [
        ("oss://bucket/qwen/", "oss://bucket/qwen/a%20b/%25.json"),
        ("oss://bucket/", "oss://bucket/a%20b/%25.json"),
        ("oss://bucket/my %41/é?#/", "oss://bucket/my%20%2541/%C3%A9%3F%23/a%20b/%25.json"),
        ("hf://Qwen/Qwen3-8B", "hf://Qwen/Qwen3-8B/a%20b/%25.json"),
        ("file:///home/me/my model/", "file:my%20model/a%20b/%25.json"),
    ],
)
def test_the_uri_of_a_file_is_that_of_its_source_and_its_path(origin: str, uri: str) -> None:
    files = (Entry(path="a b/%.json", size=1, version="v"),)
    provenance = msgspec.structs.replace(FROM_HUB, origin=Origin(url=origin), files=files)
    raw = render_provenance(provenance, SUBJECT)

    assert json.loads(raw)["predicate"]["buildDefinition"]["resolvedDependencies"][1]["uri"] == uri
    assert parse_provenance(raw, SUBJECT).files[0].path == "a b/%.json"


@given(provenance=provenances)
def test_the_order_of_the_files_does_not_matter(provenance: Provenance) -> None:
    turned = msgspec.structs.replace(provenance, files=provenance.files[::-1])

    assert render_provenance(turned, SUBJECT) == render_provenance(provenance, SUBJECT)


def test_it_is_an_in_toto_statement_with_the_slsa_predicate() -> None:
    assert json.loads(STATEMENT) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": SUBJECT.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://modelctl.io/pack/v1",
                "externalParameters": {
                    "source": "hf://Qwen/Qwen3-8B",
                    "layouts": ["image"],
                    "include": [],
                    "exclude": [],
                    "maxLayers": 110,
                    "annotations": {},
                },
                "resolvedDependencies": [
                    {
                        "uri": "hf://Qwen/Qwen3-8B",
                        "digest": {"gitCommit": "c" * 40},
                        "annotations": {"revision": "c" * 40},
                    },
                    {
                        "name": "config.json",
                        "uri": "hf://Qwen/Qwen3-8B/config.json",
                        "digest": {"gitBlob": GIT},
                        "annotations": {"size": 20, "version": "c:2"},
                    },
                    {
                        "name": "model.safetensors",
                        "uri": "hf://Qwen/Qwen3-8B/model.safetensors",
                        "digest": {"sha256": SHA},
                        "annotations": {"size": 5000, "version": "c:1"},
                    },
                ],
            },
            "runDetails": {"builder": {"id": "https://modelctl.io/modelctl", "version": {"modelctl": "1.2.3"}}},
        },
    }


def test_a_crc64_is_no_digest() -> None:
    entry = Entry(path="a", size=1, version="etag", crc64=2**64 - 1)
    statement = json.loads(render_provenance(msgspec.structs.replace(FROM_HUB, files=(entry,)), SUBJECT))
    file = statement["predicate"]["buildDefinition"]["resolvedDependencies"][1]

    assert (file.get("digest"), file["annotations"]["crc64"]) == (None, str(2**64 - 1))


def test_names_are_quoted_in_uris() -> None:
    entry = Entry(path="模型/a b?.json", size=1)
    statement = render_provenance(msgspec.structs.replace(FROM_HUB, files=(entry,)), SUBJECT)

    assert b"hf://Qwen/Qwen3-8B/%E6%A8%A1%E5%9E%8B/a%20b%3F.json" in statement


class TestOfAFolder:
    """What is only true of this machine is not told."""

    def made(self, folder: str, version: str) -> Provenance:
        files = (Entry(path="a", size=1, version=version),)
        return msgspec.structs.replace(FROM_HUB, origin=Origin(url=f"file://{folder}"), files=files)

    def test_only_its_name_is_told(self) -> None:
        statement = render_provenance(self.made("/home/alice/models/Qwen3 8B", "41:7:1:9:9"), SUBJECT)

        assert parse_provenance(statement, SUBJECT) == self.made_of("file:Qwen3%208B")

    def made_of(self, url: str) -> Provenance:
        return msgspec.structs.replace(FROM_HUB, origin=Origin(url=url), files=(Entry(path="a", size=1),))

    def test_a_copy_elsewhere_gives_the_same_statement(self) -> None:
        here, there = self.made("/srv/Qwen3", "41:7:1:9:9"), self.made("/tmp/x/Qwen3", "42:8:1:3:3")

        assert render_provenance(here, SUBJECT) == render_provenance(there, SUBJECT)

    def test_none_of_its_files_is_known_again(self) -> None:
        made = self.made("/srv/Qwen3", "41:7:1:9:9")
        read = parse_provenance(render_provenance(made, SUBJECT), SUBJECT)

        assert same_files(read, made.origin, made.files) == same_files(made, made.origin, made.files) == set()


def changed(edit: Callable[[dict[str, Any]], object]) -> bytes:
    statement = json.loads(STATEMENT)
    edit(statement)
    return canonical_json(statement)


def definition(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"]["buildDefinition"]
    return found


BROKEN: list[Callable[[dict[str, Any]], object]] = [
    lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
    lambda statement: statement.update(predicateType="https://spdx.dev/Document"),
    lambda statement: statement.update(more=1),
    lambda statement: statement["subject"].append(statement["subject"][0]),
    lambda statement: statement["subject"][0]["digest"].update(sha256="0" * 64),
    lambda statement: statement["subject"][0]["digest"].update(sha512="0" * 128),
    lambda statement: statement["predicate"]["runDetails"].update(metadata={"startedOn": "2026-01-01T00:00:00Z"}),
    lambda statement: statement["predicate"]["runDetails"]["builder"].update(id="https://github.com/actions/runner"),
    lambda statement: statement["predicate"]["runDetails"]["builder"]["version"].update(python="3.11"),
    lambda statement: definition(statement).update(buildType="https://slsa.dev/container-based-build/v0.1"),
    lambda statement: definition(statement)["externalParameters"].update(source="hf://other/model"),
    lambda statement: definition(statement)["externalParameters"].update(maxLayers="110"),
    lambda statement: definition(statement).update(resolvedDependencies=[]),
    lambda statement: definition(statement)["resolvedDependencies"].reverse(),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(name="../config.json"),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(name=""),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(name="other.json"),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(digest={"gitBlob": "x" * 40}),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(digest={"gitBlob": GIT + "\n"}),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(digest={"md5": "0" * 32}),
    lambda statement: definition(statement)["resolvedDependencies"][1].update(digest={}),
    lambda statement: definition(statement)["resolvedDependencies"][1]["annotations"].update(size=-1),
    lambda statement: definition(statement)["resolvedDependencies"][1]["annotations"].update(size=1 << 61),
    lambda statement: definition(statement)["resolvedDependencies"][1]["annotations"].update(crc64="007"),
    lambda statement: definition(statement)["resolvedDependencies"][1]["annotations"].pop("size"),
    lambda statement: definition(statement)["resolvedDependencies"].append(
        definition(statement)["resolvedDependencies"][2]
    ),
]


@pytest.mark.parametrize("edit", BROKEN, ids=range(len(BROKEN)))
def test_a_statement_that_says_anything_else_is_refused(edit: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(Invalid):
        parse_provenance(changed(edit), SUBJECT)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[" * 100_000,
        STATEMENT + b" ",
        STATEMENT.replace(b'"1.2.3"', b'"\\ud800"'),
        STATEMENT.replace(b'"1.2.3"', b'"1.2.\\u0033"'),
        STATEMENT.replace(b'"1.2.3"', b'"\xff"'),
    ],
    ids=range(7),
)
def test_a_statement_that_is_not_canonical_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_provenance(raw, SUBJECT)


@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_provenance(data, SUBJECT)


def test_a_statement_of_another_manifest_is_refused() -> None:
    with pytest.raises(Invalid, match="not of sha256"):
        parse_provenance(STATEMENT, digest_of(b"another"))


def test_a_statement_that_is_huge_is_not_read() -> None:
    with pytest.raises(Invalid, match=f"at most {MAX_STATEMENT_SIZE} are read"):
        parse_provenance(bytes(MAX_STATEMENT_SIZE + 1), SUBJECT)


def made(**stated: Any) -> Entry:
    return Entry(**{"path": "a", "size": 5, **stated})


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (made(sha256=SHA), made(sha256=SHA), True),
        (made(sha256=SHA, version="1"), made(sha256=SHA, version="2"), True),
        (made(git_sha1=GIT), made(git_sha1=GIT), True),
        (made(version="1"), made(version="1"), True),
        (made(version="1", crc64=7), made(version="1"), True),
        (made(version="1", crc64=7), made(version="1", crc64=8), False),
        (made(sha256=SHA, version="1"), made(sha256=OTHER_SHA, version="1"), False),
        (made(sha256=SHA, git_sha1=GIT), made(sha256=SHA, git_sha1=OTHER_GIT), False),
        (made(sha256=SHA), made(git_sha1=GIT), False),
        (made(version="1"), made(version="2"), False),
        (made(crc64=7), made(crc64=7), False),
        (made(), made(), False),
        (made(sha256=SHA), made(sha256=SHA, size=6), False),
        (made(version="1"), made(version="1", size=6), False),
        (made(sha256=SHA), made(sha256=SHA, path="b"), False),
    ],
    ids=range(15),
)
def test_a_file_is_the_same_when_something_says_so_and_nothing_otherwise(before: Entry, now: Entry, same: bool) -> None:
    previous = msgspec.structs.replace(FROM_HUB, files=(before,))

    assert same_files(previous, HUB, [now]) == ({now.path} if same else set())


def test_versions_of_another_source_say_nothing() -> None:
    previous = msgspec.structs.replace(FROM_HUB, files=(made(version="1"),))

    assert same_files(previous, Origin(url="oss://bucket/qwen"), [made(version="1")]) == set()


def test_a_digest_is_a_digest_wherever_it_was_stated() -> None:
    previous = msgspec.structs.replace(FROM_HUB, files=(made(sha256=SHA),))

    assert same_files(previous, Origin(url="modelscope://Qwen/Qwen3-8B"), [made(sha256=SHA)]) == {"a"}


def test_a_later_revision_keeps_the_files_that_did_not_change() -> None:
    later = Origin(url=HUB.url, revision="d" * 40)
    now = [
        msgspec.structs.replace(SHARD, version="d:1"),
        msgspec.structs.replace(CONFIG, version="d:3", git_sha1=OTHER_GIT),
    ]

    assert same_files(FROM_HUB, later, now) == {SHARD.path}


class TestAttestation:
    def test_it_names_its_subject_and_holds_the_statement(self) -> None:
        manifest = parse_manifest(render_attestation(STATEMENT, ROOT).raw)

        assert (manifest.artifact_type, manifest.config.media_type, manifest.subject) == (IN_TOTO, OCI_EMPTY, ROOT)
        assert [(layer.media_type, layer.digest, dict(layer.annotations)) for layer in manifest.layers] == [
            (IN_TOTO, digest_of(STATEMENT), {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"})
        ]

    def test_it_is_the_same_in_every_run(self) -> None:
        assert (
            render_attestation(STATEMENT, ROOT).manifest.digest
            == "sha256:00e3b39d023742fe581b591f2d0a0d28f1d31b3afc08f916d3c385997aa4e44a"
        )

    def test_what_a_store_says_of_the_subject_does_not_matter(self) -> None:
        told = msgspec.structs.replace(ROOT, annotations={"org.opencontainers.image.ref.name": "v1"})

        assert render_attestation(STATEMENT, told) == render_attestation(STATEMENT, ROOT)

    def test_the_statement_is_read_back(self) -> None:
        store = MemoryStore()
        manifest = self.stored(store)

        assert load_statement(store, manifest) == STATEMENT

    def stored(self, store: MemoryStore) -> Descriptor:
        attestation = render_attestation(STATEMENT, ROOT)
        for data in attestation.blobs:
            store.put(data, "")
        return store.put(attestation.raw, OCI_MANIFEST)

    def test_a_statement_that_was_changed_is_not_read(self) -> None:
        store = MemoryStore()
        manifest = self.stored(store)
        store.blobs[digest_of(STATEMENT)] = STATEMENT.replace(b"1.2.3", b"1.2.4")

        with pytest.raises(DigestMismatch):
            load_statement(store, manifest)

    @pytest.mark.parametrize(
        "edit",
        [
            lambda manifest: manifest.update(layers=[]),
            lambda manifest: manifest["layers"].append(manifest["layers"][0]),
            lambda manifest: manifest["layers"][0].update(mediaType="application/vnd.dev.cosign.simplesigning.v1+json"),
            lambda manifest: manifest["layers"][0].update(size=1 << 40),
        ],
        ids=["none", "two", "another", "huge"],
    )
    def test_what_is_not_one_statement_is_refused(self, edit: Callable[[dict[str, Any]], object]) -> None:
        store = MemoryStore()
        manifest = json.loads(store.blobs[self.stored(store).digest])
        edit(manifest)

        with pytest.raises(Invalid):
            load_statement(store, store.put(canonical_json(manifest), OCI_MANIFEST))
