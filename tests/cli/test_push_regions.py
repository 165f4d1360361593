"""push --regions as a user types it: what it prints, how it ends, and what a kill leaves."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import MODELCTL, environment, run, run_on_terminal
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy
from tests.fakes.memory_registry import MemoryRegistry, memory_registry
from tests.fakes.registries import Registry, registry
from tests.models import write_model

REFUSED = Fault("^PUT .*manifests", "status", status=400, times=99)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.fixture
def push(config: Path, store: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Push the model to the regions of the settings, with flags."""

    def push(*flags: str, source: str = f"{store}:v1") -> subprocess.CompletedProcess[str]:
        return run("push", source, "--regions", "all", *flags, MODELCTL_CONFIG=str(config))

    return push


def region(name: str, host: str, *lines: str) -> str:
    return "\n".join([f"[regions.{name}]", f'registry = "{host}"', f'namespace = "{name}"', *lines]) + "\n"


@pytest.fixture
def two(config: Path, plain: Registry) -> None:
    config.write_text(region("a", plain.host) + region("b", plain.host))


@pytest.fixture
def one_fails(config: Path, plain: Registry) -> Iterator[None]:
    with fault_proxy(plain.host, REFUSED) as proxy:
        config.write_text(region("good", plain.host) + region("bad", proxy.host))
        yield


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("guarded") / "registry", password="s3cret") as server:
        yield server


def test_all_is_well_with_status_0(two: None, push: Any, repository: str) -> None:
    assert push("--to", f"{repository}:v1").returncode == 0


def test_it_prints_a_line_for_each_region(two: None, push: Any, repository: str) -> None:
    lines = push("--to", f"{repository}:v1").stdout.splitlines()

    assert [line.split()[:2] for line in lines] == [["a", "Pushed"], ["b", "Pushed"]]


def test_it_says_on_stderr_how_it_goes(two: None, push: Any, repository: str) -> None:
    lines = push("--to", f"{repository}:v1").stderr.splitlines()

    assert sorted(line.split()[:2] for line in lines) == [
        ["a", "Pushed"], ["a", "Sending"], ["b", "Pushed"], ["b", "Sending"],
    ]  # fmt: skip


def test_as_json_it_says_what_each_region_got(two: None, push: Any, repository: str) -> None:
    found = json.loads(push("--to", f"{repository}:v1", "-o", "json").stdout)["regions"]

    assert [(one["state"], one["tagged"], bool(one["sent"]), one["why"]) for one in found] == [
        ("Pushed", True, True, "")
    ] * 2


def test_on_a_terminal_it_draws_a_table(two: None, config: Path, store: str, repository: str) -> None:
    flags = ("--regions", "all", "--to", f"{repository}:v1")
    _, seen = run_on_terminal("push", f"{store}:v1", *flags, MODELCTL_CONFIG=str(config))

    assert ("REGION" in seen, "ETA" in seen, "Pushed" in seen) == (True, True, True)


def test_when_some_fail_the_status_is_9(one_fails: None, push: Any, repository: str) -> None:
    assert push("--to", f"{repository}:v1").returncode == 9


def test_when_some_fail_they_are_named_with_the_next_step(one_fails: None, push: Any, repository: str) -> None:
    error = push("--to", f"{repository}:v1", "--quiet").stderr

    assert (
        error.startswith("partial: 1 of 2 regions failed\n  why: bad: destination: "),
        "try: the same" in error,
    ) == (
        True,
        True,
    )


def test_when_some_fail_the_result_is_printed_too(one_fails: None, push: Any, repository: str) -> None:
    found = json.loads(push("--to", f"{repository}:v1", "-o", "json").stdout)["regions"]

    assert [one["state"] for one in found] == ["Pushed", "Failed"]


def test_when_all_fail_alike_the_status_is_of_that_failure(
    config: Path, guarded: Registry, push: Any, repository: str
) -> None:
    config.write_text(region("a", guarded.host) + region("b", guarded.host))
    ended = push("--to", f"{repository}:v1", "--quiet")

    assert (ended.returncode, ended.stderr.partition("\n")[0]) == (7, "denied: 2 of 2 regions failed")


