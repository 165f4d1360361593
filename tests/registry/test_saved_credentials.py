"""What a login keeps and a logout forgets: in docker's config file, or in the helper that it names."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from modelctl.core.errors import Denied, Invalid
from modelctl.registry.credentials import forget_credentials, save_credentials
from tests.fakes.docker_config import AUTH, HOST, found, install, write


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


@pytest.mark.parametrize("stream", ["", ">&2"])
@pytest.mark.parametrize("password", ["s3cret", 's3"é\\cret'])
def test_a_helper_that_cannot_save_is_named_without_the_secret(
    config: Path, path: Path, password: str, stream: str
) -> None:
    install(path, "test", f"#!/bin/sh\ncat {stream}; exit 1\n")
    write(config, credsStore="test")

    with pytest.raises(Denied, match=r"\A(?!(.|\n)*s3)(.|\n)*docker-credential-test store ended with 1: {"):
        save_credentials(HOST, "alice", password)


@pytest.mark.parametrize("helper", [{}, {"credsStore": "test"}])
def test_what_is_forgotten_is_not_found(config: Path, keychain: Path, helper: dict[str, str]) -> None:
    write(config, **helper)
    save_credentials(HOST, "alice", "s3cret")
    forget_credentials(HOST)

    assert found() is None


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (HOST, (f"https://{HOST}",)),
        (HOST, (HOST, f"https://{HOST}", f"http://{HOST}")),
        ("docker.io", ("https://index.docker.io/v1/", "index.docker.io", "docker.io")),
    ],
)
def test_forgetting_is_by_every_name(config: Path, registry: str, names: tuple[str, ...]) -> None:
    write(config, auths={name: {"auth": AUTH} for name in names})

    assert (forget_credentials(registry), found(registry)) == (True, None)


@pytest.mark.parametrize("erase", ["", "exit 1"])
def test_beside_a_helper_that_has_none_the_config_forgets(config: Path, path: Path, erase: str) -> None:
    install(path, "test", f"#!/bin/sh\n[ $1 = erase ] || {{ echo 'credentials not found'; exit 1; }}\n{erase}\n")
    write(config, credsStore="test", auths={HOST: {"auth": AUTH}})

    assert (forget_credentials(HOST), json.loads(config.read_text())["auths"]) == (True, {})


def test_a_helper_that_has_none_has_none_to_forget(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")

    assert not forget_credentials(HOST)


def test_a_helper_that_cannot_forget_is_named_and_the_config_forgets(config: Path, path: Path) -> None:
    kept = json.dumps({"Username": "alice", "Secret": "s3cret"})
    install(path, "test", f"#!/bin/sh\n[ $1 = get ] && echo '{kept}' && exit; echo 'it is locked'; exit 1\n")
    write(config, credsStore="test", auths={HOST: {"auth": AUTH}})
    with pytest.raises(Denied, match=r"docker-credential-test erase ended with 1: it is locked$"):
        forget_credentials(HOST)

    assert json.loads(config.read_text())["auths"] == {}


def test_forgetting_leaves_the_others(config: Path) -> None:
    save_credentials(HOST, "alice", "s3cret")
    save_credentials("other:5000", "alice", "s3:cret")
    forget_credentials(HOST)

    assert found("other:5000") == ("alice", "s3:cret", "")


def test_what_was_never_saved_cannot_be_forgotten(config: Path) -> None:
    assert not forget_credentials(HOST)


@pytest.mark.parametrize("helpers", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_without_a_helper_it_is_the_config_that_has_them(
    config: Path, keychain: Path, helpers: dict[str, object]
) -> None:
    write(config, **helpers)
    place = save_credentials(HOST, "alice", "s3:cret", in_helper=False)

    assert (place, found(), keychain.exists()) == (str(config), ("alice", "s3:cret", ""), False)


def test_without_a_helper_the_others_keep_theirs(config: Path, keychain: Path) -> None:
    write(config, credsStore="test")
    save_credentials("other:5000", "bob", "s3cret")
    save_credentials(HOST, "alice", "s3:cret", in_helper=False)

    assert found("other:5000") == ("bob", "s3cret", "")
