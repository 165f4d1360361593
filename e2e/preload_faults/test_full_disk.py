"""A node whose disk has too little room: refused with figures where that is known, else explained when it is full."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.command import Ended
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import Namespace, kubectl, new_namespace
from e2e.preload_faults.model import Model
from e2e.preload_faults.trouble import full_disk, make_room, on_disk, settled, slow_network, wait_until

pytestmark = [pytest.mark.usefixtures("n2"), pytest.mark.timeout(600)]

MIB = 1 << 20
SHARD = 10_000_000
FREE = 30 * MIB
"""More than the model, and less than twice of it."""


@pytest.fixture(scope="module")
def big(new_model: Callable[..., Model]) -> Model:
    return new_model(SHARD)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (made,):
        yield made


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of somebody who may do what docs/preload.md lists, but not ask kubelets what is free."""
    name, path = f"operator-{secrets.token_hex(4)}", tmp_path_factory.mktemp("operator") / "kubeconfig"
    kubectl("-n", "default", "create", "serviceaccount", name)
    rules = {
        "nodes": "list,watch,patch",
        "pods,events": "list,watch",
        "jobs.batch,daemonsets.apps": "get,list,create,patch,delete",
    }
    for number, (resources, verbs) in enumerate(rules.items()):
        role = f"{name}-{number}"
        kubectl("create", "clusterrole", role, f"--resource={resources}", f"--verb={verbs}")
        kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", f"--serviceaccount=default:{name}")
    path.write_text(kubectl("config", "view", "--raw", "--flatten", "--minify"))
    token = kubectl("-n", "default", "create", "token", name).strip()
    kubectl("--kubeconfig", path, "config", "set-credentials", name, f"--token={token}")
    kubectl("--kubeconfig", path, "config", "set-context", "a", f"--user={name}")
    yield path
    for number in range(len(rules)):
        kubectl("delete", "clusterrole,clusterrolebinding", f"{name}-{number}")


def said_free(node: str) -> int:
    """Return what a kubelet says is free on the disk of its runtime [bytes]."""
    stats = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    return int(stats["node"]["runtime"]["imageFs"]["availableBytes"])


@dataclass(frozen=True)
class Scenario:
    """Three preloads in image mode: one that knew of the disk, one that did not, and one when there was room again."""

    model: Model
    known: Told
    jobs: list[object]
    unknown: Ended
    line: str
    left: set[str]
    again: Told


@pytest.fixture(scope="module")
def scenario(new_model: Callable[..., Model], place: Namespace, operator: Path) -> Scenario:
    big = new_model(SHARD)
    as_operator = (*on("n2"), "-n", place.name, "--kubeconfig", operator)
    with full_disk("n2", FREE):
        wait_until("the kubelet to notice", lambda: said_free("n2") < FREE + 10 * MIB)
        known = big.preload(*on("n1", "n2"), "-n", place.name)
        jobs = big.jobs()
        with big.preloading(*as_operator, "--timeout", "12s") as run:
            line = run.until("no space left on device|twice the size")
            unknown = run.ended()
        left = big.labels("n2")
    again = big.preload(*as_operator)
    return Scenario(big, known, jobs, unknown, line, left, again)


class TestImageMode:
    def test_the_plan_refuses_the_node_with_figures_and_creates_nothing_there(self, scenario: Scenario) -> None:
        assert (scenario.known.status, scenario.known.states["n2"]) == (9, "NoDisk")
        plan = scenario.known.words.splitlines()
        assert plan[0].endswith(": 1 Fit, 1 NoDisk")
        assert "needs 39 MiB of the runtime's disk, " in plan[1]
        assert "free some on node n2; --mode host needs half of it" in plan[1]
        assert not [line for line in plan if "n2  Waiting" in line]
        assert scenario.jobs == []

    def test_the_other_node_goes_on(self, scenario: Scenario) -> None:
        assert scenario.known.states["n1"] == "Warm"
        assert scenario.model.labels("n1") == {"warm"}

    def test_who_may_not_ask_kubelets_is_told_that_the_disk_is_not_known(self, scenario: Scenario) -> None:
        plan = scenario.unknown.stderr.partition("Waiting")[0]
        assert "nodes/proxy" in plan

    def test_then_what_the_runtime_says_is_explained(self, scenario: Scenario) -> None:
        assert "a runtime keeps an image's blobs and its snapshots, twice the size of the model" in scenario.line

    def test_the_line_has_the_reason(self, scenario: Scenario) -> None:
        assert "no space left on device" in scenario.line

    def test_it_ends_by_the_deadline_and_the_node_is_not_labelled(self, scenario: Scenario) -> None:
        assert (scenario.unknown.status, scenario.left) == (10, set()), scenario.unknown.stderr

    def test_with_room_the_same_command_goes_on(self, scenario: Scenario) -> None:
        assert (scenario.again.status, scenario.again.states) == (0, {"n2": "Warm"}), scenario.again.words
        assert scenario.model.labels("n2") == {"warm"}
        assert scenario.model.jobs() == []


class TestHostMode:
    @pytest.fixture(autouse=True)
    def n2_settled(self, n2: None, tools: str) -> None:
        settled("n2", tools)

    def test_what_does_not_fit_is_not_begun_and_with_room_the_job_goes_on(
        self, new_model: Callable[..., Model]
    ) -> None:
        big = new_model(SHARD)
        with full_disk("n2", 15 * MIB):
            with big.preloading(*on("n2"), "--mode", "host") as run:
                line = run.until("are needed")
                make_room("n2")
                found = run.ended()

        assert "a  n2  Retrying" in line
        assert re.search(r": 20000\d{3} bytes are needed and 1\d{7} are free -> free some space", line)
        assert (found.status, big.labels("n2")) == (0, {"disk", "warm"}), found.stderr
        assert big.jobs() == []

    def test_what_was_pulled_before_the_disk_was_full_stays_and_is_gone_on_with(
        self, new_model: Callable[..., Model]
    ) -> None:
        big = new_model(SHARD)
        with big.preloading(*on("n2"), "--mode", "host") as run:
            with slow_network("n2", "20mbit"):
                wait_until("a part", lambda: on_disk("n2", big.partial) > MIB)
                with full_disk("n2", 4 * MIB):
                    line = run.until("No space left|The node was low on resource")
                    kept = on_disk("n2", big.partial)
            found = run.ended()

        assert "a  n2  Retrying" in line
        assert kept > MIB
        assert (found.status, big.labels("n2"), big.jobs()) == (0, {"disk", "warm"}, []), found.stderr
