import pytest

from modelctl.core.errors import Invalid
from modelctl.core.types import canonical_json, digest_of, parse_digest

HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    assert digest_of(b"") == f"sha256:{HEX}"


def test_a_digest_is_returned_as_it_is() -> None:
    assert parse_digest(f"sha256:{HEX}") == f"sha256:{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"sha512:{HEX}{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}\n",
        f"sha256:../../{HEX[6:]}",
    ],
)
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a digest"):
        parse_digest(text)


def test_canonical_json_sorts_keys_and_has_no_spaces() -> None:
    assert (
        canonical_json({"b": [1, {"d": "é", "c": None}], "a": True}) == '{"a":true,"b":[1,{"c":null,"d":"é"}]}'.encode()
    )
