"""Pack to regions: the source is read once for all, nobody delays anybody, and tags come last."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.access import Access
from modelctl.core.config import load_config
from modelctl.core.errors import ChecksumMismatch, Denied, ModelctlError, NotFound, UsageProblem
from modelctl.flows.pack import PackOptions
from modelctl.flows.pack_regions import PackedRegionsReport, pack_regions
from modelctl.flows.push_regions import push_regions
from modelctl.flows.region_jobs import RegionOptions
from modelctl.flows.region_report import Watcher
from modelctl.flows.regions import place
from modelctl.flows.stores import open_store
from tests.cli.program import MODELCTL, environment
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy, recorder
from tests.fakes.memory_registry import MemoryRegistry, memory_registry
from tests.fakes.oss import Oss
from tests.fakes.registries import Registry
from tests.flows.places import Place
from tests.flows.regional import THREE, Notes, Settings, digests, failing, states
from tests.models import noise, shard, write_model
from tests.registries import IMPATIENT, pack_to, problems_at
from tests.stores import files_of, pack_model, reference, tags_of

HEADERS = 2000
"""More than the headers of the model's shards have, which are read twice [bytes]."""

Found = tuple[PackedRegionsReport, dict[str, ModelctlError]]


@pytest.fixture
def source(bucket: tuple[Place, Oss], model: Path) -> Place:
    """The model in a bucket, which counts what is read."""
    place, _ = bucket
    place.put(files_of(model))
    return place


@pytest.fixture
def size(model: Path) -> int:
    return sum(map(len, files_of(model).values()))


@pytest.fixture
def digest(packed: Path) -> str:
    """What the same model has in a layout."""
    return tags_of(packed)["v1"]


def pack(
    url: str | Path,
    to: str,
    *names: str,
    watcher: Watcher | None = None,
    access: Access = IMPATIENT,
    into: dict[str, Any] | None = None,
    **options: Any,
) -> Found:
    """Pack to regions, to all without names."""
    packing = PackOptions(access=access, **options)
    wanted = RegionOptions(access=access, **(into or {}))
    return pack_regions(str(url), to, names or ("all",), watcher or Watcher(), options=packing, into=wanted)


