"""Who may do what at real registries: by password, by tokens that end, as nobody; and who sees the password."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, UsageProblem
from modelctl.core.protocols import BytesBlob
from modelctl.core.types import digest_of
from modelctl.flows.login import Kept, log_in, log_out
from modelctl.registry.credentials import save_credentials
from modelctl.registry.remote import RemoteStore
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, descriptor, put, read
from tests.fakes.docker_config import write
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.registries import Registry
from tests.registries import ALICE
from tests.registry.conftest import Guarded


@pytest.fixture
def store(guarded: Guarded, repository: str, alice: Access) -> RemoteStore:
    """A repository whose registry wants tokens, as alice sees it."""
    return RemoteStore(Transport(guarded.host, alice), repository)


def anonymous(guarded: Guarded, repository: str) -> RemoteStore:
    return RemoteStore(Transport(guarded.host, Access(authfile="/nowhere", timeout_s=5)), repository)


def test_with_a_token_a_blob_goes_in_and_out(store: RemoteStore) -> None:
    assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_one_token_is_asked_for_each_scope(store: RemoteStore, guarded: Guarded) -> None:
    for number in range(3):
        read(store, put(store, WEIGHTS[number:]))

    assert [request["scope"] for request in guarded.realm.requests] == [
        f"repository:{store.name}:pull,push",
        f"repository:{store.name}:pull",
    ]


def test_a_blob_of_another_repository_is_mounted_with_a_token_for_both(store: RemoteStore) -> None:
    blob = put(store, WEIGHTS)

    assert RemoteStore(store.transport, f"{store.name}-copy").mount(blob, store.name)


def test_a_token_that_ends_in_the_middle_of_an_upload_is_renewed(store: RemoteStore, guarded: Guarded) -> None:
    guarded.realm.life_s = -58  # distribution forgives a minute
    with store.upload(BytesBlob(WEIGHTS)) as upload:
        upload.write(WEIGHTS)
        guarded.realm.life_s = 300
        time.sleep(2.1)
        upload.commit(digest_of(WEIGHTS))

    assert len(guarded.realm.requests) == 2


@pytest.mark.parametrize("struck", ["^PATCH", "^PUT", "^POST", "^GET .*blobs", "^HEAD"])
def test_a_token_that_is_refused_once_is_renewed(
    guarded: Guarded, repository: str, authfile: str, alice: Access, struck: str
) -> None:
    headers = {"WWW-Authenticate": f'Bearer realm="{guarded.realm.url}/token",service="test-registry"'}
    with fault_proxy(guarded.host, Fault(struck, "status", status=401, headers=headers)) as proxy:
        save_credentials(proxy.host, *ALICE, authfile)
        store = RemoteStore(Transport(proxy.host, alice), repository)
        blob = put(store, WEIGHTS)

        assert (store.has(blob), read(store, blob)) == (True, WEIGHTS)


def test_an_identity_token_gets_tokens(guarded: Guarded, repository: str, authfile: str) -> None:
    write(Path(authfile), auths={guarded.host: {"identitytoken": "identity-1"}})
    access = Access(authfile=authfile, trust_realm=(guarded.realm_host,))
    store = RemoteStore(Transport(guarded.host, access), repository)

    assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_where_anybody_may_pull_nobody_is_asked_for_credentials(store: RemoteStore, guarded: Guarded) -> None:
    blob = put(store, WEIGHTS)
    guarded.realm.anonymous_pull = True

    assert read(anonymous(guarded, store.name), blob) == WEIGHTS


def test_where_anybody_may_pull_nobody_may_push_without_credentials(guarded: Guarded, repository: str) -> None:
    guarded.realm.anonymous_pull = True

    with pytest.raises(Denied, match="no credentials were found"):
        put(anonymous(guarded, repository), WEIGHTS)


def test_a_realm_that_wants_credentials_says_so(guarded: Guarded, repository: str) -> None:
    with pytest.raises(Denied, match=rf"{guarded.realm_host}/token answered 401; no credentials were found"):
        anonymous(guarded, repository).tags()


def test_a_wrong_password_is_tried_once_at_the_realm(store: RemoteStore, guarded: Guarded, authfile: str) -> None:
    save_credentials(guarded.host, "alice", "wrong", authfile)
    with pytest.raises(Denied):
        store.tags()

    assert len(guarded.realm.requests) == 1


def test_a_wrong_password_at_the_realm_says_where_it_is_from(
    store: RemoteStore, guarded: Guarded, authfile: str
) -> None:
    save_credentials(guarded.host, "alice", "wr0ng", authfile)

    with pytest.raises(Denied, match=rf"credentials from {authfile}, auths\['{guarded.host}'\]"):
        store.tags()


def test_a_realm_that_was_not_trusted_is_not_asked(guarded: Guarded, repository: str, authfile: str) -> None:
    save_credentials(guarded.host, *ALICE, authfile)
    with pytest.raises(Denied, match=f"--trust-realm {guarded.realm_host}"):
        RemoteStore(Transport(guarded.host, Access(authfile=authfile)), repository).tags()

    assert guarded.realm.requests == []


def challenging(realm: str) -> Fault:
    headers = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    return Fault("", "status", status=401, headers=headers, times=99)


def test_a_realm_elsewhere_sees_no_credentials(plain: Registry, authfile: str) -> None:
    with recorder() as other, fault_proxy(plain.host, challenging(f"http://{other.host}/token")) as proxy:
        save_credentials(proxy.host, *ALICE, authfile)
        with pytest.raises(Denied, match="another place"):
            RemoteStore(Transport(proxy.host, Access(authfile=authfile)), "x").tags()

        assert other.requests == []


def test_a_realm_that_redirects_is_not_followed(plain: Registry, authfile: str) -> None:
    with recorder() as other, recorder(307, headers={"Location": f"http://{other.host}/"}) as realm:
        with fault_proxy(plain.host, challenging(f"http://{realm.host}/token")) as proxy:
            save_credentials(proxy.host, *ALICE, authfile)
            access = Access(authfile=authfile, trust_realm=(realm.host,))
            with pytest.raises(BadAnswer, match="307"):
                RemoteStore(Transport(proxy.host, access), "x").tags()

        assert other.requests == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"{}", b'{"token": "a\\u0000b"}', b'{"token": "%s"}' % (b"x" * (2 << 20))],
    ids=["empty", "html", "no-token", "control", "huge"],
)
def test_a_realm_that_gives_no_token_is_refused(store: RemoteStore, guarded: Guarded, answer: bytes) -> None:
    guarded.realm.answer = answer

    with pytest.raises(BadAnswer, match=f"token realm .*{guarded.realm_host}"):
        store.tags()


def test_a_realm_that_is_busy_is_asked_again(guarded: Guarded, plain: Registry, authfile: str) -> None:
    busy = Fault("token", "status", status=503, headers={"Retry-After": "0"})
    with fault_proxy(guarded.realm_host, busy) as realm, fault_proxy(guarded.host) as proxy:
        proxy.faults.append(challenging(f"http://{realm.host}/token?service=test-registry"))
        proxy.faults[0].times = 1
        save_credentials(proxy.host, *ALICE, authfile)
        store = RemoteStore(Transport(proxy.host, Access(authfile=authfile, trust_realm=(realm.host,))), "x")
        with pytest.raises(NotFound):
            store.tags()

        assert len(realm.requests) == 2


def basic(server: Registry, authfile: str, password: str, repository: str = "x") -> RemoteStore:
    save_credentials(server.host, "alice", password, authfile)
    return RemoteStore(Transport(server.host, Access(authfile=authfile, ca_file=str(server.ca_file))), repository)


def test_with_a_password_a_blob_goes_in_and_out(htpasswd: Registry, authfile: str, repository: str) -> None:
    store = basic(htpasswd, authfile, ALICE[1], repository)

    assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_a_registry_that_writes_its_name_otherwise_is_sent_the_password(
    htpasswd: Registry, authfile: str, repository: str
) -> None:
    host = htpasswd.host.replace("127.0.0.1", "LOCALHOST")
    save_credentials(host, *ALICE, authfile)
    store = RemoteStore(Transport(host, Access(authfile=authfile, insecure=True)), repository)

    assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_a_wrong_password_fails_with_where_it_is_from(htpasswd: Registry, authfile: str) -> None:
    with pytest.raises(Denied, match=rf"it refused the password; credentials from {authfile}"):
        basic(htpasswd, authfile, "wr0ng").tags()


def test_without_a_password_the_error_says_how_to_log_in(htpasswd: Registry) -> None:
    access = Access(authfile="/nowhere", ca_file=str(htpasswd.ca_file))

    with pytest.raises(Denied, match=f"modelctl login {htpasswd.host}"):
        RemoteStore(Transport(htpasswd.host, access), "x").tags()


def test_a_wrong_password_is_sent_once(authfile: str) -> None:
    with recorder(401, headers={"WWW-Authenticate": "Basic"}) as server:
        save_credentials(server.host, "alice", "wr0ng", authfile)
        with pytest.raises(Denied):
            RemoteStore(Transport(server.host, Access(authfile=authfile)), "x").tags()

        assert [bool(header) for header in server.authorizations] == [False, True]


def test_no_error_of_a_refusal_holds_the_password(htpasswd: Registry, authfile: str) -> None:
    with pytest.raises(ModelctlError) as caught:
        basic(htpasswd, authfile, "wr0ng").tags()

    assert "wr0ng" not in f"{caught.value!r} {caught.value}"


def test_a_login_that_the_registry_took_is_kept(htpasswd: Registry, authfile: str) -> None:
    access = Access(authfile=authfile, ca_file=str(htpasswd.ca_file))
    log_in(htpasswd.host, *ALICE, access)

    assert RemoteStore(Transport(htpasswd.host, access), "x").has(descriptor(WEIGHTS)) is False


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_login_that_the_registry_refused_is_not_kept(htpasswd: Registry, authfile: str, user: str) -> None:
    with pytest.raises(Denied):
        log_in(htpasswd.host, user, "wr0ng", Access(authfile=authfile, ca_file=str(htpasswd.ca_file)))

    assert not Path(authfile).exists()


def test_a_login_with_tokens_is_tried_at_the_realm(guarded: Guarded, authfile: str) -> None:
    access = Access(authfile=authfile, trust_realm=(guarded.realm_host,))
    with pytest.raises(Denied, match="answered 401"):
        log_in(guarded.host, "alice", "wr0ng", access)

    assert not Path(authfile).exists()


def test_a_login_that_the_realm_took_is_kept(guarded: Guarded, authfile: str) -> None:
    access = Access(authfile=authfile, trust_realm=(guarded.realm_host,))

    assert log_in(guarded.host, *ALICE, access) == Kept(guarded.host, ALICE[0], authfile, tried=True)


def test_a_login_that_nobody_asked_for_is_kept_and_not_said_to_be_tried(plain: Registry, authfile: str) -> None:
    kept = log_in(plain.host, *ALICE, Access(authfile=authfile))

    assert (kept.tried, Path(authfile).exists()) == (False, True)


@pytest.mark.parametrize("guard", ["htpasswd", "guarded"])
def test_a_refused_login_names_no_file_and_not_itself(
    request: pytest.FixtureRequest, guarded: Guarded, authfile: str, guard: str
) -> None:
    server = request.getfixturevalue(guard)
    access = Access(authfile=authfile, trust_realm=(guarded.realm_host,), insecure=True)

    with pytest.raises(Denied, match=r"; credentials from this login\n  try: check the user and the password$"):
        log_in(server.host, "alice", "wr0ng", access)


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("alice", ""), ("al\udcff", "x"), ("alice", "s\udcff")])
def test_a_login_with_nothing_is_refused(htpasswd: Registry, authfile: str, user: str, password: str) -> None:
    with pytest.raises(UsageProblem):
        log_in(htpasswd.host, user, password, Access(authfile=authfile))


def test_after_a_logout_the_registry_refuses(htpasswd: Registry, authfile: str) -> None:
    access = Access(authfile=authfile, ca_file=str(htpasswd.ca_file))
    log_in(htpasswd.host, *ALICE, access)
    log_out(htpasswd.host, access)

    with pytest.raises(Denied):
        RemoteStore(Transport(htpasswd.host, access), "x").tags()


def test_a_logout_without_a_login_is_not_found(htpasswd: Registry, authfile: str) -> None:
    with pytest.raises(NotFound):
        log_out(htpasswd.host, Access(authfile=authfile))


def test_a_redirect_elsewhere_takes_no_credentials_along(guarded: Guarded, authfile: str, alice: Access) -> None:
    with recorder() as other:
        leave = Fault("^GET .*blobs", "redirect", headers={"Location": f"http://{other.host}/x"})
        with fault_proxy(guarded.host, leave) as proxy:
            save_credentials(proxy.host, *ALICE, authfile)
            store = RemoteStore(Transport(proxy.host, alice), "x")
            blob = put(store, WEIGHTS)
            with pytest.raises(NotFound), closing(store.open(blob)) as opened:
                opened.read_into(0, memoryview(bytearray(10)))

        assert other.authorizations == [""]
