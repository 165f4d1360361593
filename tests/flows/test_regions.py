"""Where an artifact is in a region, how it is reached there, and what `regions check` finds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelctl.core.access import Access, Login
from modelctl.core.config import Config, Region, load_config
from modelctl.core.errors import Denied, NotFound, UsageProblem
from modelctl.core.reference import parse_reference
from modelctl.flows.check_regions import check_regions, list_regions
from modelctl.flows.findings import Finding
from modelctl.flows.regions import ALL, chosen_regions, place
from modelctl.flows.stores import open_store
from tests.fakes.fault_proxy import fault_proxy, recorder
from tests.fakes.memory_registry import memory_registry
from tests.fakes.registries import Registry, free_port, make_certificate, registry, server_context
from tests.fakes.token_server import TokenServer, token_server
from tests.registries import ALICE, IMPATIENT

TWO = Config(
    regions={
        "east": Region("east.example", "models", username="alice", password="e", ca_file="/e.pem", plain_http=True),
        "west": Region("west.example:5000", trust_realm=("tokens.example",), quirks="quay"),
    }
)


@pytest.mark.parametrize(
    ("wanted", "name", "expected"),
    [
        ("qwen/qwen3-8b:v1", "east", "east.example/models/qwen/qwen3-8b:v1"),
        ("qwen/qwen3-8b", "west", "west.example:5000/qwen/qwen3-8b"),
        (parse_reference("hub.example/qwen/q:v1"), "east", "east.example/models/qwen/q:v1"),
        (parse_reference("east.example/models/qwen/q:v1"), "west", "west.example:5000/qwen/q:v1"),
        (parse_reference("east.example/models/qwen/q:v1"), "east", "east.example/models/qwen/q:v1"),
        (parse_reference("east.example/modelship/q:v1"), "west", "west.example:5000/modelship/q:v1"),
    ],
)
def test_the_name_in_a_region_is_its_namespace_and_the_name(wanted: object, name: str, expected: str) -> None:
    assert str(place(wanted, name, TWO, Access())[0]) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["hub.example/qwen/q:v1", "Qwen/Q", "", parse_reference("oci:./store:v1")])
def test_what_is_no_name_in_a_region_is_refused(wanted: object) -> None:
    with pytest.raises(UsageProblem):
        place(wanted, "east", TWO, Access())  # type: ignore[arg-type]


def test_what_the_settings_say_is_for_their_region() -> None:
    (_, east), (_, west) = (place("q", name, TWO, Access()) for name in ("east", "west"))
    assert (east, west) == (
        Access(login=Login("alice", "e", "the settings, [regions.east]"), ca_file="/e.pem", plain_http=True),
        Access(trust_realm=("tokens.example",), quirks="quay"),
    )


def test_flags_win() -> None:
    flags = Access(authfile="/a.json", ca_file="/f.pem", timeout_s=3)
    assert place("q", "east", TWO, flags)[1] == Access(
        authfile="/a.json", ca_file="/f.pem", timeout_s=3, plain_http=True
    )


def test_a_key_of_the_flags_is_not_put_beside_a_certificate_of_the_settings() -> None:
    config = Config({"a": Region("a.example", client_cert="/a.pem", client_key="/a.key")})
    access = place("q", "a", config, Access(client_key="/f.key"))[1]
    assert (access.client_cert, access.client_key) == ("", "/f.key")


def test_a_password_is_never_shown() -> None:
    assert "'e'" not in repr(place("q", "east", TWO, Access())[1])


def test_a_password_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    config = Config({"a": Region("a.example", username="alice", password_file=str(tmp_path / "password"))})
    assert place("q", "a", config, Access())[1].login == Login("alice", "s3cret", str(tmp_path / "password"))


def test_a_password_file_that_is_not_there_is_named() -> None:
    config = Config({"a": Region("a.example", username="alice", password_file="/nowhere/password")})
    with pytest.raises(NotFound, match="password file of region a, /nowhere/password"):
        place("q", "a", config, Access())


def test_all_are_every_region() -> None:
    assert chosen_regions((ALL,), TWO) == ["east", "west"]


@pytest.mark.parametrize("names", [("mars",), ("east", "mars")])
def test_a_region_that_is_not_there_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageProblem, match="mars"):
        chosen_regions(names, TWO)


def test_without_any_region_there_is_nothing_to_choose() -> None:
    with pytest.raises(UsageProblem, match="describes none"):
        chosen_regions((ALL,), Config())


@dataclass(frozen=True)
class Guards:
    """A registry behind a password and TLS, and one behind tokens, whose realm knows alice and the reader bob."""

    password: Registry
    tokens: Registry
    realm: TokenServer


@pytest.fixture(scope="module")
def guards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guards]:
    folder = tmp_path_factory.mktemp("guards")
    users = {ALICE[0]: ALICE[1], "bob": "r3ad"}
    with (
        token_server(folder, users=users, readers={"bob"}) as realm,
        registry(folder / "tokens", tokens=realm) as tokens,
        registry(folder / "password", password=ALICE[1], tls=True) as password,
    ):
        yield Guards(password, tokens, realm)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of settings, without any region yet."""
    path = tmp_path / "config.toml"
    path.write_text("")
    monkeypatch.setenv("MODELCTL_CONFIG", str(path))
    return path