class TestThreeRegions:
    def test_each_has_the_digest_of_a_pack_to_one_place(
        self, three: Settings, repository: str, source: Place, digest: str
    ) -> None:
        report, errors = pack(source.url, f"{repository}:v1")

        assert (digests(f"{repository}:v1", THREE), report.digest, errors) == ([digest] * 3, digest, {})

    def test_each_byte_of_the_source_is_read_once(
        self, three: Settings, repository: str, source: Place, size: int
    ) -> None:
        report, _ = pack(source.url, f"{repository}:v1")

        assert size <= source.sent() <= size + HEADERS
        assert size <= report.read

    def test_what_was_read_once_is_right(self, three: Settings, repository: str, source: Place) -> None:
        pack(source.url, f"{repository}:v1")

        assert problems_at(f"{load_config().region('open').host}/open/{repository}:v1") == {}

    def test_each_has_the_provenance(self, three: Settings, repository: str, source: Place, digest: str) -> None:
        pack(source.url, f"{repository}:v1")
        places = [place(f"{repository}:v1", name, load_config(), IMPATIENT) for name in THREE]

        assert [len(open_store(*one).referrers(digest)) for one in places] == [1, 1, 1]  # type: ignore[arg-type]

    def test_several_layouts_have_tags_of_their_own(self, three: Settings, repository: str, source: Place) -> None:
        report, _ = pack(source.url, f"{repository}:v1", layouts=("image", "modelpack"))
        tags = {one.tag: one.digest for one in report.packed.artifacts}

        assert {tag: digests(f"{repository}:{tag}", THREE) for tag in tags} == {
            tag: [digest] * 3 for tag, digest in tags.items()
        }

    def test_the_report_says_what_each_got(self, three: Settings, repository: str, source: Place) -> None:
        report, _ = pack(source.url, f"{repository}:v1")

        assert [(one.state, one.tagged, one.done, one.bytes >= one.size) for one in report.regions] == [
            ("Pushed", True, report.size, True)
        ] * 3

    def test_unchanged_nothing_is_read_or_sent(self, three: Settings, repository: str, source: Place) -> None:
        pack(source.url, f"{repository}:v1")
        before = source.sent()
        report, _ = pack(source.url, f"{repository}:v1")

        assert (source.sent() - before, report.read, [(one.sent, one.bytes) for one in report.regions]) == (
            0,
            0,
            [([], 0)] * 3,
        )

    def test_unchanged_nothing_is_read_though_only_a_region_knows_it(
        self, three: Settings, repository: str, source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pack(source.url, f"{repository}:v1", "token")
        before = source.sent()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
        pack(source.url, f"{repository}:v1")

        assert source.sent() == before

    def test_what_one_region_has_the_others_get_from_there(
        self, three: Settings, repository: str, source: Place, digest: str
    ) -> None:
        pack(source.url, f"{repository}:v1", "password")
        before = source.sent()
        report, _ = pack(source.url, f"{repository}:v1")

        assert (source.sent() - before, digests(f"{repository}:v1", THREE)) == (0, [digest] * 3)
        assert report.read_elsewhere > 0

    def test_one_at_a_time_the_others_get_it_from_the_first(
        self, three: Settings, repository: str, source: Place, size: int, digest: str
    ) -> None:
        pack(source.url, f"{repository}:v1", into={"concurrency": 1})

        assert (digests(f"{repository}:v1", THREE), source.sent() <= size + HEADERS) == ([digest] * 3, True)

    def test_one_at_a_time_the_others_wait_until_it_is_their_turn(
        self, three: Settings, repository: str, source: Place
    ) -> None:
        watcher = Notes()
        pack(source.url, f"{repository}:v1", watcher=watcher, into={"concurrency": 1})

        assert watcher.states == [(name, state) for name in THREE for state in ("Sending", "Pushed")]

    def test_a_file_that_is_not_what_is_stated_leaves_no_tag(
        self, three: Settings, repository: str, source: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "sums.txt").write_text("00000000  config.json\n")
        with pytest.raises(ChecksumMismatch):
            pack(source.url, f"{repository}:v1", crc32_file=str(tmp_path / "sums.txt"))

        assert digests(f"{repository}:v1", THREE) == [""] * 3


def refused() -> Fault:
    """Refuse every upload."""
    return Fault("^POST .*uploads", "status", status=400, times=9999)


class TestOneFails:
    def test_the_others_are_complete_and_tagged(
        self, three: Settings, plain: Registry, repository: str, source: Place, digest: str
    ) -> None:
        with ExitStack() as stack:
            failing(stack, three, plain, refused())
            found = pack(source.url, f"{repository}:v1")

            assert states(found) == dict.fromkeys(THREE, "Pushed") | {"bad": "Failed"}
            assert digests(f"{repository}:v1", [*THREE, "bad"]) == [digest] * 3 + [""]

    def test_it_says_why(self, three: Settings, plain: Registry, repository: str, source: Place) -> None:
        with ExitStack() as stack:
            failing(stack, three, plain, refused())
            report, errors = pack(source.url, f"{repository}:v1")

        assert ("it answered 400" in report.regions[-1].why, list(errors)) == (True, ["bad"])

    def test_one_that_nobody_reaches_is_its_own_failure(
        self, settings: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        settings.add("gone", "127.0.0.1:1")
        settings.add("open", plain.host, namespace="open")
        assert states(pack(source.url, f"{repository}:v1")) == {"gone": "Failed", "open": "Pushed"}

    def test_one_that_dies_in_a_layer_leaves_the_others_alone(
        self, three: Settings, plain: Registry, repository: str, source: Place, size: int
    ) -> None:
        cut = Fault("^PATCH", "cut-request", at=50_000)
        dead = Fault("^(PATCH|POST)", "status", status=400, skip=4, times=9999)
        with ExitStack() as stack:
            proxy = failing(stack, three, plain, cut, dead)
            found = pack(source.url, f"{repository}:v1")

            assert (proxy.struck > 1, states(found)) == (True, dict.fromkeys(THREE, "Pushed") | {"bad": "Failed"})
            assert digests(f"{repository}:v1", ["bad"]) == [""]

        assert source.sent() <= 2 * size

    def test_what_the_next_one_reads_again_is_counted(
        self, settings: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        with ExitStack() as stack:
            failing(stack, settings, plain, Fault("^PATCH", "status", status=400, times=9999))
            settings.add("open", plain.host, namespace="open")
            report, _ = pack(source.url, f"{repository}:v1", "bad", "open", into={"concurrency": 1})

        assert source.sent() - HEADERS <= report.read <= source.sent()

    def test_once_it_lives_the_same_command_finishes_it(
        self, three: Settings, plain: Registry, repository: str, source: Place, digest: str
    ) -> None:
        with ExitStack() as stack:
            proxy = failing(stack, three, plain, refused())
            pack(source.url, f"{repository}:v1")
            proxy.faults.clear()
            before = source.sent()
            found = pack(source.url, f"{repository}:v1")

            assert (set(states(found).values()), source.sent() - before) == ({"Pushed"}, 0)
            assert digests(f"{repository}:v1", ["bad"]) == [digest]

    def test_told_to_wait_for_all_it_leaves_no_tag(
        self, three: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        with ExitStack() as stack:
            failing(stack, three, plain, refused())
            found = pack(source.url, f"{repository}:v1", into={"tag_when": "all"})

            assert (states(found)["open"], digests(f"{repository}:v1", [*THREE, "bad"])) == ("Untagged", [""] * 4)

    def test_a_password_that_is_nowhere_is_its_regions_failure(
        self, settings: Settings, plain: Registry, repository: str, source: Place, packed: Path
    ) -> None:
        settings.add("bad", plain.host, 'username = "alice"', 'password_file = "/nowhere/password"')
        settings.add("open", plain.host, namespace="open")
        by_pack, packing = pack(source.url, f"{repository}:v1")
        by_push, pushing = push_regions(
            reference(packed), f"{repository}-pushed:v1", ["all"], RegionOptions(access=IMPATIENT), Watcher()
        )

        assert [[one.state for one in found.regions] for found in (by_pack, by_push)] == [["Failed", "Pushed"]] * 2
        assert [type(errors["bad"]) for errors in (packing, pushing)] == [NotFound] * 2

    def test_a_region_that_is_not_known_is_refused_before_anything_is_read(
        self, three: Settings, source: Place
    ) -> None:
        with pytest.raises(UsageProblem, match="no region is named 'mars'"):
            pack(source.url, "m:v1", "open", "mars")

        assert source.sent() == 0


class TestAllFail:
    def test_each_says_what_with(self, settings: Settings, source: Place) -> None:
        with ExitStack() as stack:
            for name, status in {"a": 403, "b": 404}.items():
                refused = Fault("^POST", "status", status=status, times=9999)
                settings.add(name, stack.enter_context(fault_proxy(_registry(stack), refused)).host)
            settings.add("c", "localhost:1", 'password_file = "/nowhere/password"', 'username = "alice"')
            report, errors = pack(source.url, "m:v1")

        assert [(one.state, one.code, one.seconds > 0, one.tagged) for one in report.regions] == [
            ("Failed", "denied", True, False),
            ("Failed", "not-found", True, False),
            ("Failed", "not-found", False, False),
        ]
        assert {name: type(error) for name, error in errors.items()} == {"a": Denied, "b": NotFound, "c": NotFound}

    def test_nothing_is_said_to_be_packed(self, settings: Settings, source: Place) -> None:
        with ExitStack() as stack:
            settings.add("a", stack.enter_context(recorder(403)).host)
            report, _ = pack(source.url, "m:v1")

        assert (report.digest, report.packed.artifacts, report.packed.files, report.size > 0) == ("", [], 0, True)

    def test_a_dry_run_says_so_too(self, settings: Settings, source: Place) -> None:
        settings.add("a", "localhost:1", 'password_file = "/nowhere/password"', 'username = "alice"')
        found = pack(source.url, "m:v1", dry_run=True, into={"dry_run": True})

        assert states(found) == {"a": "Failed"}


def _registry(stack: ExitStack) -> str:
    return stack.enter_context(memory_registry()).host


def test_no_credential_reaches_another_region(settings: Settings, source: Place) -> None:
    with ExitStack() as stack:
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        hosts = {name: stack.enter_context(recorder(401, headers=challenge)) for name in ("a", "b", "c")}
        for name, host in hosts.items():
            settings.add(name, host.host, f'username = "{name}"', f'password = "of-{name}"')
        _, errors = pack(source.url, "m:v1")

    assert {type(error) for error in errors.values()} == {Denied}
    own = {name: "Basic " + base64.b64encode(f"{name}:of-{name}".encode()).decode() for name in hosts}
    assert {name: set(host.authorizations) for name, host in hosts.items()} == {name: {"", own[name]} for name in hosts}


def test_a_region_that_is_slow_delays_no_other(
    settings: Settings, plain: Registry, repository: str, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "large", shards=3, size=12 << 20)
    watcher = Notes("fast", "other")
    slow = Fault("^PATCH", "hold-request", at=100_000, times=99, let_go=watcher.waited_for)
    with fault_proxy(plain.host, slow) as proxy:
        for name, host in {"slow": proxy.host, "fast": plain.host, "other": plain.host}.items():
            settings.add(name, host, namespace=name)
        found = pack(model, f"{repository}:v1", watcher=watcher, access=Access(timeout_s=60))

        assert (set(states(found).values()), watcher.states[-1]) == ({"Pushed"}, ("slow", "Pushed"))
        assert digests(f"{repository}:v1", ["slow"]) == [pack_model(model, tmp_path / "own").artifacts[0].digest]


def test_a_limit_of_connections_holds(settings: Settings, plain: Registry, repository: str, source: Place) -> None:
    with fault_proxy(plain.host) as proxy:
        settings.add("narrow", proxy.host, "connections = 1")
        report, _ = pack(source.url, f"{repository}:v1")
        uploads = [line.partition(" ")[0] for line in proxy.requests if "uploads" in line]

    assert uploads == ["POST", "PATCH", "PUT"] * len(report.regions[0].sent)


class TestDryRun:
    def test_it_changes_nothing_and_reads_headers_only(
        self, settings: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        with fault_proxy(plain.host) as proxy:
            settings.add("a", proxy.host)
            report, _ = pack(source.url, f"{repository}:v1", dry_run=True, into={"dry_run": True})

        assert {line.partition(" ")[0] for line in proxy.requests} <= {"GET", "HEAD"}
        assert (source.sent() <= HEADERS, report.regions[0].state) == (True, "Planned")

    def test_it_says_what_each_region_lacks(
        self, settings: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        settings.add("has", plain.host, namespace="has")
        pack(source.url, f"{repository}:v1")
        settings.add("lacks", plain.host, namespace="lacks")
        report, _ = pack(source.url, f"{repository}:v1", dry_run=True, into={"dry_run": True})
        has, lacks = report.regions

        assert (has.sent, has.bytes, lacks.skipped, lacks.bytes) == ([], 0, [], report.size)
        assert sorted(has.skipped) == sorted(lacks.sent)

    def test_what_nobody_has_is_called_by_its_files(
        self, settings: Settings, plain: Registry, repository: str, source: Place
    ) -> None:
        settings.add("lacks", plain.host, namespace="lacks")
        report, _ = pack(source.url, f"{repository}:v1", dry_run=True, into={"dry_run": True})

        assert "model-00001-of-00004.safetensors" in report.regions[0].sent


class Killed:
    """Two regions that resume uploads, and a model too large for what is on the way between programs."""

    def __init__(self, stack: ExitStack, source: Place, settings: Settings) -> None:
        files = {"a.safetensors": shard({"weights": noise(24 << 20, "a")}), "config.json": b"{}"}
        self.size = sum(map(len, files.values()))
        source.put(files)
        self.source = source
        self.registries: list[MemoryRegistry] = [stack.enter_context(memory_registry()) for _ in range(2)]
        self.holds = [Fault("^PATCH", "hold-request", at=at << 20, times=1) for at in (10, 14)]
        self.proxies: list[Proxy] = [
            stack.enter_context(fault_proxy(one.host, hold))
            for one, hold in zip(self.registries, self.holds, strict=True)
        ]
        for number, proxy in enumerate(self.proxies):
            settings.add(f"r{number}", proxy.host)
        flags = ("--regions", "all", "--to", "models/qwen:v1", "--memory", "4", "-o", "json")
        self.command = [*MODELCTL, "pack", source.url, *flags]
        self.environment = environment(MODELCTL_CONFIG=os.environ["MODELCTL_CONFIG"], **source.variables)
        with subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            wait_until(
                lambda: (
                    [proxy.patched >= at << 20 for proxy, at in zip(self.proxies, (10, 14), strict=True)] == [True] * 2
                )
            )
            process.kill()
        for hold in self.holds:
            hold.let_go.set()
        wait_until(lambda: min(max(map(len, one.uploads.values()), default=0) for one in self.registries) > 8 << 20)

    def go_on(self) -> Any:
        """Pack again."""
        ended = subprocess.run(self.command, env=self.environment, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestKilled:
    @pytest.fixture
    def killed(self, bucket: tuple[Place, Oss], settings: Settings) -> Iterator[Killed]:
        with ExitStack() as stack:
            yield Killed(stack, bucket[0], settings)

    def test_it_leaves_no_tag(self, killed: Killed) -> None:
        assert [one.tags for one in killed.registries] == [{}, {}]

    def test_the_same_command_sends_what_is_missing(self, killed: Killed) -> None:
        found = killed.go_on()

        assert [one.tags for one in killed.registries] == [{"v1": found["digest"]}] * 2
        assert [proxy.patched <= 1.1 * found["size"] for proxy in killed.proxies] == [True, True]

    def test_the_same_command_reads_on_at_the_chunk(self, killed: Killed) -> None:
        before = killed.source.sent()
        killed.go_on()

        assert killed.source.sent() - before <= killed.size - (8 << 20) + HEADERS

    def test_the_digest_is_that_of_one_pack(self, killed: Killed, tmp_path: Path) -> None:
        expected = pack_model(killed.source.url, tmp_path / "store").artifacts[0].digest

        assert killed.go_on()["digest"] == expected


def test_more_regions_cost_little_memory(tmp_path: Path, plain: Registry, repository: str, settings: Settings) -> None:
    model = write_model(tmp_path / "large", shards=2, size=24 << 20)
    for number in range(8):
        settings.add(f"r{number}", plain.host, namespace=f"r{number}")
    one = peak(model, "r0", f"{repository}-one:v1")
    eight = peak(model, "all", f"{repository}-all:v1")

    assert eight - one < 32 << 20


def peak(model: Path, regions: str, to: str) -> int:
    """Pack in a process of its own; return the most memory that it had [bytes]."""
    command = [*MODELCTL, "pack", str(model), "--regions", regions, "--to", to, "--quiet"]
    process = subprocess.Popen(
        command, env=environment(MODELCTL_CONFIG=os.environ["MODELCTL_CONFIG"]), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss << 10


def test_the_same_model_to_one_place_is_known_in_regions(
    three: Settings, plain: Registry, repository: str, source: Place
) -> None:
    pack_to(source.url, f"{plain.host}/open/{repository}:v1")
    before = source.sent()
    pack(source.url, f"{repository}:v1")

    assert source.sent() == before
