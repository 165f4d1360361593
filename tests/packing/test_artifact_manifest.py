import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import Invalid
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.types import canonical_json, digest_of
from modelctl.packing.artifact import parse_manifest

OTHER = digest_of(b"other")

GOOD = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {"mediaType": "c", "digest": OTHER, "size": 2},
    "layers": [],
}

BAD = (
    {"schemaVersion": 1},
    {"schemaVersion": "2"},
    {"mediaType": "application/vnd.docker.distribution.manifest.v2+json"},
    {"config": None},
    {"config": {"mediaType": "c", "digest": OTHER}},
    {"config": {"mediaType": "c", "digest": "sha256:../../etc/passwd", "size": 2}},
    {"config": {"mediaType": "c", "digest": OTHER, "size": -1}},
    {"config": {"mediaType": "c", "digest": OTHER, "size": 1.5}},
    {"layers": None},
    {"layers": [{"mediaType": "l", "digest": "sha512:" + "0" * 128, "size": 1}]},
    {"layers": [{"mediaType": "l", "digest": OTHER, "size": -1}]},
    {"layers": [{"mediaType": "l", "digest": OTHER, "size": 1, "annotations": {"a": 1}}]},
    {"annotations": []},
)


def test_the_manifest_that_those_are_made_of_is_good() -> None:
    assert parse_manifest(canonical_json(GOOD)).config.digest == OTHER


@pytest.mark.parametrize("change", BAD, ids=json.dumps)
def test_a_bad_manifest_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        parse_manifest(canonical_json(GOOD | change))


@given(raw=st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_manifest(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(OTHER),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "annotations", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(changes=st.dictionaries(st.sampled_from([*GOOD, "subject", "annotations", "artifactType", "x"]), values))
def test_any_json_is_a_checked_manifest_or_refused(changes: dict[str, object]) -> None:
    try:
        manifest = parse_manifest(json.dumps(GOOD | changes).encode())
    except Invalid:
        return
    assert all(descriptor.size >= 0 for descriptor in (manifest.config, *manifest.layers))


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"config":' * 200_000])
def test_a_manifest_nested_deeply_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_manifest(raw)
