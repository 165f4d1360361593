import base64
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import oss2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.aliyun import Keys
from modelctl.core.oss_api import SIGNED_S, Listed, Page, Request, Signed, parse_error, parse_page, sign

KEYS = Keys("LTAI-key", "a-secret")
NOW = 1_790_000_000.0
REGION = "cn-hangzhou"

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
requests = st.builds(
    Request,
    st.sampled_from(["GET", "HEAD"]),
    st.just("models-poc"),
    names | st.just(""),
    st.dictionaries(st.sampled_from(["list-type", "prefix", "continuation-token", "max-keys"]), names),
    st.dictionaries(st.sampled_from(["range", "if-match", "x-oss-range-behavior"]), visible),
)
keys = st.builds(Keys, visible, names.map(str.strip).filter(bool), visible | st.just(""))


class Provider:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def get_credentials(self) -> oss2.credentials.Credentials:
        return oss2.credentials.Credentials(self._keys.key_id, self._keys.secret, self._keys.token)


def signed_by_oss2(auth: type, asked: Request, keys: Keys) -> dict[str, str]:
    """What the SDK sends, less what it says of itself."""
    request = oss2.http.Request(
        asked.method, "http://x", params=dict(asked.query), headers=dict(asked.headers), region=REGION, product="oss"
    )
    auth(Provider(keys))._sign_request(request, asked.bucket, asked.key)
    sent = {name.lower(): value for name, value in request.headers.items()}
    return {name: value for name, value in sent.items() if name not in ("user-agent", "accept-encoding")}


class TestSignatures:
    @given(requests, keys)
    def test_v4_is_that_of_oss2(self, request_: Request, keys: Keys) -> None:
        theirs = signed_by_oss2(oss2.ProviderAuthV4, request_, keys)
        then = datetime.strptime(theirs["x-oss-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        assert sign(request_, keys, REGION, then.timestamp()) == theirs

    @given(requests, keys)
    def test_v1_is_that_of_oss2(self, request_: Request, keys: Keys) -> None:
        theirs = signed_by_oss2(oss2.ProviderAuth, request_, keys)
        then = parsedate_to_datetime(theirs["date"])
        assert sign(request_, keys, "", then.timestamp()) == theirs


class TestSigned:
    @pytest.fixture
    def signed(self) -> Signed:
        return Signed(Request("GET", "models-poc", "a/b", headers={"if-match": "x"}), REGION)

    def test_it_is_signed_once_for_a_while(self, signed: Signed) -> None:
        first = signed.headers(KEYS, NOW)
        assert first == sign(signed.request, KEYS, REGION, NOW)
        assert signed.headers(KEYS, NOW + SIGNED_S - 1) is first

    @pytest.mark.parametrize("now", [NOW + SIGNED_S, NOW + 86400, NOW - 1])
    def test_an_old_signature_is_made_anew_and_one_of_the_future(self, signed: Signed, now: float) -> None:
        signed.headers(KEYS, NOW)
        assert signed.headers(KEYS, now) == sign(signed.request, KEYS, REGION, now)

    def test_other_keys_sign_at_once(self, signed: Signed) -> None:
        signed.headers(KEYS, NOW)
        other = Keys("other", "secret", "token")
        assert signed.headers(other, NOW) == sign(signed.request, other, REGION, NOW)

    def test_a_strangers_request_is_not_signed(self, signed: Signed) -> None:
        assert signed.headers(None, NOW) == {"if-match": "x"}


def page(*, key: str = "a", size: str = "1", etag: str = '"E"', more: str = "false", extra: str = "") -> bytes:
    row = f"<Contents><Key>{key}</Key><ETag>{etag}</ETag><Type>Normal</Type><Size>{size}</Size></Contents>"
    return f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{extra}{row}</ListBucketResult>".encode()


class TestPages:
    def test_names_are_decoded_where_they_are_encoded(self) -> None:
        encoded = "<EncodingType>url</EncodingType><NextContinuationToken>t%3D</NextContinuationToken>"
        assert parse_page(page(key="a%2Fb", more="true", extra=encoded)) == Page(
            [Listed("a/b", 1, "E", "Normal")], True, "t="
        )
        assert parse_page(page(key="a%2Fb")).objects[0].key == "a%2Fb"

    @pytest.mark.parametrize("size", ["", "-1", "1.5", "²"])
    def test_a_size_is_a_number(self, size: str) -> None:
        with pytest.raises(ValueError, match="size"):
            parse_page(page(size=size))

    @pytest.mark.parametrize("etag", ["a\nb", "é"])
    def test_an_etag_can_stand_in_a_header(self, etag: str) -> None:
        with pytest.raises(ValueError, match="ETag"):
            parse_page(page(etag=etag))

    def test_entities_that_grow_are_no_listing(self) -> None:
        entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 100}">' for n in range(9))
        bomb = f'<!DOCTYPE x [<!ENTITY e0 "eeee">{entities}]>'.encode() + page(key="&e9;")
        with pytest.raises(ValueError, match="DOCTYPE"):
            parse_page(bomb)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_a_listing_has_no_dtd(self, encoding: str) -> None:
        text = '<!DOCTYPE x [<!ENTITY e "abc">]>' + page(key="&e;").decode()
        with pytest.raises(ValueError, match="DOCTYPE"):
            parse_page(text.encode(encoding))


class TestErrors:
    def test_one_is_read_from_the_body_or_a_header(self) -> None:
        body = b"<Error><Code>NoSuchKey</Code><Message>gone</Message><EC/></Error>"
        read = {"Code": "NoSuchKey", "Message": "gone", "EC": ""}
        assert parse_error(body, {}) == read
        assert parse_error(b"", {"x-oss-err": base64.b64encode(body).decode()}) == read

    def test_of_long_texts_it_is_the_beginning_in_a_line(self) -> None:
        body = f"<Error><Code>{'x' * 1000}</Code><Endpoint>a\n b</Endpoint></Error>".encode()
        assert parse_error(body, {}) == {"Code": "x" * 300, "Endpoint": "a b"}

    @pytest.mark.parametrize(
        "body", [b"", b"<html/>", b"<Error><Code>", b"no", b"<!DOCTYPE Error><Error><Code>x</Code></Error>"]
    )
    def test_what_is_none_says_nothing(self, body: bytes) -> None:
        assert parse_error(body, {"x-oss-err": "?"}) == {}
