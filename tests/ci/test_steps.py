"""The ready files of CI, each run as its platform runs it: what a pipeline sees, hands on, and must not see."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ci.platforms import PATH, PLATFORMS, STEP, Ended, Platform
from tests.cli.program import run
from tests.fakes.docker_config import HELPER, install, write
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry, registry
from tests.fakes.token_server import token_server
from tests.flows.places import Place, at_oss
from tests.models import write_model
from tests.registries import ALICE, tagged

USER, PASSWORD = ALICE
REFUSED = Fault("^PUT .*manifests", "status", status=400, times=99)
NASTY = 'it\'s "quoted" $(touch pwned) `touch pwned`; touch pwned\n::set-output name=MODELCTL_DIGEST::evil\ntouch pwned'
"""What a shell, or the runner, would obey if it saw it as text of its own."""


@dataclass
class Regions:
    """Settings that grow by regions; passwords stand in the environment."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.write_text("")
        self.variables |= {"MODELCTL_CONFIG": str(self.path), "REGION_PASSWORD": PASSWORD}

    def add(self, name: str, host: str, *lines: str) -> None:
        table = [f"[regions.{name}]", f'registry = "{host}"', f'namespace = "{name}"', *lines, ""]
        self.path.write_text(self.path.read_text() + "\n".join(table))


ALICE_LINES = (f'username = "{USER}"', 'password = "${REGION_PASSWORD}"')


@dataclass(frozen=True)
class Guarded:
    """Registries that ask who is there."""

    password: Registry
    tls: Registry
    token: Registry
    realm: str


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with ExitStack() as stack:
        password = stack.enter_context(registry(folder / "password", password=PASSWORD))
        tls = stack.enter_context(registry(folder / "tls", password=PASSWORD, tls=True))
        realm = stack.enter_context(token_server(folder))
        token = stack.enter_context(registry(folder / "token", tokens=realm))
        yield Guarded(password, tls, token, realm.url.removeprefix("http://"))


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the reference of a packed model, and its digest."""
    folder = tmp_path_factory.mktemp("ci")
    reference = f"oci:{folder}/store:v1"
    printed = run("pack", write_model(folder / "model", shards=2, size=1000), reference).stdout
    return reference, printed.strip().partition("@")[2]


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return PLATFORMS[request.param](tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="class", params=PLATFORMS)
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform on which one job runs, that several tests look at."""
    return PLATFORMS[request.param](tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="class")
def three(tmp_path_factory: pytest.TempPathFactory, plain: Registry, guarded: Guarded) -> Regions:
    """Three regions, each with another way of asking who is there."""
    regions = Regions(tmp_path_factory.mktemp("three") / "regions.toml")
    regions.add("open", plain.host)
    regions.add("password", guarded.tls.host, *ALICE_LINES, f'ca_file = "{guarded.tls.ca_file}"')
    regions.add("token", guarded.token.host, *ALICE_LINES, f'trust_realm = ["{guarded.realm}"]')
    return regions


@pytest.fixture(scope="class")
def one_fails(tmp_path_factory: pytest.TempPathFactory, plain: Registry) -> Iterator[Regions]:
    regions = Regions(tmp_path_factory.mktemp("one-fails") / "regions.toml")
    with fault_proxy(plain.host, REFUSED) as proxy:
        regions.add("bad", proxy.host)
        regions.add("good", plain.host)
        yield regions


@pytest.fixture(scope="class")
def all_fail(tmp_path_factory: pytest.TempPathFactory, guarded: Guarded) -> Regions:
    regions = Regions(tmp_path_factory.mktemp("all-fail") / "regions.toml")
    regions.add("a", guarded.password.host)
    regions.add("b", guarded.password.host, f'username = "{USER}"', 'password = "wr0ng-one"')
    return regions


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Place]:
    with at_oss(tmp_path) as place:
        model = write_model(tmp_path / "model", shards=2, size=1000)
        place.put({path.name: path.read_bytes() for path in model.iterdir()})
        yield place


