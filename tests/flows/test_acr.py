"""Regions whose registry is an instance of ACR: its API gives the login, which goes to the region's registry alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from modelctl.core.acr import ENDPOINT
from modelctl.core.config import load_config
from modelctl.core.errors import Denied, ModelctlError
from modelctl.core.reference import parse_reference
from modelctl.flows.check_regions import check_regions, list_regions
from modelctl.flows.push_regions import push_regions
from modelctl.flows.region_jobs import RegionOptions
from modelctl.flows.region_report import RegionsReport, Watcher
from modelctl.flows.regions import place
from modelctl.flows.stores import open_store
from modelctl.registry.credentials import save_credentials
from tests.conformance.stores import put_manifest
from tests.fakes.acr import INSTANCE, KEY_ID, SECRET, AcrApi, acr_api
from tests.fakes.fault_proxy import fault_proxy, recorder
from tests.fakes.registries import Registry, registry
from tests.fakes.token_server import TokenServer, token_server
from tests.flows.regional import Settings
from tests.registries import ALICE, IMPATIENT, push_to

INSTANCE_LINES = (f'acr = {{instance_name = "models", region = "cn-beijing", instance_id = "{INSTANCE}"}}',)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AcrApi]:
    """The API, and keys that it knows."""
    with acr_api() as api:
        monkeypatch.setenv(ENDPOINT, api.url)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)
        yield api


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, TokenServer]]:
    """A registry with a token realm."""
    folder = tmp_path_factory.mktemp("tokens")
    with token_server(folder) as realm, registry(folder / "registry", tokens=realm) as server:
        yield server, realm


@pytest.fixture
def realm(tokens: tuple[Registry, TokenServer], api: AcrApi, settings: Settings) -> TokenServer:
    """The realm of the region `beijing`, which takes the last login that the API gave, and no other."""
    server, realm = tokens

    def give(number: int) -> tuple[str, str]:
        realm.users = {"cr_temp_user": f"temporary-{number}"}
        return "cr_temp_user", f"temporary-{number}"

    realm.users, realm.requests, api.give = {}, [], give
    host = realm.url.removeprefix("http://")
    settings.add("beijing", server.host, *INSTANCE_LINES, f'trust_realm = ["{host}"]')
    return realm


@pytest.fixture
def other(settings: Settings, plain: Registry) -> None:
    """A region that is no instance of ACR."""
    settings.add("other", plain.host)


@pytest.fixture
def source(packed: Path) -> str:
    return f"oci:{packed}:v1"


def push(source: str, to: str) -> tuple[RegionsReport, dict[str, ModelctlError]]:
    return push_regions(parse_reference(source), to, ("all",), RegionOptions(access=IMPATIENT), Watcher())


def states(found: tuple[RegionsReport, dict[str, ModelctlError]]) -> dict[str, str]:
    return {row.region: row.state for row in found[0].regions}


def test_a_push_to_a_registry_with_tokens_needs_no_login_of_ones_own(
    realm: TokenServer, api: AcrApi, source: str, repository: str
) -> None:
    assert (states(push(source, f"{repository}:v1")), len(api.requests)) == ({"beijing": "Pushed"}, 1)


def test_a_push_to_a_registry_with_passwords_needs_none_either(
    settings: Settings, api: AcrApi, tmp_path: Path, source: str, repository: str
) -> None:
    api.give = lambda number: ALICE
    with registry(tmp_path / "registry", password=ALICE[1], tls=True) as server:
        settings.add("beijing", server.host, *INSTANCE_LINES, f'ca_file = "{server.ca_file}"')
        found = states(push(source, f"{repository}:v1"))

    assert (found, len(api.requests)) == ({"beijing": "Pushed"}, 1)


def test_a_login_that_the_realm_refuses_is_replaced(realm: TokenServer, api: AcrApi, repository: str) -> None:
    reference, access = place(f"{repository}:v1", "beijing", load_config(), IMPATIENT)
    store = open_store(reference, access)
    store.has(put_manifest(store, b"weights"))
    realm.users = {}
    other = open_store(parse_reference(f"{reference.registry}/{repository}-other"), access)
    put_manifest(other, b"weights")

    assert api.given == ["temporary-1", "temporary-2"]


def test_a_password_that_the_registry_refuses_is_replaced(
    settings: Settings, api: AcrApi, tmp_path: Path, repository: str
) -> None:
    api.give = lambda number: ("alice", f"temporary-{number}")
    with registry(tmp_path / "registry", password="temporary-1") as server:
        settings.add("beijing", server.host, *INSTANCE_LINES)
        reference, access = place(f"{repository}:v1", "beijing", load_config(), IMPATIENT)
        store = open_store(reference, access)
        put_manifest(store, b"weights")
        hashed = bcrypt.hashpw(b"temporary-2", bcrypt.gensalt(4)).decode()
        (server.root / "htpasswd").write_text(f"alice:{hashed}\n")
        put_manifest(store, b"other weights")

    assert api.given == ["temporary-1", "temporary-2"]


def test_a_login_that_is_refused_again_is_the_regions_failure(
    realm: TokenServer, api: AcrApi, other: None, source: str, repository: str
) -> None:
    api.give = lambda number: ("cr_temp_user", "unknown-there")
    report, errors = push(source, f"{repository}:v1")

    assert (report.regions[1].state, type(errors["beijing"])) == ("Pushed", Denied)


def test_without_permission_that_region_says_what_was_asked_and_what_to_do(
    realm: TokenServer, api: AcrApi, other: None, source: str, repository: str
) -> None:
    api.allowed = set()
    report, _ = push(source, f"{repository}:v1")
    failed, other = report.regions

    assert (
        other.state,
        f"region beijing: temporary credentials of ACR {INSTANCE}" in failed.why,
        "GetAuthorizationToken: it answered 403 NoPermission" in failed.why,
        "allow cr:GetAuthorizationToken" in failed.hint,
    ) == ("Pushed", True, True, True)


def test_a_login_goes_to_its_regions_registry_alone(
    settings: Settings, api: AcrApi, plain: Registry, source: str, repository: str
) -> None:
    push_to(source, f"{plain.host}/{repository}-origin:v1")
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    with recorder(401, headers=challenge) as beijing, recorder(401, headers=challenge) as other:
        with fault_proxy(plain.host) as origin:
            settings.add("beijing", beijing.host, *INSTANCE_LINES)
            settings.add("other", other.host)
            push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1")

    given = {f"Basic {base64.b64encode(f'cr_temp_user:{one}'.encode()).decode()}" for one in api.given}
    assert (set(beijing.authorizations), set(other.authorizations), set(origin.authorizations)) == (
        {"", *given},
        {""},
        {""},
    )


def test_what_the_settings_say_of_the_user_wins(
    settings: Settings, api: AcrApi, tmp_path: Path, source: str, repository: str
) -> None:
    with registry(tmp_path / "registry", password=ALICE[1]) as server:
        user = (f'username = "{ALICE[0]}"', f'password = "{ALICE[1]}"')
        settings.add("beijing", server.host, *INSTANCE_LINES, *user)
        found = states(push(source, f"{repository}:v1"))

    assert (found, api.requests) == ({"beijing": "Pushed"}, [])


def test_a_file_of_credentials_wins(
    settings: Settings, api: AcrApi, tmp_path: Path, source: str, repository: str
) -> None:
    with registry(tmp_path / "registry", password=ALICE[1]) as server:
        save_credentials(server.host, *ALICE, str(tmp_path / "auth.json"))
        settings.add("beijing", server.host, *INSTANCE_LINES, f'authfile = "{tmp_path}/auth.json"')
        found = states(push(source, f"{repository}:v1"))

    assert (found, api.requests) == ({"beijing": "Pushed"}, [])


def test_the_list_of_regions_says_where_the_login_is_from(realm: TokenServer) -> None:
    assert [row.credentials for row in list_regions().regions] == ["acr"]


def test_a_region_is_examined_with_its_login(realm: TokenServer, repository: str) -> None:
    (checked,) = check_regions(("all",), repository, IMPATIENT)
    found = {one.check: one for one in checked.findings}

    assert (checked.ok, found["push"].state, "cr_temp_user, from the API of ACR" in found["credentials"].seen) == (
        True,
        "ok",
        True,
    )
