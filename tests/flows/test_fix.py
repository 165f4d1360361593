"""Fix: labels say what holders have, what Jobs proved that nobody looked at, and what Jobs measure now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.kube_api import Fault, KubeApi
from tests.fakes.kube_jobs import RUNS, Fate, Player, failing, ready_node
from tests.flows.conftest import Published
from tests.flows.fleet import Fleet, label, labels_of, names, writes

pytestmark = pytest.mark.usefixtures("player", "hurried")

BOTH = {"disk", "warm"}


@pytest.fixture
def fleet(api: KubeApi, published: Published, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, published.text, {"a": api.url})


def unlabel(api: KubeApi) -> None:
    for name in ("n1", "n2"):
        api.put("nodes", ready_node(name))


def test_where_nothing_is_nothing_is_done(api: KubeApi, fleet: Fleet) -> None:
    assert fleet.states("fix", image="") == {}
    assert writes(api) == []


@pytest.mark.parametrize("mode", ["image", "host"])
def test_holders_are_believed_without_a_job(api: KubeApi, fleet: Fleet, player: Player, mode: str) -> None:
    fleet.states("preload", hold=True, mode=mode)
    unlabel(api)
    player.started.clear()

    assert fleet.states("fix", image="") == {"n1": "Held", "n2": "Held"}
    assert player.started == []
    assert labels_of(api)["n1"] == (BOTH if mode == "host" else {"warm"})


@pytest.mark.parametrize("mode", ["image", "host"])
def test_a_holder_that_lost_pages_loses_the_label_of_memory_only(
    api: KubeApi, fleet: Fleet, player: Player, published: Published, mode: str
) -> None:
    player.fates["hold n1"] = [Fate(ready=False)]
    fleet.states("preload", hold=True, wait=False, mode=mode)
    for job in names(api, "jobs"):
        api.remove("jobs", job)
    label(api, "n1", published.warm, *[published.disk] * (mode == "host"))

    assert fleet.states("fix") == {"n1": "NotWarm", "n2": "Held"}
    assert labels_of(api)["n1"] == ({"disk"} if mode == "host" else set())


def test_what_a_job_proved_that_nobody_looked_at_is_believed(api: KubeApi, fleet: Fleet, player: Player) -> None:
    fleet.states("preload", wait=False)
    player.started.clear()

    assert fleet.states("fix", image="") == {"n1": "Warm", "n2": "Warm"}
    assert (labels_of(api), names(api, "jobs"), player.started) == ({"n1": {"warm"}, "n2": {"warm"}}, [], [])


def test_a_holder_is_believed_rather_than_a_job_that_ended_before(api: KubeApi, fleet: Fleet, player: Player) -> None:
    player.fates["hold n1"] = [Fate(ready=False)]
    fleet.states("preload", hold=True, wait=False)
    (cluster,) = fleet.run("fix").clusters

    assert sorted((row.name, row.state) for row in cluster.nodes) == [("n1", "NotWarm"), ("n2", "Held")]
    assert labels_of(api)["n1"] == set()


def test_a_labelled_node_is_measured_by_a_job(api: KubeApi, fleet: Fleet, player: Player, published: Published) -> None:
    label(api, "n1", published.warm)
    row = fleet.rows("fix")["n1"]

    assert (row.state, row.resident, player.started) == ("Warm", published.artifact.size, ["n1"])
    assert (labels_of(api), names(api, "jobs")) == ({"n1": {"warm"}, "n2": set()}, [])


def test_a_node_that_has_the_files_is_measured_in_host_mode(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n1", published.disk)

    assert fleet.states("fix") == {"n1": "Warm"}
    assert (labels_of(api)["n1"], api.asked("namespaces/modelctl-system/jobs") > 0) == (BOTH, True)


def test_what_is_not_in_memory_is_labelled_so_no_more(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n1", published.warm)
    player.fates["n1"] = [failing(9, "partial", "too little memory", resident=5, size=9)]
    row = fleet.rows("fix")["n1"]

    assert (row.state, "too little memory" in row.why, labels_of(api)["n1"]) == ("NotWarm", True, set())


def test_files_that_are_proved_keep_their_label(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n1", published.disk, published.warm)
    player.fates["n1"] = [failing(9, "partial", resident=5, size=9)]

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"]) == ("NotWarm", {"disk"})


def test_files_that_could_not_be_looked_at_keep_their_labels(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n1", published.disk, published.warm)
    player.fates["n1"] = [Fate(pull=4)]

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"]) == ("Failed", {"disk", "warm"})


def test_a_node_that_is_not_ready_has_lost_its_memory_and_not_its_disk(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    api.objects["nodes"] = [ready_node("n1", ready="Unknown")]
    label(api, "n1", published.disk, published.warm)

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"], player.started) == ("NotReady", {"disk"}, [])


def test_a_node_that_is_cordoned_keeps_what_nobody_could_measure(
    api: KubeApi, fleet: Fleet, published: Published
) -> None:
    api.objects["nodes"] = [ready_node("n1", unschedulable=True)]
    label(api, "n1", published.warm)

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"]) == ("Cordoned", {"warm"})


@pytest.mark.parametrize("status", [403, 422])
def test_a_job_that_the_cluster_refuses_has_measured_nothing(
    api: KubeApi, fleet: Fleet, published: Published, status: int
) -> None:
    label(api, "n1", published.disk, published.warm)
    api.faults = [Fault("PATCH /apis/batch", status=status, message="exceeded quota", times=9)]

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"]) == ("Failed", BOTH)


def test_a_pod_that_security_refuses_has_measured_nothing(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n1", published.warm)
    player.fates["n1"] = [Fate(refused='violates PodSecurity "restricted:latest"')]

    assert (fleet.states("fix")["n1"], labels_of(api)["n1"]) == ("Failed", {"warm"})


def test_what_is_not_measured_in_time_stays(api: KubeApi, fleet: Fleet, player: Player, published: Published) -> None:
    label(api, "n1", published.warm)
    player.fates["n1"] = [RUNS]

    assert (fleet.states("fix", timeout_s=1.0)["n1"], labels_of(api)["n1"]) == ("TimedOut", {"warm"})


def test_without_an_image_holders_are_fixed_and_the_rest_is_said(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    fleet.states("preload", hold=True, selector="kubernetes.io/hostname=n2")
    api.put("nodes", ready_node("n2"))
    label(api, "n1", published.warm)

    assert "no image of modelctl" in fleet.problem("fix", image="")
    assert labels_of(api) == {"n1": {"warm"}, "n2": {"warm"}}


def test_a_holder_on_a_node_that_left_is_no_matter(api: KubeApi, fleet: Fleet) -> None:
    fleet.states("preload", hold=True)
    api.objects["nodes"] = [ready_node("n2")]

    assert fleet.states("fix") == {"n2": "Held"}