def to_regions(source: str, repository: str, **inputs: str) -> Mapping[str, str]:
    return {"command": "push", "source": source, "regions": "all", "to": f"{repository}:v1", **inputs}


@pytest.fixture(scope="class")
def done(once: Platform, packed: tuple[str, str], request: pytest.FixtureRequest) -> Ended:
    """A push to the regions that the class names."""
    regions: Regions = request.getfixturevalue(request.cls.REGIONS)
    return once.run(to_regions(packed[0], f"models/{once.folder.name}"), regions.variables)


class TestAllRegions:
    REGIONS = "three"

    def test_all_is_well(self, done: Ended) -> None:
        assert (done.status, done.outputs["status"]) == (0, "0")

    def test_the_digest_is_handed_on(self, done: Ended, packed: tuple[str, str]) -> None:
        assert done.outputs["digest"] == packed[1]

    def test_the_reference_of_each_region_is_handed_on(
        self, done: Ended, once: Platform, packed: tuple[str, str], plain: Registry
    ) -> None:
        first = f"{plain.host}/open/models/{once.folder.name}@{packed[1]}"
        assert (done.outputs["reference"], done.references[0], len(done.references)) == (first, first, 3)

    def test_the_summary_has_a_row_for_each_region(self, done: Ended) -> None:
        rows = [line for line in done.summary.splitlines() if "| Pushed |" in line]
        assert [row.split(" | ")[0] for row in rows] == ["| `open`", "| `password`", "| `token`"]

    def test_the_summary_says_what_was_sent_and_the_digest(self, done: Ended, packed: tuple[str, str]) -> None:
        assert ("8 blobs, " in done.summary, f"`{packed[1]}`" in done.summary) == (True, True)

    def test_the_result_says_what_each_region_got(self, done: Ended) -> None:
        assert {name: row["state"] for name, row in done.regions.items()} == dict.fromkeys(
            ("open", "password", "token"), "Pushed"
        )

    def test_no_password_is_seen(self, done: Ended) -> None:
        assert PASSWORD not in done.everything


class TestSomeRegions:
    REGIONS = "one_fails"

    def test_the_status_is_9(self, done: Ended) -> None:
        assert (done.status, done.outputs["status"]) == (9, "9")

    def test_only_what_is_there_is_handed_on(self, done: Ended, packed: tuple[str, str]) -> None:
        assert (done.outputs["digest"], ["/good/" in one for one in done.references]) == (packed[1], [True])

    def test_the_summary_says_what_failed_and_what_to_do(self, done: Ended) -> None:
        assert (
            "push: partial (9)" in done.summary,
            "| `bad` | Failed |" in done.summary,
            "why: bad: destination: " in done.summary,
            "try: the same command sends what is missing" in done.summary,
        ) == (True, True, True, True)

    def test_the_result_is_there_too(self, done: Ended) -> None:
        assert {name: row["state"] for name, row in done.regions.items()} == {"bad": "Failed", "good": "Pushed"}


class TestNoRegion:
    REGIONS = "all_fail"

    def test_the_status_is_of_the_failure(self, done: Ended) -> None:
        assert (done.status, done.outputs["status"]) == (7, "7")

    def test_nothing_is_handed_on(self, done: Ended) -> None:
        assert (done.outputs["digest"], done.outputs["reference"], done.references) == ("", "", [])

    def test_the_summary_says_so(self, done: Ended) -> None:
        assert "push: denied (7)" in done.summary

    def test_no_password_is_seen(self, done: Ended) -> None:
        assert "wr0ng-one" not in done.everything


@pytest.mark.parametrize("wrong", [{"regions": "nowhere"}, {"flags": "--no-such-flag"}, {"source": ""}])
def test_a_wrong_input_ends_with_status_2_and_a_summary(
    platform: Platform, three: Regions, packed: tuple[str, str], repository: str, wrong: dict[str, str]
) -> None:
    done = platform.run({**to_regions(packed[0], repository), **wrong}, three.variables)
    assert (done.status, done.outputs["status"], "### modelctl push: " in done.summary) == (2, "2", True)


