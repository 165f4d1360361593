"""push, pack, pull, login and logout against registries, as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import MODELCTL, environment, run, run_on_terminal
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry, registry
from tests.models import write_model
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
    trusted = ("--ca-file", str(server.ca_file)) if server.ca_file else ()
    flags = ("-u", "alice", "--password-stdin", *trusted, *options)
    ended = run("login", server.host, *flags, stdin=f"{password}\n", DOCKER_CONFIG=str(config.parent))
    return ended.returncode, ended.stdout, ended.stderr


def test_push_prints_the_reference_by_digest(plain: Registry, repository: str, store: str) -> None:
    digest = run("digest", f"{store}:v1").stdout.strip()

    assert run("push", f"{store}:v1", f"{plain.host}/{repository}:v1").stdout == f"{plain.host}/{repository}@{digest}\n"


def test_push_says_what_went_where(plain: Registry, repository: str, store: str) -> None:
    ended = run("push", f"{store}:v1", f"{plain.host}/{repository}:v1", "--output", "json")

    assert [(one["tag"], one["tagged"]) for one in json.loads(ended.stdout)] == [("v1", True)]


@pytest.fixture
def blocked(tmp_path: Path) -> str:
    """A destination that takes nothing: a file is where its layout would be."""
    (tmp_path / "blocked").touch()
    return f"oci:{tmp_path}/blocked:v1"


class TestSeveral:
    """A push to several destinations, of which one fails."""

    def test_the_result_are_those_that_have_it(self, tmp_path: Path, store: str, blocked: str) -> None:
        digest = run("digest", f"{store}:v1").stdout.strip()
        ended = run("push", f"{store}:v1", f"oci:{tmp_path}/a:v1", blocked, f"oci:{tmp_path}/b:v1")

        assert ended.stdout == f"oci:{tmp_path}/a@{digest}\noci:{tmp_path}/b@{digest}\n"

    def test_the_error_names_the_one_that_failed(self, tmp_path: Path, store: str, blocked: str) -> None:
        ended = run("push", f"{store}:v1", f"oci:{tmp_path}/a:v1", blocked)
        expected = (
            rf"\npartial: 1 of 2 destinations failed\n  why: {blocked}: destination: .+\n  try: .*the same command"
        )

        assert (ended.returncode, bool(re.search(expected, ended.stderr))) == (9, True)

    def test_json_says_of_each_how_it_ended(self, tmp_path: Path, store: str, blocked: str) -> None:
        ended = run("push", f"{store}:v1", blocked, f"oci:{tmp_path}/a:v1", "-o", "json")

        assert [(one["state"], bool(one["why"])) for one in json.loads(ended.stdout)] == [
            ("Failed", True),
            ("Pushed", False),
        ]

    def test_when_all_fail_the_status_is_the_first_ones(self, store: str, blocked: str) -> None:
        alone = run("push", f"{store}:v1", blocked)
        both = run("push", f"{store}:v1", blocked, blocked)

        assert (both.returncode, both.stdout, alone.stdout) == (alone.returncode, "", "")

    def test_notes_say_which_is_meant(self, tmp_path: Path, store: str, blocked: str) -> None:
        ended = run("push", f"{store}:v1", f"oci:{tmp_path}/a:v1", blocked)

        assert re.search(rf"^oci:{tmp_path}/a@sha256:\w+: pushed 8 blobs of ", ended.stderr, re.MULTILINE)

    def test_a_terminal_keeps_no_bar_of_one_that_failed(self, plain: Registry, tmp_path: Path, store: str) -> None:
        with fault_proxy(plain.host, Fault("^PATCH", "status", status=400, times=99)) as proxy:
            _, seen = run_on_terminal("push", f"{store}:v1", f"{proxy.host}/x:v1", f"oci:{tmp_path}/a:v1")
        left = seen.partition("\x1b[?25h")[0].rpartition("\x1b[2K")[2]

        assert re.findall(r"\S+(?= +\S*━)", left) == ["push"]

    def test_one_that_must_not_move_its_tag_keeps_all_from_it(self, tmp_path: Path, store: str) -> None:
        run("pack", write_model(tmp_path / "other"), f"oci:{tmp_path}/b:v1").check_returncode()
        ended = run(
            "push", f"{store}:v1", f"oci:{tmp_path}/a:v1", f"oci:{tmp_path}/b:v1", "--if-exists", "fail", "-o", "json"
        )

        assert [one["state"] for one in json.loads(ended.stdout)] == ["Untried", "Failed"]
        assert (ended.returncode, f"oci:{tmp_path}/a:v1: not tried" in ended.stderr) == (12, True)


def test_a_pack_says_that_the_tag_was_left(tmp_path: Path, model: Path) -> None:
    run("pack", write_model(tmp_path / "other"), f"oci:{tmp_path}/a:v1").check_returncode()

    assert run("pack", model, f"oci:{tmp_path}/a:v1", "--if-exists", "skip").stderr.endswith("; tag v1 left as it is\n")


def test_a_removal_names_the_tags_that_went(tmp_path: Path, model: Path) -> None:
    run("pack", model, f"oci:{tmp_path}/a:v1").check_returncode()
    run("tag", f"oci:{tmp_path}/a:v1", "stable").check_returncode()

    assert run("rm", f"oci:{tmp_path}/a:v1", "--digest").stderr.endswith("removed 2 tags: v1, stable\n")


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


def test_a_login_that_nobody_asked_for_says_that_it_was_not_tried(plain: Registry, config: Path) -> None:
    ended = run(
        "login", plain.host, "-u", "alice", "--password-stdin", stdin="s3cret\n", DOCKER_CONFIG=str(config.parent)
    )

    note = f"note: {plain.host} asked for no credentials, so they were not tried\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{config}\n", note)


@pytest.mark.parametrize(("server", "tried"), [("guarded", True), ("plain", False)])
def test_a_logins_json_says_whether_it_was_tried(
    request: pytest.FixtureRequest, config: Path, server: str, *, tried: bool
) -> None:
    status, stdout, stderr = log_in(request.getfixturevalue(server), config, "s3cret", "--output=json", "--quiet")

    assert (status, json.loads(stdout)["tried"], stderr) == (0, tried, "")


def test_without_a_terminal_a_login_asks_for_the_flag(config: Path) -> None:
    ended = run("login", "registry.example", "-u", "alice", DOCKER_CONFIG=str(config.parent))

    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (2, "  try: --password-stdin")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_password_that_is_not_utf8_is_refused(config: Path, locale: str) -> None:
    ended = subprocess.run(
        [*MODELCTL, "login", "registry.example", "-u", "alice", "--password-stdin"],
        input=b"s\xff\n",
        capture_output=True,
        env=environment(DOCKER_CONFIG=str(config.parent), LC_ALL=locale),
        check=False,
    )

    assert (ended.returncode, b"not UTF-8" in ended.stderr) == (2, True)


def test_an_empty_password_is_refused(guarded: Registry, config: Path) -> None:
    assert log_in(guarded, config, "")[0] == 2
