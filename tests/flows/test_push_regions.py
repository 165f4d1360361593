"""Push to regions: one read for all, nobody delays anybody, tags last, and each region's secrets are its own."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.access import Access
from modelctl.core.config import load_config
from modelctl.core.errors import Conflict, Denied, ModelctlError, UsageProblem
from modelctl.core.reference import parse_reference
from modelctl.flows.push_regions import push_regions
from modelctl.flows.region_jobs import RegionOptions
from modelctl.flows.region_report import RegionsReport, Watcher
from modelctl.flows.regions import place
from modelctl.flows.stores import open_store
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy, recorder
from tests.fakes.registries import Registry
from tests.flows.regional import THREE, Guarded, Notes, Settings, digests, failing, states
from tests.models import write_model
from tests.registries import IMPATIENT, pack_to, problems_at, push_to, tagged
from tests.stores import layer_of, tags_of


@pytest.fixture
def source(packed: Path) -> str:
    return f"oci:{packed}:v1"


@pytest.fixture
def origin(plain: Registry, repository: str, source: str) -> Iterator[Proxy]:
    """A registry that has the model as `REPOSITORY-origin:v1`, and counts what is read of it."""
    push_to(source, f"{plain.host}/{repository}-origin:v1")
    with fault_proxy(plain.host) as proxy:
        yield proxy


def push(
    source: str, to: str, *names: str, watcher: Watcher | None = None, access: Access = IMPATIENT, **options: Any
) -> tuple[RegionsReport, dict[str, ModelctlError]]:
    wanted = RegionOptions(access=access, **options)
    return push_regions(parse_reference(source), to, names or ("all",), wanted, watcher or Watcher())


def test_every_region_has_it_whoever_it_asks_for(three: Settings, repository: str, source: str, packed: Path) -> None:
    push(source, f"{repository}:v1")

    assert digests(f"{repository}:v1", THREE) == [tags_of(packed)["v1"]] * 3


def test_a_registry_that_is_the_source_is_read_once(three: Settings, repository: str, origin: Proxy) -> None:
    report, _ = push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1")

    assert (origin.served, report.read) == (report.size, report.size)


def test_what_was_read_once_is_right_everywhere(three: Settings, repository: str, origin: Proxy, packed: Path) -> None:
    push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1")

    assert (
        digests(f"{repository}:v1", THREE),
        problems_at(f"{load_config().region('open').host}/open/{repository}:v1"),
    ) == (
        [tags_of(packed)["v1"]] * 3,
        {},
    )


def test_without_a_name_it_is_that_of_the_source(three: Settings, repository: str, origin: Proxy) -> None:
    push(f"{origin.host}/{repository}-origin:v1", "", "open")

    assert digests(f"{repository}-origin:v1", ["open"]) != [""]


def test_from_a_folder_a_name_is_needed(three: Settings, source: str) -> None:
    with pytest.raises(UsageProblem, match="--to"):
        push(source, "")


def test_again_it_sends_nothing(three: Settings, repository: str, source: str) -> None:
    first, _ = push(source, f"{repository}:v1")
    report, _ = push(source, f"{repository}:v1")

    assert [(one.sent, set(one.skipped), one.bytes) for one in report.regions] == [
        ([], set(first.regions[0].sent), 0)
    ] * 3


def test_one_at_a_time_later_regions_read_from_an_earlier_one(
    three: Settings, repository: str, origin: Proxy, packed: Path
) -> None:
    report, _ = push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1", concurrency=1)

    assert (origin.served, report.read_elsewhere) == (report.size, 2 * report.size)


def test_in_the_registry_of_the_source_it_is_mounted(
    settings: Settings, plain: Registry, repository: str, source: str
) -> None:
    push_to(source, f"{plain.host}/{repository}-origin:v1")
    settings.add("home", plain.host, namespace="home")
    report, _ = push(f"{plain.host}/{repository}-origin:v1", f"{repository}:v1")

    assert (report.read, report.regions[0].sent, report.regions[0].skipped) == (0, [], [])


def test_what_is_attached_travels_too(three: Settings, repository: str, plain: Registry, model: Path) -> None:
    (packed,) = pack_to(model, f"{plain.host}/{repository}-origin:v1").artifacts
    push(f"{plain.host}/{repository}-origin:v1", f"{repository}:v1")
    places = [place(f"{repository}:v1", name, load_config(), IMPATIENT) for name in THREE]

    assert [len(open_store(*one).referrers(packed.digest)) for one in places] == [1, 1, 1]  # type: ignore[arg-type]


REFUSED = Fault("^PUT .*manifests", "status", status=400, times=99)


def test_a_region_that_fails_leaves_the_others_alone(
    three: Settings, plain: Registry, repository: str, source: str
) -> None:
    with ExitStack() as stack:
        failing(stack, three, plain, REFUSED)
        found = push(source, f"{repository}:v1")

    assert states(found) == {"open": "Pushed", "password": "Pushed", "token": "Pushed", "bad": "Failed"}


def test_a_region_that_fails_says_why(three: Settings, plain: Registry, repository: str, source: str) -> None:
    with ExitStack() as stack:
        failing(stack, three, plain, REFUSED)
        report, errors = push(source, f"{repository}:v1")

    assert (report.regions[-1].code, "it answered 400" in report.regions[-1].why, list(errors)) == (
        "bad-answer",
        True,
        ["bad"],
    )


def test_a_wrong_password_is_its_regions_failure(
    settings: Settings, guarded: Guarded, plain: Registry, repository: str, source: str
) -> None:
    wrong = ('username = "alice"', 'password = "wr0ng"', f'ca_file = "{guarded.password.ca_file}"')
    settings.add("password", guarded.password.host, *wrong)
    settings.add("open", plain.host)
    report, errors = push(source, f"{repository}:v1")

    assert (type(errors["password"]), report.regions[1].state) == (Denied, "Pushed")


def test_told_to_wait_for_all_one_failure_leaves_no_tag(
    three: Settings, plain: Registry, repository: str, source: str
) -> None:
    with ExitStack() as stack:
        failing(stack, three, plain, REFUSED)
        found = push(source, f"{repository}:v1", tag_when="all")

        assert (states(found)["open"], digests(f"{repository}:v1", [*THREE, "bad"])) == ("Untagged", [""] * 4)


def test_told_to_wait_for_all_the_others_say_for_whom(
    three: Settings, plain: Registry, repository: str, source: str
) -> None:
    with ExitStack() as stack:
        failing(stack, three, plain, REFUSED)
        report, _ = push(source, f"{repository}:v1", tag_when="all")

    assert report.regions[0].why == "all is there but the tag, for bad failed"


def test_told_to_wait_for_all_every_region_is_tagged(three: Settings, repository: str, source: str) -> None:
    found = push(source, f"{repository}:v1", tag_when="all", concurrency=1)

    assert (set(states(found).values()), "" in digests(f"{repository}:v1", THREE)) == ({"Pushed"}, False)


def test_told_to_wait_for_all_no_tag_comes_before_the_last_blob(
    settings: Settings, plain: Registry, repository: str, source: str
) -> None:
    with fault_proxy(plain.host) as proxy:
        for name in ("a", "b"):
            settings.add(name, proxy.host, namespace=name)
        push(source, f"{repository}:v1", tag_when="all", concurrency=1)
        kinds = ["tag" if line.endswith("/v1") else "blob" for line in proxy.requests if line.startswith("PUT")]

    assert kinds == ["blob"] * (len(kinds) - 2) + ["tag"] * 2


def test_a_region_that_is_slow_delays_no_other(
    settings: Settings, plain: Registry, repository: str, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "large", shards=3, size=12 << 20)
    pack_to(model, f"{plain.host}/{repository}-origin:v1")
    watcher = Notes("fast", "other")
    slow = Fault("^PATCH", "hold-request", at=100_000, times=99, let_go=watcher.waited_for)
    with fault_proxy(plain.host, slow) as proxy, fault_proxy(plain.host) as origin:
        for name, host in {"slow": proxy.host, "fast": plain.host, "other": plain.host}.items():
            settings.add(name, host, namespace=name)
        access = Access(timeout_s=30)
        found = push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1", watcher=watcher, access=access)

    assert (set(states(found).values()), watcher.states[-1]) == ({"Pushed"}, ("slow", "Pushed"))


def test_no_credential_reaches_another_region_or_the_source(settings: Settings, source: str) -> None:
    with ExitStack() as stack:
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        hosts = {name: stack.enter_context(recorder(401, headers=challenge)) for name in ("a", "b", "c")}
        for name, host in hosts.items():
            settings.add(name, host.host, f'username = "{name}"', f'password = "of-{name}"')
        push(source, "m:v1")

    own = {name: "Basic " + base64.b64encode(f"{name}:of-{name}".encode()).decode() for name in hosts}
    assert {name: set(host.authorizations) for name, host in hosts.items()} == {name: {"", own[name]} for name in hosts}


def test_a_dry_run_says_what_each_region_lacks(
    settings: Settings, plain: Registry, repository: str, source: str
) -> None:
    settings.add("has", plain.host, namespace="has")
    first, _ = push(source, f"{repository}:v1")
    settings.add("lacks", plain.host, namespace="lacks")
    report, _ = push(source, f"{repository}:v1", dry_run=True)
    blobs = set(first.regions[0].sent)

    assert [(one.state, set(one.sent), set(one.skipped)) for one in report.regions] == [
        ("Planned", set(), blobs),
        ("Planned", blobs, set()),
    ]


def test_a_dry_run_changes_nothing(settings: Settings, plain: Registry, repository: str, source: str) -> None:
    with fault_proxy(plain.host) as proxy:
        settings.add("a", proxy.host)
        push(source, f"{repository}:v1", dry_run=True)

    assert {line.partition(" ")[0] for line in proxy.requests} <= {"GET", "HEAD"}


def test_a_tag_that_must_not_move_is_its_regions_failure(
    settings: Settings, plain: Registry, repository: str, source: str, tmp_path: Path
) -> None:
    settings.add("taken", plain.host, namespace="taken")
    settings.add("free", plain.host, namespace="free")
    pack_to(write_model(tmp_path / "other", seed=9), f"{plain.host}/taken/{repository}:v1")
    _, errors = push(source, f"{repository}:v1", if_exists="fail")

    assert ({name: type(error) for name, error in errors.items()}, tagged(f"{plain.host}/free/{repository}:v1")) == (
        {"taken": Conflict},
        True,
    )


def test_two_runs_at_once_do_each_other_no_harm(three: Settings, repository: str, source: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: push(source, f"{repository}:v1")[0].regions, range(2)))

    assert {(one.state, one.why) for regions in both for one in regions} == {("Pushed", "")}


def test_after_a_cut_only_that_region_reads_again(
    settings: Settings, plain: Registry, repository: str, origin: Proxy
) -> None:
    cut = Fault("^PATCH", "cut-request", at=50_000)
    with fault_proxy(plain.host, cut) as proxy:
        settings.add("cut", proxy.host, namespace="cut")
        settings.add("whole", plain.host, namespace="whole")
        report, _ = push(f"{origin.host}/{repository}-origin:v1", f"{repository}:v1")

    assert (report.regions[1].bytes, report.regions[0].bytes > report.size) == (report.size, True)


def test_a_source_that_fails_is_told_of_every_region(
    settings: Settings, plain: Registry, repository: str, source: str
) -> None:
    push_to(source, f"{plain.host}/{repository}-origin:v1")
    with fault_proxy(plain.host, Fault("^GET .*blobs", "status", status=400, times=99)) as proxy:
        for name in ("a", "b"):
            settings.add(name, plain.host, namespace=name)
        report, _ = push(f"{proxy.host}/{repository}-origin:v1", f"{repository}:v1")

    assert [one.why.startswith("source: ") for one in report.regions] == [True, True]


def test_bad_bytes_of_the_source_are_its_fault_in_every_region(
    settings: Settings, plain: Registry, repository: str, source: str, packed: Path
) -> None:
    push_to(source, f"{plain.host}/{repository}-origin:v1")
    digest = layer_of(packed, "model-00001-of-00004.safetensors")
    wrong = Fault(f"^GET .*{digest}", "wrong-byte", at=70_000, times=99)
    with fault_proxy(plain.host, wrong) as bad, fault_proxy(plain.host) as proxy:
        for name in ("a", "b"):
            settings.add(name, proxy.host, namespace=name)
        report, _ = push(f"{bad.host}/{repository}-origin:v1", f"{repository}:v1")

    assert ({one.code for one in report.regions}, {one.why.partition(": its")[0] for one in report.regions}) == (
        {"digest-mismatch"},
        {f"source: blob {digest} in {bad.host}/{repository}-origin"},
    )
    assert [line for line in proxy.requests if line.startswith("PUT") and digest[7:] in line] == []


def test_a_limit_of_connections_holds(settings: Settings, plain: Registry, repository: str, source: str) -> None:
    with fault_proxy(plain.host) as proxy:
        settings.add("narrow", proxy.host, "connections = 1")
        report, _ = push(source, f"{repository}:v1")
        uploads = [line.partition(" ")[0] for line in proxy.requests if "uploads" in line]

    assert uploads == ["POST", "PATCH", "PUT"] * len(report.regions[0].sent)


def test_a_region_that_is_not_known_is_refused_before_anything_is_sent(three: Settings, source: str) -> None:
    with pytest.raises(UsageProblem, match="no region is named 'mars'"):
        push(source, "m:v1", "open", "mars")