def test_flags_are_lines(platform: Platform, three: Regions, packed: tuple[str, str], repository: str) -> None:
    done = platform.run(to_regions(packed[0], repository, flags="--dry-run\n\n--jobs=1\n"), three.variables)
    assert (done.status, {row["state"] for row in done.regions.values()}) == (0, {"Planned"})


class TestPackToRegions:
    @pytest.fixture
    def given(self, bucket: Place, repository: str) -> dict[str, str]:
        return {"source": bucket.url, "regions": "all", "to": f"{repository}:v1"}

    def test_every_region_has_it(
        self, platform: Platform, bucket: Place, three: Regions, given: dict[str, str]
    ) -> None:
        done = platform.run(given, {**bucket.variables, **three.variables})
        assert (done.status, len(done.references), {row["state"] for row in done.regions.values()}) == (
            0,
            3,
            {"Pushed"},
        )

    def test_some_regions_are_a_partial_failure(
        self, platform: Platform, bucket: Place, one_fails: Regions, given: dict[str, str]
    ) -> None:
        done = platform.run(given, {**bucket.variables, **one_fails.variables})
        assert (done.status, "pack: partial (9)" in done.summary, "| `good` | Pushed |" in done.summary) == (
            9,
            True,
            True,
        )

    def test_no_region_is_its_failure(
        self, platform: Platform, bucket: Place, all_fail: Regions, given: dict[str, str]
    ) -> None:
        done = platform.run(given, {**bucket.variables, **all_fail.variables})
        assert (done.status, "pack: denied (7)" in done.summary, done.references) == (7, True, [])

    @pytest.mark.parametrize("flags", ["", "--no-cache"])
    def test_the_same_again_reads_nothing_by_the_cache_or_by_the_tag(
        self, platform: Platform, bucket: Place, three: Regions, given: dict[str, str], flags: str
    ) -> None:
        variables = {**bucket.variables, **three.variables}
        platform.run(given | {"flags": flags}, variables)
        before = bucket.sent()
        done = platform.run(given, variables)
        assert (done.status, bucket.sent()) == (0, before)


class TestPack:
    def test_a_bucket_is_packed_to_a_registry(
        self, platform: Platform, bucket: Place, plain: Registry, repository: str
    ) -> None:
        done = platform.run({"source": bucket.url, "dest": f"{plain.host}/{repository}:v1"}, bucket.variables)
        digest = run("digest", f"{plain.host}/{repository}:v1").stdout.strip()
        assert (done.status, done.outputs["reference"]) == (0, f"{plain.host}/{repository}@{digest}")

    def test_no_secret_of_the_bucket_is_seen(
        self, platform: Platform, bucket: Place, plain: Registry, repository: str
    ) -> None:
        done = platform.run({"source": bucket.url, "dest": f"{plain.host}/{repository}:v1"}, bucket.variables)
        assert [secret in done.everything for secret in bucket.secrets] == [False, False]

    def test_a_tag_that_is_there_says_what_need_not_be_read(
        self, platform: Platform, bucket: Place, plain: Registry, repository: str
    ) -> None:
        given = {"source": bucket.url, "dest": f"{plain.host}/{repository}:v1", "flags": "--no-cache"}
        platform.run(given, bucket.variables)
        before = bucket.sent()
        platform.run(given | {"flags": ""}, bucket.variables)
        assert bucket.sent() == before

    def test_the_digest_cache_is_where_the_platform_keeps_it(
        self, platform: Platform, bucket: Place, plain: Registry, repository: str
    ) -> None:
        done = platform.run({"source": bucket.url, "dest": f"{plain.host}/{repository}:v1"}, bucket.variables)
        assert any(done.cache.iterdir())