def describe(settings: Path, name: str, registry: str, *more: str) -> None:
    """Add a region to the settings."""
    lines = [f"[regions.{name}]", f'registry = "{registry}"', *more, ""]
    settings.write_text(settings.read_text() + "\n".join(lines))


def guarded(guards: Guards, user: str = "alice", password: str = "s3cret") -> list[str]:
    """Return what the settings say of a region with tokens."""
    realm = guards.realm.url.removeprefix("http://")
    return [f'username = "{user}"', f'password = "{password}"', f'trust_realm = ["{realm}"]']


def found(name: str = "r", to: str = "qwen/q", access: Access = IMPATIENT) -> dict[str, Finding]:
    """Check a region; return what was found, by what was looked at."""
    (checked,) = check_regions([name], to, access)
    assert checked.ok == all(one.state != "problem" for one in checked.findings)
    return {one.check: one for one in checked.findings}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: one.state for check, one in findings.items()}


ALL_OK = dict.fromkeys(("reach", "clock", "credentials", "pull", "push"), "ok")


def test_an_open_registry_is_ready(settings: Path, plain: Registry) -> None:
    describe(settings, "r", plain.host, 'namespace = "models"')
    assert states(found()) == ALL_OK


def test_no_upload_is_left_open(settings: Path, plain: Registry, repository: str) -> None:
    describe(settings, "r", plain.host)
    found(to=repository)
    assert list((plain.root / f"docker/registry/v2/repositories/{repository}").rglob("startedat")) == []


def test_a_registry_behind_a_password_and_tls_is_ready(settings: Path, guards: Guards) -> None:
    login = ('username = "alice"', 'password = "s3cret"', f'ca_file = "{guards.password.ca_file}"')
    describe(settings, "r", guards.password.host, *login)
    assert states(found()) == ALL_OK


def test_a_registry_behind_tokens_is_ready(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.tokens.host, *guarded(guards))
    assert states(found()) == ALL_OK


def test_whose_password_is_wrong_is_told_where_it_was_found(settings: Path, guards: Guards) -> None:
    login = ('username = "alice"', 'password = "wr0ng"', f'ca_file = "{guards.password.ca_file}"')
    describe(settings, "r", guards.password.host, *login)
    findings = found()
    assert states(findings) == {"reach": "ok", "clock": "ok", "credentials": "problem"}
    assert "the settings, [regions.r]" in findings["credentials"].hint


def test_who_has_no_password_is_told_to_log_in(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.password.host, f'ca_file = "{guards.password.ca_file}"')
    assert found()["credentials"].hint == f"modelctl login {guards.password.host} -u USER"


def test_who_may_only_read_cannot_push(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.tokens.host, *guarded(guards, "bob", "r3ad"))
    findings = found()
    assert states(findings) == {**ALL_OK, "push": "problem"}
    assert "bob" in findings["push"].hint


def test_a_realm_that_is_not_trusted_is_a_problem(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.tokens.host, *guarded(guards)[:2])
    assert "--trust-realm" in found()["credentials"].hint


