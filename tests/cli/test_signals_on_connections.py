"""^C and SIGTERM while threads wait for a registry: until it is less busy, to send to it, or to read from it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.program import MODELCTL, environment, run
from tests.cli.test_push_regions import region
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy
from tests.fakes.registries import Registry
from tests.stores import layer_of

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]

SHARDS, SIZE = 2, 16 << 20
"""Each larger than what is on the way between programs."""

WAITS_S = 0.5
ENDS_S = 10.0
"""What is waited for in these tests takes much longer."""

Kind = Callable[[str], Fault]


def busy(match: str) -> Fault:
    return Fault(match, "status", headers={"Retry-After": "50"}, times=99)


def stuck(match: str) -> Fault:
    return Fault(match, "stall-request" if "PATCH" in match else "stall", at=100_000, times=99)


@dataclass
class Places:
    """A model, all zeros, that takes no space; the same in a layout; and a registry with a repository that has it."""

    model: Path
    store: Path
    registry: Registry

    @property
    def layout(self) -> str:
        return f"oci:{self.store}:v1"

    @property
    def shards(self) -> str:
        """What matches the requests for the bytes of shards."""
        return f"^GET .*/blobs/({'|'.join(layer_of(self.store, f'{number}.gguf') for number in range(SHARDS))})"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, plain: Registry) -> Places:
    places = Places(tmp_path_factory.mktemp("large"), tmp_path_factory.mktemp("store"), plain)
    for number in range(SHARDS):
        with open(places.model / f"{number}.gguf", "wb") as file:
            file.truncate(SIZE + number)
    run("pack", places.model, places.layout).check_returncode()
    run("push", places.layout, f"{plain.host}/models/there:v1").check_returncode()
    return places


@contextmanager
def struck(proxy: Proxy, *args: str | Path, times: int = SHARDS, **changes: str) -> Iterator[subprocess.Popen[str]]:
    """Run `modelctl` until so many of its requests were struck, and it waits because of that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [*MODELCTL, *map(str, args), "-q"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**changes)) as process:
        try:
            while process.poll() is None and proxy.struck < times:
                time.sleep(0.01)
            time.sleep(WAITS_S)
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT, times: int = 1) -> tuple[int, int]:
    """Signal a process; return its status and how many lines it said; `TimeoutExpired` when it goes on."""
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    _, stderr = process.communicate(timeout=ENDS_S)
    return process.returncode, stderr.count("\n")


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("fault", [busy, stuck])
def test_a_push_ends_at_once(fault: Kind, number: signal.Signals, status: int, places: Places, repository: str) -> None:
    with (
        fault_proxy(places.registry.host, fault("^PATCH")) as proxy,
        struck(proxy, "push", places.layout, f"{proxy.host}/{repository}:v1") as process,
    ):
        assert end(process, number) == (status, 1)


@pytest.mark.parametrize("fault", [busy, stuck])
def test_a_pack_ends_at_once(fault: Kind, places: Places, repository: str) -> None:
    with (
        fault_proxy(places.registry.host, fault("^PATCH")) as proxy,
        struck(proxy, "pack", places.model, f"{proxy.host}/{repository}:v1") as process,
    ):
        assert end(process) == (130, 1)


@pytest.mark.parametrize("verb", ["pull", "verify"])
@pytest.mark.parametrize("fault", [busy, stuck])
def test_what_reads_ends_at_once(fault: Kind, verb: str, places: Places, tmp_path: Path) -> None:
    target = [tmp_path / "target"] if verb == "pull" else []
    with (
        fault_proxy(places.registry.host, fault(places.shards)) as proxy,
        struck(proxy, verb, f"{proxy.host}/models/there:v1", *target) as process,
    ):
        assert end(process, signal.SIGTERM) == (143, 1)


@pytest.mark.parametrize("verb", ["push", "pack"])
@pytest.mark.parametrize("fault", [busy, stuck])
def test_regions_end_at_once(fault: Kind, verb: str, places: Places, repository: str, tmp_path: Path) -> None:
    source = places.layout if verb == "push" else places.model
    config = tmp_path / "mine.toml"
    with fault_proxy(places.registry.host, fault("^PATCH")) as proxy:
        config.write_text(region("a", places.registry.host) + region("b", proxy.host))
        command = (verb, source, "--regions", "all", "--to", f"{repository}:v1")
        with struck(proxy, *command, times=1, MODELCTL_CONFIG=str(config)) as process:
            assert end(process) == (130, 1)


def test_an_interruption_wins_over_the_error_of_a_part(places: Places, repository: str) -> None:
    first = Fault("^PATCH", "stall-request", at=100_000)
    refused = Fault("^PATCH", "status", status=400, times=99)
    with (
        fault_proxy(places.registry.host, first, refused) as proxy,
        struck(proxy, "push", places.layout, f"{proxy.host}/{repository}:v1") as process,
    ):
        assert end(process) == (130, 1)


def test_bodies_are_not_sent_again_after_an_interruption(places: Places, repository: str) -> None:
    with fault_proxy(places.registry.host, busy("^PATCH")) as proxy:
        with struck(proxy, "push", places.layout, f"{proxy.host}/{repository}:v1") as process:
            end(process)

        assert proxy.kept < (SHARDS + 1) * SIZE


@pytest.mark.parametrize("fault", [busy, stuck])
def test_interrupting_again_is_no_worse(fault: Kind, places: Places, repository: str) -> None:
    with (
        fault_proxy(places.registry.host, fault("^PATCH")) as proxy,
        struck(proxy, "push", places.layout, f"{proxy.host}/{repository}:v1") as process,
    ):
        assert end(process, times=2)[0] == 130


@pytest.mark.parametrize("fault", [busy, stuck])
def test_the_same_command_completes_what_was_interrupted(fault: Kind, places: Places, repository: str) -> None:
    with fault_proxy(places.registry.host, fault("^PATCH")) as proxy:
        command = ("push", places.layout, f"{proxy.host}/{repository}:v1")
        with struck(proxy, *command) as process:
            end(process)
        proxy.faults.clear()

        assert run(*command).returncode == 0