class TestLogin:
    @pytest.fixture
    def given(self, guarded: Guarded, packed: tuple[str, str], repository: str) -> dict[str, str]:
        host = guarded.password.host
        dest = {"command": "push", "source": packed[0], "dest": f"{host}/{repository}:v1"}
        return {**dest, "registry": host, "username": USER, "password": PASSWORD}

    def test_it_opens_the_registry(self, platform: Platform, given: dict[str, str], packed: tuple[str, str]) -> None:
        done = platform.run(given, {})
        assert (done.status, done.outputs["digest"]) == (0, packed[1])

    def test_no_password_is_seen(self, platform: Platform, given: dict[str, str]) -> None:
        assert PASSWORD not in platform.run(given, {}).everything

    def test_nothing_of_it_stays(self, platform: Platform, given: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "docker").mkdir()
        (tmp_path / "tmp").mkdir()
        platform.run(given, {"DOCKER_CONFIG": str(tmp_path / "docker"), "TMPDIR": str(tmp_path / "tmp")})
        assert [
            *(tmp_path / "docker").iterdir(),
            *(tmp_path / "tmp").iterdir(),
            *platform.folder.rglob("config.json"),
        ] == []

    def test_no_helper_that_the_config_names_gets_it(
        self, platform: Platform, given: dict[str, str], packed: tuple[str, str], tmp_path: Path
    ) -> None:
        config = tmp_path / "docker/config.json"
        config.parent.mkdir()
        write(config, credsStore="test", credHelpers={given["registry"]: "test"})
        install(tmp_path, "test", HELPER.format(kept=str(tmp_path / "keychain.json")))
        variables = {"DOCKER_CONFIG": str(config.parent), "PATH": f"{tmp_path}:{PATH}"}
        done = platform.run(given, variables)
        assert (done.status, done.outputs["digest"]) == (0, packed[1])
        assert (tmp_path / "keychain.json").exists() is False

    def test_a_wrong_password_ends_it(self, platform: Platform, given: dict[str, str]) -> None:
        done = platform.run({**given, "password": "wr0ng-one"}, {})
        assert (
            done.status,
            done.outputs["status"],
            "ended with 7" in done.summary,
            "wr0ng-one" in done.everything,
        ) == (
            7,
            "7",
            True,
            False,
        )


@pytest.mark.parametrize("name", ["source", "dest", "regions", "to", "flags", "registry", "username", "password"])
def test_no_input_is_obeyed(
    platform: Platform, three: Regions, guarded: Guarded, packed: tuple[str, str], name: str
) -> None:
    login = {"registry": guarded.password.host, "username": USER, "password": PASSWORD}
    done = platform.run({**to_regions(packed[0], "models/nasty"), **login, name: NASTY}, three.variables)
    pwned = list(platform.folder.rglob("pwned"))
    assert (done.status != 0, pwned, done.outputs["digest"]) == (True, [], "")


def test_a_signal_is_passed_on_and_told(bucket: Place, plain: Registry, repository: str, tmp_path: Path) -> None:
    bucket.delay(0.2)
    environ = {"PATH": PATH, "HOME": str(tmp_path), **bucket.variables}
    command = [str(STEP), "pack", bucket.url, f"{plain.host}/{repository}:v1"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as step:
        while not bucket.server.requests:
            pass
        step.send_signal(signal.SIGTERM)
        _, said = step.communicate()
    assert (step.returncode, "terminated: " in said) == (143, True)
    assert "pack: interrupted" in (tmp_path / "modelctl-report/summary.md").read_text()
    assert not tagged(f"{plain.host}/{repository}:v1")


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_the_login_leaves_no_password(
    shell: str, number: signal.Signals, status: int, packed: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell cannot trap what it inherits as ignored
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        login = {"MODELCTL_REGISTRY": host, "MODELCTL_USERNAME": USER, "MODELCTL_PASSWORD": PASSWORD}
        environ = {"PATH": PATH, "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"), **login}
        with subprocess.Popen([shell, STEP, "push", packed[0], f"{host}/m:v1"], cwd=tmp_path, env=environ) as step:
            connection, _ = silent.accept()
            with connection:
                step.send_signal(number)
                step.wait()
    assert (step.returncode, [*(tmp_path / "tmp").iterdir()]) == (status, [])
    assert f"ended with {status}" in (tmp_path / "modelctl-report/summary.md").read_text()
    assert f"MODELCTL_STATUS={status}\n" in (tmp_path / "modelctl-report/outputs.env").read_text()
