"""Docker's config file and credential helpers, as docker itself uses them."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import Denied, DiskProblem, Invalid, ModelctlError
from modelctl.registry.credentials import Credentials, find_credentials, forget_credentials, save_credentials

HOST = "registry.example.com:5000"
AUTH = base64.b64encode(b"alice:s3:cret").decode()
HELPER = """\
#!/usr/bin/env python3
import json, pathlib, sys
kept = pathlib.Path({kept!r})
store = json.loads(kept.read_text()) if kept.exists() else {{}}
verb, text = sys.argv[1], sys.stdin.read()
if verb == "get":
    if text.strip() not in store:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(store[text.strip()]))
elif verb == "store":
    entry = json.loads(text)
    kept.write_text(json.dumps(store | {{entry["ServerURL"]: entry}}))
elif verb == "erase":
    store.pop(text.strip(), None)
    kept.write_text(json.dumps(store))
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of docker's config file; not there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


@pytest.fixture
def keychain(path: Path, tmp_path: Path) -> Path:
    """What the credential helper `test` keeps; not there yet."""
    install(path, "test", HELPER.format(kept=str(tmp_path / "keychain.json")))
    return tmp_path / "keychain.json"


def install(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(text)
    program.chmod(mode)


def write(path: Path, **document: Any) -> None:
    path.write_text(json.dumps(document))


def found(registry: str = HOST) -> tuple[str, str, str] | None:
    credentials = find_credentials(registry)
    return credentials and (credentials.user, credentials.password, credentials.identity_token)


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
    ["", "{", "[]", '"x"', "null", '{"auths": []}', '{"auths": {"%s": "x"}}' % HOST, '{"credHelpers": "x"}'],
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
            "docker-credential-test ended with 3: keychain is locked",
        ),
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


def test_what_is_saved_is_found(config: Path) -> None:
    save_credentials(HOST, "alice", "s3:cret")

    assert found() == ("alice", "s3:cret", "")


def test_what_is_saved_for_docker_hub_is_under_its_old_url(config: Path) -> None:
    save_credentials("docker.io", "alice", "s3:cret")

    assert json.loads(config.read_text()) == {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}


def test_saving_leaves_the_rest_of_the_config(config: Path) -> None:
    write(config, auths={"other": {"auth": AUTH}}, detachKeys="ctrl-x")
    save_credentials(HOST, "alice", "s3:cret")

    assert json.loads(config.read_text()) == {
        "auths": {"other": {"auth": AUTH}, HOST: {"auth": AUTH}},
        "detachKeys": "ctrl-x",
    }


def test_only_the_user_can_read_what_was_saved(config: Path) -> None:
    write(config)
    config.chmod(0o644)
    save_credentials(HOST, "alice", "s3cret")

    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_a_folder_that_is_missing_is_made_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "new"))
    save_credentials(HOST, "alice", "s3cret")

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_saving_leaves_no_other_file(config: Path) -> None:
    save_credentials(HOST, "alice", "s3cret")

    assert [path.name for path in config.parent.iterdir()] == ["config.json"]


def test_a_malformed_config_is_not_written_over(config: Path) -> None:
    config.write_text("{")
    with pytest.raises(Invalid):
        save_credentials(HOST, "alice", "s3cret")

    assert config.read_text() == "{"


def test_with_a_helper_the_config_holds_no_secret(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")
    save_credentials(HOST, "alice", "s3cret")

    assert json.loads(config.read_text()) == {"credsStore": "test"}


def test_with_a_helper_what_is_saved_is_found(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")
    save_credentials(HOST, "alice", "s3cret")

    assert found() == ("alice", "s3cret", "")


def test_a_helper_that_cannot_save_is_named_without_the_secret(config: Path, path: Path) -> None:
    install(path, "test", "#!/bin/sh\ncat >&2; exit 1\n")
    write(config, credsStore="test")

    with pytest.raises(Denied, match=r"\A(?!(.|\n)*s3cret)(.|\n)*docker-credential-test store failed"):
        save_credentials(HOST, "alice", "s3cret")


@pytest.mark.parametrize("helper", [{}, {"credsStore": "test"}])
def test_what_is_forgotten_is_not_found(config: Path, keychain: Path, helper: dict[str, str]) -> None:
    write(config, **helper)
    save_credentials(HOST, "alice", "s3cret")
    forget_credentials(HOST)

    assert found() is None


def test_forgetting_leaves_the_others(config: Path) -> None:
    save_credentials(HOST, "alice", "s3cret")
    save_credentials("other:5000", "alice", "s3:cret")
    forget_credentials(HOST)

    assert found("other:5000") == ("alice", "s3:cret", "")


def test_what_was_never_saved_cannot_be_forgotten(config: Path) -> None:
    assert not forget_credentials(HOST)


def test_no_error_of_a_config_tells_what_is_in_it(config: Path) -> None:
    write(config, auths={HOST: {"auth": "s3cret%"}})
    with pytest.raises(ModelctlError) as caught:
        find_credentials(HOST)

    assert "s3cret" not in str(caught.value)
