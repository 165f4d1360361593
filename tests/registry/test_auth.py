"""Challenges are answered with what the user has, and shown to nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from modelctl.core.errors import BadAnswer, Denied
from modelctl.registry.auth import Authenticator
from modelctl.registry.credentials import Credentials
from modelctl.registry.quirks import quirks_of

SCOPE = "repository:models/test:pull"
ALICE = Credentials("a test", "alice", "s3cret")
BASIC = "Basic YWxpY2U6czNjcmV0"
REGISTRY = "registry.example.com"
ORIGIN = f"https://{REGISTRY}"
REALM = f"{ORIGIN}/token"


@dataclass
class Realm:
    """Answers with `body` and keeps what it was asked: method, URL, headers, body."""

    body: bytes = b'{"token": "t0k3n"}'
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)

    def fetch(self, method: str, url: str, headers: dict[str, str], body: str) -> bytes:
        self.asked.append((method, url, headers, body))
        return self.body


@pytest.fixture
def realm() -> Realm:
    return Realm()


def authenticator(
    credentials: Credentials | None = ALICE, trusted: tuple[str, ...] = (), host: str = REGISTRY
) -> Authenticator:
    return Authenticator(host, lambda: credentials, quirks_of(host), trusted)


def bearer(realm: str = REALM, service: str = "test") -> str:
    return f'Bearer realm="{realm}",service="{service}"'


def answered(
    challenge: str, realm: Realm, credentials: Credentials | None = ALICE, scope: str = SCOPE, used: str | None = None
) -> str:
    return authenticator(credentials).answer(challenge, scope, ORIGIN, used, realm.fetch)


@pytest.mark.parametrize(
    "challenge", ["Basic", 'Basic realm="x"', 'basic realm="x, y"', 'BASIC realm="x",charset=UTF-8']
)
def test_basic_is_answered_with_user_and_password(realm: Realm, challenge: str) -> None:
    assert answered(challenge, realm) == BASIC


def test_a_password_outside_ascii_is_sent_as_utf8(realm: Realm) -> None:
    assert answered("Basic", realm, Credentials("a test", "zoë", "密")) == "Basic em/Dqzrlr4Y="


def test_a_password_that_was_refused_is_not_tried_again(realm: Realm) -> None:
    with pytest.raises(Denied, match="it refused the password; credentials from a test"):
        answered("Basic", realm, used=BASIC)


def test_without_credentials_basic_is_refused_with_the_command_that_helps(realm: Realm) -> None:
    with pytest.raises(Denied, match=rf"no credentials were found\n  try: modelctl login {REGISTRY} -u USER$"):
        answered("Basic", realm, None)


def test_basic_takes_no_identity_token(realm: Realm) -> None:
    with pytest.raises(Denied, match="a user and password, not an identity token; credentials from a test"):
        answered("Basic", realm, Credentials("a test", identity_token="1d"))


@pytest.mark.parametrize(
    "challenge",
    [
        f'Bearer realm="{REALM}",service="test",scope="repository:x:pull,push"',
        f'bearer realm="{REALM}", service="test"',
        f"Bearer service=test, realm={REALM}",
        f'Bearer error="invalid_token",realm="{REALM}",service="test",nothing=,nonsense',
    ],
)
def test_bearer_is_answered_with_a_token_of_the_realm(realm: Realm, challenge: str) -> None:
    assert answered(challenge, realm) == "Bearer t0k3n"


def test_the_realm_is_asked_for_the_scope_and_the_service(realm: Realm) -> None:
    answered(bearer(), realm)

    assert realm.asked[0][:2] == (
        "GET",
        f"{REALM}?service=test&scope=repository%3Amodels%2Ftest%3Apull&account=alice",
    )


def test_two_scopes_are_asked_for_one_by_one(realm: Realm) -> None:
    answered(bearer(), realm, scope="repository:a:pull repository:b:pull")

    assert (
        realm.asked[0][1]
        == f"{REALM}?service=test&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull&account=alice"
    )


def test_a_realm_with_a_query_keeps_it(realm: Realm) -> None:
    answered(bearer(f"{REALM}?a=b"), realm)

    assert realm.asked[0][1].startswith(f"{REALM}?a=b&service=test&")


def test_the_realm_gets_the_password(realm: Realm) -> None:
    answered(bearer(), realm)

    assert realm.asked[0][2] == {"Authorization": BASIC}


def test_without_credentials_the_realm_is_asked_as_nobody(realm: Realm) -> None:
    answered(bearer(), realm, None)

    assert realm.asked[0][2] == {}


def test_an_identity_token_is_posted(realm: Realm) -> None:
    answered(bearer(), realm, Credentials("a test", identity_token="1d+"))

    assert realm.asked == [
        (
            "POST",
            REALM,
            {"Content-Type": "application/x-www-form-urlencoded"},
            "grant_type=refresh_token&refresh_token=1d%2B&client_id=modelctl&service=test"
            "&scope=repository%3Amodels%2Ftest%3Apull",
        )
    ]


@pytest.mark.parametrize("body", [b'{"access_token": "a"}', b'{"token": "a", "access_token": "b", "issued_at": "x"}'])
def test_a_token_has_either_of_two_names(body: bytes) -> None:
    assert answered(bearer(), Realm(body)) == "Bearer a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"token": ""}',
        b'{"token": 5}',
        b'{"token": "a\\r\\nb"}',
        b'{"token": "\xc3\xa9"}',
        b'{"x": ' + b"[" * 100_000,
    ],
)
def test_an_answer_without_a_token_is_refused_by_the_realms_name(body: bytes) -> None:
    with pytest.raises(BadAnswer, match=f"token realm {REGISTRY}"):
        answered(bearer(), Realm(body))


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Negotiate",
        "Bearer",
        "Bearer realm=",
        'Bearer realm="',
        'Bearer realm="ftp://x/"',
        'Bearer realm="http://["',
        rf'Bearer realm="https://evil.org\\@{REGISTRY}/token"',
        rf"Bearer realm=https://evil.org\.{REGISTRY}/token",
    ],
)
def test_a_challenge_that_is_not_understood_is_refused(realm: Realm, challenge: str) -> None:
    with pytest.raises(BadAnswer, match=f"registry {REGISTRY}"):
        answered(challenge, realm)


def test_before_a_challenge_nothing_is_sent() -> None:
    assert authenticator().header(SCOPE) is None


def test_a_token_is_kept_for_its_scope(realm: Realm) -> None:
    user = authenticator()
    user.answer(bearer(), SCOPE, ORIGIN, None, realm.fetch)

    assert (user.header(SCOPE), user.header("repository:models/test:pull,push")) == ("Bearer t0k3n", None)


def test_a_password_is_good_for_every_scope(realm: Realm) -> None:
    user = authenticator()
    user.answer("Basic", SCOPE, ORIGIN, None, realm.fetch)

    assert user.header("repository:other:pull,push") == BASIC


def test_a_token_is_used_for_a_while_whatever_life_its_realm_says(realm: Realm) -> None:
    realm.body = b'{"token": "t0k3n", "expires_in": -1e9}'
    user = authenticator()
    user.answer(bearer(), SCOPE, ORIGIN, None, realm.fetch)

    assert user.header(SCOPE) == "Bearer t0k3n"


def test_a_token_that_was_refused_is_replaced(realm: Realm) -> None:
    user = authenticator()
    used = user.answer(bearer(), SCOPE, ORIGIN, None, Realm(b'{"token": "old"}').fetch)

    assert user.answer(bearer(), SCOPE, ORIGIN, used, realm.fetch) == "Bearer t0k3n"


def test_many_threads_ask_for_one_token(realm: Realm) -> None:
    user = authenticator()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: user.answer(bearer(), SCOPE, ORIGIN, None, realm.fetch), range(32)))

    assert len(realm.asked) == 1


def test_credentials_are_looked_for_once(realm: Realm) -> None:
    looked: list[str] = []

    def find() -> Credentials:
        looked.append("once")
        return ALICE

    user = Authenticator(REGISTRY, find, quirks_of(REGISTRY), ())
    user.answer(bearer(), SCOPE, ORIGIN, None, realm.fetch)
    user.answer(bearer(), "repository:other:pull", ORIGIN, None, realm.fetch)

    assert looked == ["once"]


ALLOWED = [
    (REGISTRY, "https://auth.example.com/token", ()),
    (REGISTRY, "https://EXAMPLE.com/token", ()),
    ("docker.io", "https://auth.docker.io/token", ()),
    ("a-registry.cn-hangzhou.cr.aliyuncs.com", "https://dockerauth-ee.cn-hangzhou.aliyuncs.com/auth", ()),
    (REGISTRY, "https://tokens.example.org/token", ("tokens.example.org",)),
    (REGISTRY, "https://tokens.example.org:444/token", ("tokens.example.org:444",)),
    (REGISTRY, "http://127.0.0.1:5001/token", ("127.0.0.1:5001",)),
    ("LOCALHOST:443", "https://localhost/token", ()),
    ("192.0.2.1:5000", "https://192.0.2.1:5001/token", ()),
    ("[2001:db8::1]:5000", "https://[2001:DB8::1]:5001/token", ()),
    ("[2001:db8::1]", "https://[2001:db8::2]:5001/token", ("[2001:db8::2]:5001",)),
    ("[2001:db8::1]", "https://[2001:db8::2]:5001/token", ("[2001:db8::2]",)),
    (REGISTRY, "http://[::1]:5001/token", ("[::1]",)),
]
FORBIDDEN = [
    (REGISTRY, "http://auth.example.com/token", ()),
    (REGISTRY, f"http://{REGISTRY}/token", ()),
    (REGISTRY, "https://example.com.evil.org/token", ()),
    (REGISTRY, "https://evilexample.com/token", ()),
    (REGISTRY, f"https://{REGISTRY}@evil.org/token", ()),
    (REGISTRY, f"https://alice:x@{REGISTRY}.evil.org/token", ()),
    ("registry.co.uk", "https://evil.co.uk/token", ()),
    ("me.github.io", "https://evil.github.io/token", ()),
    ("192.0.2.1", "https://192.0.2.2/token", ()),
    ("1.2.3.4", "https://9.9.3.4/token", ()),
    ("1.2.3.4:5000", "https://9.9.3.4:5000/token", ()),
    ("127.1", "https://9.127.1/token", ()),
    ("1.2.3.0x4", "https://9.9.3.0x4/token", ()),
    ("[2001:db8::1]", "https://[2001:db8::2]/token", ()),
    ("[::ffff:1.2.3.4]:5000", "https://[::ffff:9.9.3.4]:5000/token", ()),
    ("1.2.3.4", "https://[::ffff:9.9.3.4]/token", ()),
    (REGISTRY, "https://[fe80::1%25a.example.com]/token", ()),
    ("localhost", "https://localhost.evil.org/token", ()),
    (REGISTRY, "https://auth.docker.io/token", ()),
    (REGISTRY, "https://tokens.example.org:444/token", ("tokens.example.org:443",)),
    (REGISTRY, "http://tokens.example.org/token", ("tokens.example.org",)),
    (REGISTRY, "http://127.0.0.1:5001/token", ()),
]


@pytest.mark.parametrize(("host", "place", "trusted"), ALLOWED)
def test_a_realm_that_may_have_the_password_gets_it(
    realm: Realm, host: str, place: str, trusted: tuple[str, ...]
) -> None:
    user = authenticator(trusted=trusted, host=host)

    assert user.answer(bearer(place), SCOPE, f"https://{host}", None, realm.fetch) == "Bearer t0k3n"


@pytest.mark.parametrize(("host", "place", "trusted"), FORBIDDEN)
def test_a_realm_at_another_place_is_refused_and_not_asked(
    realm: Realm, host: str, place: str, trusted: tuple[str, ...]
) -> None:
    user = authenticator(trusted=trusted, host=host)
    with pytest.raises(Denied, match="sends credentials to another place"):
        user.answer(bearer(place), SCOPE, f"https://{host}", None, realm.fetch)

    assert realm.asked == []


@pytest.mark.parametrize("place", ["https://tokens.example.org/token", "http://127.0.0.1:5001/token"])
def test_a_refused_realm_is_named_with_the_flag_that_allows_it(realm: Realm, place: str) -> None:
    with pytest.raises(Denied, match=f"--trust-realm {place.split('/')[2]}"):
        answered(bearer(place), realm)


def test_a_refused_realms_own_credentials_are_not_printed(realm: Realm) -> None:
    with pytest.raises(Denied) as caught:
        answered(bearer("https://alice:s3cret@evil.org/token"), realm)

    assert "s3cret" not in str(caught.value)


def test_without_credentials_any_realm_may_be_asked(realm: Realm) -> None:
    assert answered(bearer("http://tokens.example.org/token"), realm, None) == "Bearer t0k3n"