def test_a_certificate_that_nobody_vouches_for_is_a_problem(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.password.host)
    findings = found()
    assert states(findings) == {"tls": "problem"}
    assert "--ca-file" in findings["tls"].hint


def test_a_certificate_that_is_not_checked_is_a_warning(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.password.host, "insecure = true")
    assert found()["tls"].state == "warning"


def test_a_certificate_that_has_expired_is_a_problem(settings: Path, plain: Registry, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, days=-1)
    with fault_proxy(plain.host, tls=server_context(tmp_path)) as proxy:
        describe(settings, "r", proxy.host, f'ca_file = "{certificate}"')
        findings = found()
    assert states(findings) == {"tls": "problem"}
    assert "renew" in findings["tls"].hint


@pytest.mark.parametrize(("ahead_s", "state"), [(0, "ok"), (-100, "warning"), (3600, "problem"), (-3600, "problem")])
def test_a_clock_that_is_wrong_is_told(settings: Path, ahead_s: float, state: str) -> None:
    with memory_registry(ahead_s=ahead_s) as server:
        describe(settings, "r", server.host)
        assert found()["clock"].state == state


def test_what_is_no_registry_is_a_problem(settings: Path) -> None:
    with recorder(404) as host:
        describe(settings, "r", host.host)
        assert states(found()) == {"reach": "problem"}


def test_a_registry_where_nothing_can_be_pushed_is_a_problem(settings: Path, plain: Registry) -> None:
    with recorder(405) as closed, memory_registry() as server:
        describe(settings, "r", server.host)
        describe(settings, "closed", closed.host)
        assert states(found("closed")) == {"reach": "problem"}


def test_a_dead_region_delays_no_other(settings: Path, plain: Registry) -> None:
    describe(settings, "dead", f"127.0.0.1:{free_port()}")
    describe(settings, "live", plain.host)
    began = time.monotonic()
    dead, live = check_regions((ALL,), "q", IMPATIENT)
    assert (dead.region, dead.ok, live.region, live.ok) == ("dead", False, "live", True)
    assert time.monotonic() - began < 15


def test_without_a_name_the_rights_are_not_looked_at(settings: Path, plain: Registry) -> None:
    describe(settings, "r", plain.host)
    assert states(found(to=""))["rights"] == "warning"


def test_a_variable_that_is_not_set_is_a_problem_of_its_region_alone(settings: Path, plain: Registry) -> None:
    describe(settings, "a", "a.example", 'username = "u"', 'password = "${NOT_SET}"')
    describe(settings, "b", plain.host)
    first, second = check_regions((ALL,), "q", IMPATIENT)
    assert ([one.check for one in first.findings], second.ok) == (["settings"], True)


def test_credentials_of_a_region_reach_no_other(settings: Path, guards: Guards) -> None:
    with recorder(401, headers={"WWW-Authenticate": 'Basic realm="x"'}) as thief:
        describe(settings, "mine", guards.tokens.host, *guarded(guards))
        describe(settings, "theirs", thief.host)
        check_regions((ALL,), "q", IMPATIENT)
        assert set(thief.authorizations) == {""}


def test_a_store_of_a_region_is_opened_with_its_login(settings: Path, guards: Guards) -> None:
    describe(settings, "r", guards.tokens.host, *guarded(guards))
    reference, access = place("qwen/q:v1", "r", load_config(), IMPATIENT)
    with pytest.raises(NotFound):
        open_store(reference, access).resolve("v1")
    with pytest.raises(Denied):
        open_store(reference, IMPATIENT).resolve("v1")


def test_regions_are_listed_without_secrets(settings: Path) -> None:
    more = ('namespace = "m"', 'username = "u"', 'password = "s3cret"', 'bandwidth = "2Gbit"', "connections = 4")
    describe(settings, "r", "h.example", *more)
    listed = list_regions()
    (row,) = listed.regions
    assert (row.name, row.registry, row.namespace, row.bandwidth, row.connections) == ("r", "h.example", "m", 250e6, 4)
    assert (listed.files, "s3cret" in repr(listed)) == ([str(settings)], False)
