"""A pack whose connections break, or that is killed: the source is not read again from the beginning."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.readahead import PART, ring
from modelctl.core.types import Digest
from modelctl.flows.pack import MEMORY
from modelctl.flows.workers import JOBS
from tests.cli.program import MODELCTL, environment, run
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.memory_registry import MemoryRegistry, memory_registry
from tests.flows.places import Place
from tests.models import noise, shard
from tests.registries import pack_to, problems_at
from tests.stores import pack_model

FILES = {"a.safetensors": shard({"weights": noise(24 << 20, "a")}), "config.json": b"{}"}
SIZE = sum(map(len, FILES.values()))
ASKED, _ = ring(MEMORY // JOBS)
"""Bytes of one request."""

SLACK = 1000
"""Headers [bytes]."""


@pytest.fixture(autouse=True)
def model(place: Place) -> None:
    """A shard of 24 MiB at the source."""
    place.put(FILES)


@pytest.fixture
def expected(place: Place, tmp_path: Path) -> Digest:
    """The digest of that model, from a folder."""
    (tmp_path / "model").mkdir()
    for path, data in FILES.items():
        (tmp_path / "model" / path).write_bytes(data)
    return Digest(pack_model(tmp_path / "model", tmp_path / "store").artifacts[0].digest)


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    """One that knows how much it has of an upload."""
    with memory_registry() as registry:
        yield registry


@pytest.mark.parametrize(
    ("strike", "again"),
    [
        (lambda place: place.cut(1 << 20), ASKED),
        (lambda place: place.cut(ASKED - 1), ASKED),
        (lambda place: place.cut(0), ASKED),
        (lambda place: place.refuse(), 0),
    ],
)
def test_a_part_that_breaks_or_is_put_off_is_asked_for_again(
    place: Place, registry: MemoryRegistry, expected: Digest, strike: Callable[[Place], None], again: int
) -> None:
    strike(place)
    report = pack_to(place.url, f"{registry.host}/models/qwen:v1")

    assert report.artifacts[0].digest == expected
    assert place.sent() <= SIZE + again + SLACK


@pytest.mark.parametrize("at", [70_000, 5 << 20, 20 << 20])
def test_a_cut_of_the_registrys_side_is_gone_on_with(
    place: Place, registry: MemoryRegistry, expected: Digest, at: int
) -> None:
    with fault_proxy(registry.host, Fault("^PATCH", "cut-request", at=at)) as proxy:
        report = pack_to(place.url, f"{proxy.host}/models/qwen:v1", jobs=1)
        assert proxy.struck == 1

    assert (report.artifacts[0].digest, problems_at(f"{registry.host}/models/qwen:v1")) == (expected, {})
    assert place.sent() <= SIZE + CHUNK + SLACK


@pytest.mark.parametrize("layout", ["image", "raw"])
def test_what_was_killed_goes_on_at_the_chunk(
    place: Place, registry: MemoryRegistry, tmp_path: Path, layout: str
) -> None:
    command = ("pack", place.url, f"{registry.host}/models/qwen:v1", "--layout", layout, "--memory", "4", "-q")
    place.delay(0.2)
    with subprocess.Popen([*MODELCTL, *command], env=environment(**place.variables)) as process:
        wait_until(lambda: place.sent() > 16 << 20)
        process.kill()
    wait_until(lambda: max(map(len, registry.uploads.values()), default=0) > CHUNK)
    place.delay(0)
    again = run(*command, **place.variables)
    reference = pack_model(place.url, tmp_path / "store", layouts=(layout,)).artifacts[0].digest
    read = place.sent() - SIZE - SLACK  # by the last pack

    assert (again.returncode, again.stdout) == (0, f"{registry.host}/models/qwen@{reference}\n"), again.stderr
    assert read <= SIZE + CHUNK + PART + SLACK


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
