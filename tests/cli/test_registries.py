"""push, pack, pull, login and logout against registries, as a user types them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.fakes.registries import Registry, registry
from tests.stores import files_of


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry over TLS that asks for alice's password."""
    with registry(tmp_path_factory.mktemp("guarded") / "registry", password="s3cret", tls=True) as server:
        yield server


@pytest.fixture
def config(home: Path) -> Path:
    """Docker's config file; not there yet."""
    return home / "docker" / "config.json"


def log_in(server: Registry, config: Path, password: str = "s3cret", *options: str) -> tuple[int, str, str]:
    """Return the status of a login, its stdout and its stderr."""
    flags = ("-u", "alice", "--password-stdin", "--ca-file", str(server.ca_file), *options)
    ended = run("login", server.host, *flags, stdin=f"{password}\n", DOCKER_CONFIG=str(config.parent))
    return ended.returncode, ended.stdout, ended.stderr


def test_push_prints_the_reference_by_digest(plain: Registry, repository: str, store: str) -> None:
    digest = run("digest", f"{store}:v1").stdout.strip()

    assert run("push", f"{store}:v1", f"{plain.host}/{repository}:v1").stdout == f"{plain.host}/{repository}@{digest}\n"


def test_push_says_what_went_where(plain: Registry, repository: str, store: str) -> None:
    ended = run("push", f"{store}:v1", f"{plain.host}/{repository}:v1", "--output", "json")

    assert [(one["tag"], one["tagged"]) for one in json.loads(ended.stdout)] == [("v1", True)]


def test_what_was_pushed_is_pulled(plain: Registry, repository: str, store: str, model: Path, tmp_path: Path) -> None:
    run("push", f"{store}:v1", f"{plain.host}/{repository}:v1").check_returncode()
    run("pull", f"{plain.host}/{repository}:v1", tmp_path / "out").check_returncode()

    assert files_of(tmp_path / "out") == files_of(model)


def test_tags_of_a_registry_are_listed(plain: Registry, repository: str, store: str) -> None:
    run("push", f"{store}:v1", f"{plain.host}/{repository}:v1", f"{plain.host}/{repository}:v2").check_returncode()

    assert [line.split()[0] for line in run("ls", f"{plain.host}/{repository}").stdout.splitlines()] == ["v1", "v2"]


@pytest.mark.parametrize("value", ["never", ""])
def test_an_unknown_answer_to_a_tag_that_exists_is_refused(plain: Registry, store: str, value: str) -> None:
    assert run("push", f"{store}:v1", f"{plain.host}/x:v1", "--if-exists", value).returncode == 2


def test_a_registry_that_refuses_is_one_error(guarded: Registry, store: str, config: Path) -> None:
    flags = ("--ca-file", str(guarded.ca_file))
    ended = run("push", f"{store}:v1", f"{guarded.host}/x:v1", *flags, DOCKER_CONFIG=str(config.parent))

    assert (
        ended.returncode,
        bool(re.fullmatch(r"denied: .+\n  why: .+\n  try: modelctl login .+\n", ended.stderr)),
    ) == (
        7,
        True,
    )


def test_a_login_says_where_it_is_kept(guarded: Registry, config: Path) -> None:
    assert log_in(guarded, config) == (0, f"{config}\n", "")


def test_after_a_login_the_registry_takes_a_model(guarded: Registry, store: str, config: Path) -> None:
    log_in(guarded, config)
    flags = ("--ca-file", str(guarded.ca_file))
    ended = run("push", f"{store}:v1", f"{guarded.host}/x:v1", *flags, DOCKER_CONFIG=str(config.parent))

    assert ended.returncode == 0


def test_a_refused_login_keeps_nothing(guarded: Registry, config: Path) -> None:
    status, _, _ = log_in(guarded, config, "wr0ng")

    assert (status, config.exists()) == (7, False)


@pytest.mark.parametrize("password", ["s3cret", "wr0ng"])
@pytest.mark.parametrize("option", ["--debug", "--output=json"])
def test_a_login_never_prints_the_password(guarded: Registry, config: Path, password: str, option: str) -> None:
    _, stdout, stderr = log_in(guarded, config, password, option)

    assert password not in stdout + stderr


@pytest.mark.parametrize("name", ["", "https://registry.example", "registry.example/models", "it's\n"])
def test_a_login_is_to_a_host(name: str) -> None:
    ended = run("login", "-u", "alice", "--password-stdin", "--", name, stdin="s3cret\n")
    assert (ended.returncode, ended.stderr.startswith("usage: not a registry: ")) == (2, True)


def test_a_logout_forgets(guarded: Registry, config: Path) -> None:
    log_in(guarded, config)
    run("logout", guarded.host, DOCKER_CONFIG=str(config.parent)).check_returncode()

    assert json.loads(config.read_text())["auths"] == {}


def test_a_logout_without_a_login_is_not_found(config: Path) -> None:
    assert run("logout", "registry.example", DOCKER_CONFIG=str(config.parent)).returncode == 3


def test_an_empty_password_is_refused(guarded: Registry, config: Path) -> None:
    assert log_in(guarded, config, "")[0] == 2