def test_a_password_is_not_printed(config: Path, guarded: Registry, push: Any, repository: str) -> None:
    config.write_text(region("a", guarded.host, 'username = "alice"', 'password = "wr0ng-one"'))
    ended = push("--to", f"{repository}:v1", "-o", "json", "--debug")

    assert "wr0ng-one" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("oci:./there:v1", "--regions", "a", "--to", "m"),
        ("oci:./there:v1", "--dry-run"),
        ("oci:./there:v1", "--concurrency", "2"),
        ("--regions", "a", "--to", "m", "--bandwidth", "fast"),
        ("--regions", "nowhere", "--to", "m"),
        ("--regions", "a", "--to", "registry.example/m:v1"),
        ("--regions", "a", "--to", "m", "--tag-when", "never"),
    ],
)
def test_what_makes_no_sense_is_refused(two: None, config: Path, store: str, flags: tuple[str, ...]) -> None:
    assert run("push", f"{store}:v1", *flags, MODELCTL_CONFIG=str(config)).returncode == 2


def test_a_bandwidth_is_kept(two: None, config: Path, push: Any, repository: str) -> None:
    push("--to", f"{repository}:v1")
    plenty = push("--to", f"{repository}-other:v1", "--bandwidth", "80Gbit")
    began = time.monotonic()
    narrow = push("--to", f"{repository}-third:v1", "--bandwidth", "40kB")

    assert (plenty.returncode, narrow.returncode, time.monotonic() - began > 0.5) == (0, 0, True)


class Killed:
    """Two regions that resume uploads, and a model too large for what is on the way between programs."""

    def __init__(self, stack: ExitStack, folder: Path, plain: Registry) -> None:
        write_model(folder / "large", shards=2, size=12 << 20)
        self.source = f"{plain.host}/models/{folder.name.replace('_', '-').lower()}:v1"
        run("pack", folder / "large", self.source).check_returncode()
        self.registries: list[MemoryRegistry] = [stack.enter_context(memory_registry()) for _ in range(2)]
        self.holds = [Fault("^PATCH", "hold-request", at=5 << 20, times=1) for _ in range(2)]
        self.proxies: list[Proxy] = [
            stack.enter_context(fault_proxy(one.host, hold))
            for one, hold in zip(self.registries, self.holds, strict=True)
        ]
        self._config = folder / "mine.toml"
        self._config.write_text("".join(region(f"r{n}", proxy.host) for n, proxy in enumerate(self.proxies)))
        self._command = ["push", self.source, "--regions", "all", "--jobs", "1", "-o", "json"]

    def kill(self) -> None:
        """Push, and kill it in the middle of a blob in both regions."""
        changed = environment(MODELCTL_CONFIG=str(self._config))
        with subprocess.Popen(
            [*MODELCTL, *self._command], env=changed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and min(proxy.patched for proxy in self.proxies) < 5 << 20:
                time.sleep(0.01)
            process.kill()
        for hold in self.holds:
            hold.let_go.set()

    def go_on(self) -> Any:
        """Push again."""
        ended = run(*self._command, MODELCTL_CONFIG=str(self._config))
        ended.check_returncode()
        return json.loads(ended.stdout)


@pytest.fixture
def killed(tmp_path: Path, plain: Registry) -> Iterator[Killed]:
    with ExitStack() as stack:
        killed = Killed(stack, tmp_path, plain)
        killed.kill()
        yield killed


def test_a_kill_leaves_no_tag(killed: Killed) -> None:
    assert [one.tags for one in killed.registries] == [{}, {}]


def test_after_a_kill_only_what_is_missing_is_sent(killed: Killed) -> None:
    found = killed.go_on()

    assert [proxy.patched <= 1.1 * found["size"] for proxy in killed.proxies] == [True, True]


def test_after_a_kill_the_rest_is_read_once_for_both(killed: Killed) -> None:
    found = killed.go_on()

    assert found["read"] <= found["size"]


def test_after_a_kill_every_region_has_all(killed: Killed) -> None:
    digest = killed.go_on()["digest"]

    assert [one.tags for one in killed.registries] == [{"v1": digest}] * 2
