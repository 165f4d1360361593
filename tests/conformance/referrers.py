"""What every `Store` must do with what is attached. A subclass has a fixture `store`, an empty one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.protocols import Store
from modelctl.core.types import Descriptor, canonical_json, digest_of
from tests.conformance.stores import CONFIG, WEIGHTS, descriptor, put, put_manifest

SIGNATURE, NOTE = "application/vnd.example.signature", "application/vnd.example.note"


def attach(
    store: Store,
    subject: Descriptor,
    data: bytes = b"attached",
    artifact_type: str = SIGNATURE,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Store a manifest that names `subject`, with one layer; return its descriptor."""
    config, layer = [
        {"mediaType": item.media_type, "digest": item.digest, "size": item.size}
        for item in (put(store, CONFIG), put(store, data))
    ]
    raw = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config,
            "layers": [layer],
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": subject.size},
            "annotations": dict(annotations or {}),
        }
    )
    manifest = descriptor(raw, OCI_MANIFEST)
    store.put_manifest(manifest, raw)
    return manifest


def attached(store: Store, subject: Descriptor, artifact_type: str = "") -> list[str]:
    return [item.digest for item in store.referrers(subject.digest, artifact_type)]


class ReferrersConformance:
    def test_a_manifest_has_none_at_first(self, store: Store) -> None:
        assert attached(store, put_manifest(store, WEIGHTS)) == []

    def test_a_manifest_that_is_not_there_has_none(self, store: Store) -> None:
        put_manifest(store, WEIGHTS)

        assert attached(store, descriptor(b"elsewhere", OCI_MANIFEST)) == []

    def test_a_manifest_that_names_a_subject_is_among_its_referrers(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        manifest = attach(store, root)

        assert attached(store, root) == [manifest.digest]

    def test_a_referrer_is_described_whole(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        manifest = attach(store, root, annotations={"org.example.note": "模型"})

        assert store.referrers(root.digest) == [
            Descriptor(
                media_type=OCI_MANIFEST,
                digest=manifest.digest,
                size=manifest.size,
                artifact_type=SIGNATURE,
                annotations={"org.example.note": "模型"},
            )
        ]

    def test_one_that_names_no_artifact_type_is_of_its_configs(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        attach(store, root, artifact_type="")

        assert [item.artifact_type for item in store.referrers(root.digest)] == ["application/octet-stream"]

    def test_referrers_are_listed_by_digest(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        found = [attach(store, root, bytes([number])).digest for number in range(4)]

        assert attached(store, root) == sorted(found)

    def test_referrers_of_one_type_are_found(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        attach(store, root)
        note = attach(store, root, artifact_type=NOTE)

        assert attached(store, root, NOTE) == [note.digest]

    def test_what_is_attached_again_is_listed_once(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        manifest = attach(store, root)
        attach(store, root)

        assert attached(store, root) == [manifest.digest]

    def test_what_is_attached_to_another_is_not_listed(self, store: Store) -> None:
        root, other = put_manifest(store, WEIGHTS), put_manifest(store, CONFIG)
        attach(store, other)

        assert attached(store, root) == []

    def test_a_referrer_has_referrers(self, store: Store) -> None:
        note = attach(store, put_manifest(store, WEIGHTS), artifact_type=NOTE)
        signature = attach(store, note)

        assert attached(store, note) == [signature.digest]

    def test_it_may_come_before_its_subject(self, store: Store) -> None:
        raw = canonical_json({"schemaVersion": 2, "subject": "not here yet"})
        subject = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(raw), size=len(raw))
        manifest = attach(store, subject)

        assert attached(store, subject) == [manifest.digest]

    def test_a_referrer_may_have_a_tag_of_its_own(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        manifest = attach(store, root)
        store.tag(manifest, "v1-signature")

        assert attached(store, root) == [manifest.digest]

    def test_one_that_was_removed_is_no_longer_listed(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        kept, gone = attach(store, root, b"kept"), attach(store, root, b"gone")
        store.untag(gone.digest)

        assert attached(store, root) == [kept.digest]

    def test_none_is_lost_of_many_attached_at_once(self, store: Store) -> None:
        root = put_manifest(store, WEIGHTS)
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda number: attach(store, root, bytes([number])).digest, range(6)))

        assert attached(store, root) == sorted(found)
