"""Docker's config file and credential helpers, as docker itself uses them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import Denied, DiskProblem, Invalid, ModelctlError
from modelctl.registry.credentials import Credentials, find_credentials
from tests.fakes.docker_config import AUTH, HOST, found, install, write


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"http://{HOST}"])
def test_a_registry_is_found_under_its_name_or_its_url(config: Path, key: str) -> None:
    write(config, auths={key: {"auth": AUTH}})

    assert found() == ("alice", "s3:cret", "")


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io"])
def test_docker_hub_is_found_under_any_of_its_keys(config: Path, key: str) -> None:
    write(config, auths={key: {"auth": AUTH}})

    assert found("docker.io") == ("alice", "s3:cret", "")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "alice", "password": "s3cret"}, ("alice", "s3cret", "")),
        ({"auth": AUTH, "identitytoken": "1d"}, ("", "", "1d")),
        ({"auth": AUTH, "email": "x"}, ("alice", "s3:cret", "")),
        ({}, None),
        ({"auth": ""}, None),
    ],
)
def test_an_entry_has_one_of_three_forms(config: Path, entry: dict[str, str], expected: object) -> None:
    write(config, auths={HOST: entry})

    assert found() == expected


@pytest.mark.parametrize("host", ["registry.example.com", "other.example.com:5000", "example.com:5000"])
def test_another_registry_has_none_of_it(config: Path, host: str) -> None:
    write(config, auths={HOST: {"auth": AUTH}})

    assert found(host) is None


def test_without_a_config_file_there_are_none(config: Path) -> None:
    assert found() is None


def test_an_authfile_stands_in_for_dockers_config(config: Path, tmp_path: Path) -> None:
    write(config, auths={HOST: {"auth": AUTH}})
    write(tmp_path / "auth.json", auths={HOST: {"username": "bob", "password": "x"}})

    assert find_credentials(HOST, str(tmp_path / "auth.json")) == Credentials(
        f"{tmp_path}/auth.json, auths[{HOST!r}]", "bob", "x"
    )


def test_credentials_say_where_they_are_from(config: Path) -> None:
    write(config, auths={f"https://{HOST}": {"auth": AUTH}})
    credentials = find_credentials(HOST)

    assert credentials is not None
    assert credentials.origin == f"{config}, auths['https://{HOST}']"


def test_credentials_do_not_print_their_secrets() -> None:
    assert "s3cret" not in repr(Credentials("here", "alice", "s3cret", "s3cret"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', "null", '{"auths": []}', '{"auths": {"x": "y"}}', '{"credHelpers": "x"}'],
)
def test_a_config_that_is_malformed_is_named(config: Path, text: str) -> None:
    config.write_text(text)

    with pytest.raises(Invalid, match=str(config)):
        find_credentials(HOST)


def test_a_config_that_is_not_utf8_is_named(config: Path) -> None:
    config.write_bytes(b'{"auths": {"\xff": {}}}')

    with pytest.raises(Invalid, match=str(config)):
        find_credentials(HOST)


@pytest.mark.parametrize("auth", ["%%%", "YWxpY2U", base64.b64encode(b"alice").decode(), "/w==", 5])
def test_an_auth_that_is_not_user_and_password_is_named(config: Path, auth: object) -> None:
    write(config, auths={HOST: {"auth": auth}})

    with pytest.raises(Invalid, match=r"auths\['registry.example.com:5000'\]\n.*\n  try: log in again"):
        find_credentials(HOST)


def test_a_config_that_cannot_be_read_is_a_problem_of_the_disk(config: Path) -> None:
    config.mkdir()

    with pytest.raises((DiskProblem, Denied), match=str(config)):
        find_credentials(HOST)


@pytest.mark.parametrize("setting", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_a_helper_is_asked(config: Path, keychain: Path, setting: dict[str, Any]) -> None:
    write(config, **setting)
    write(keychain, **{HOST: {"Username": "alice", "Secret": "s3cret"}})

    assert found() == ("alice", "s3cret", "")


def test_a_registrys_own_helper_goes_before_the_common_one(config: Path, keychain: Path) -> None:
    write(config, credsStore="missing", credHelpers={HOST: "test"})
    write(keychain, **{HOST: {"Username": "alice", "Secret": "s3cret"}})

    assert found() == ("alice", "s3cret", "")


def test_a_helper_is_asked_for_docker_hub_by_its_old_url(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")
    write(keychain, **{"https://index.docker.io/v1/": {"Username": "alice", "Secret": "s3cret"}})

    assert found("docker.io") == ("alice", "s3cret", "")


def test_a_helper_may_give_an_identity_token(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")
    write(keychain, **{HOST: {"Username": "<token>", "Secret": "1d"}})

    assert found() == ("", "", "1d")


def test_where_a_helper_knows_nothing_the_file_is_read(config: Path, keychain: Path) -> None:
    write(config, credsStore="test", auths={HOST: {"auth": AUTH}})

    assert found() == ("alice", "s3:cret", "")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "#!/bin/sh\necho 'keychain is locked' >&2; exit 3\n",
            "docker-credential-test get ended with 3: keychain is locked",
        ),
        ("#!/bin/sh\necho 'keychain is locked'; exit 3\n", "test get ended with 3: keychain is locked"),
        ("#!/bin/sh\nexit 3\n", "docker-credential-test get ended with 3$"),
        ('#!/bin/sh\nprintf \'{"Username": "a", "Secret": "\\377"}\'\n', "test gave no valid answer"),
        ("#!/bin/sh\necho garbage\n", "docker-credential-test gave no valid answer"),
        ("#!/bin/sh\nprintf '\\377'\n", "docker-credential-test gave no valid answer"),
        ("#!/bin/sh\necho '[]'\n", "docker-credential-test gave no valid answer"),
        ("#!/bin/sh\necho '{\"Username\": 5}'\n", "docker-credential-test gave no valid answer"),
        ("#!/nowhere\n", "the config names the helper docker-credential-test, not on PATH"),
    ],
)
def test_a_helper_that_fails_is_named(config: Path, path: Path, script: str, why: str) -> None:
    install(path, "test", script)
    write(config, credsStore="test")

    with pytest.raises(Denied, match=why):
        find_credentials(HOST)


def test_a_helper_that_is_missing_is_named(config: Path) -> None:
    write(config, credsStore="nowhere")

    with pytest.raises(Denied, match="docker-credential-nowhere, not on PATH"):
        find_credentials(HOST)


def test_a_helper_that_is_no_program_is_named(config: Path, path: Path) -> None:
    install(path, "test", "", mode=0o644)
    write(config, credsStore="test")

    with pytest.raises(Denied, match="docker-credential-test"):
        find_credentials(HOST)


def test_no_error_of_a_config_tells_what_is_in_it(config: Path) -> None:
    write(config, auths={HOST: {"auth": "s3cret%"}})
    with pytest.raises(ModelctlError) as caught:
        find_credentials(HOST)

    assert "s3cret" not in str(caught.value)
