import pytest

from modelctl.core.errors import UsageProblem
from modelctl.core.reference import Reference, check_tag, parse_reference
from modelctl.core.types import Digest

DIGEST = Digest("sha256:" + "ab" * 32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:store", Reference("store")),
        ("oci:./store:v1", Reference("./store", "v1")),
        ("oci:/a:b/store", Reference("/a:b/store")),
        ("oci:/a:b/store:v1", Reference("/a:b/store", "v1")),
        (f"oci:store@{DIGEST}", Reference("store", "", DIGEST)),
        (f"oci:store:v1@{DIGEST}", Reference("store", "v1", DIGEST)),
        ("oci:store:" + "t" * 128, Reference("store", "t" * 128)),
    ],
)
def test_a_reference_is_a_path_a_tag_and_a_digest(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["oci:store", "oci:/a:b/store:v1", f"oci:store@{DIGEST}", f"oci:store:v1@{DIGEST}"])
def test_a_reference_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize(
    "text", ["", "store:v1", "oci:", "oci::v1", "oci:store:", "oci:store:-v", "oci:s:a b", "127.0.0.1:65536/a:v1"]
)
def test_what_is_not_a_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="not a reference"):
        parse_reference(text)


def test_a_malformed_digest_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"not a reference: 'oci:store@sha256:abc'\n.*is not a digest"):
        parse_reference("oci:store@sha256:abc")


def test_a_digest_goes_before_a_tag() -> None:
    assert parse_reference(f"oci:store:v1@{DIGEST}").name == DIGEST


@pytest.mark.parametrize("tag", ["", ".v1", "-v1", "a/b", "a:b", "t" * 129, "v1\n"])
def test_what_is_not_a_tag_is_refused(tag: str) -> None:
    with pytest.raises(UsageProblem, match="not a tag"):
        check_tag(tag)
