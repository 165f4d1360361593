"""Unload: labels, holders, Jobs and files go, in this order, and nothing that somebody still uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import UsageProblem
from tests.fakes.kube_api import Fault, KubeApi
from tests.fakes.kube_jobs import RUNS, Fate, Player, failing, ready_node
from tests.flows.conftest import Published
from tests.flows.fleet import Fleet, label, labels_of, names, writes

pytestmark = pytest.mark.usefixtures("player", "hurried")

NOTHING: dict[str, set[str]] = {"n1": set(), "n2": set()}


@pytest.fixture
def fleet(api: KubeApi, published: Published, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, published.text, {"a": api.url})


def user(digest: str, node: str, phase: str = "Running") -> dict[str, Any]:
    """A pod that `modelctl render` made."""
    labels = {"app.kubernetes.io/managed-by": "modelctl"}
    annotations = {"modelctl.io/digest": digest}
    metadata = {"name": f"engine-{node}", "namespace": "ml", "labels": labels, "annotations": annotations}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}


def test_labels_go_and_no_pod_is_run_for_image_mode(api: KubeApi, fleet: Fleet, player: Player) -> None:
    fleet.states("preload")
    player.started.clear()

    assert fleet.states("unload", image="") == {"n1": "Unloaded", "n2": "Unloaded"}
    assert (labels_of(api), player.started) == (NOTHING, [])


def test_what_was_never_there_is_unloaded(api: KubeApi, fleet: Fleet) -> None:
    assert fleet.states("unload") == {"n1": "Unloaded", "n2": "Unloaded"}
    assert [request for request in writes(api) if "nodes" in request or "/jobs/" in request] == []


def test_files_of_host_mode_are_removed_after_the_labels(api: KubeApi, fleet: Fleet, player: Player) -> None:
    fleet.states("preload", mode="host")
    api.requests.clear()

    assert fleet.states("unload") == {"n1": "Removed", "n2": "Removed"}
    kinds = [request.split("?")[0].split("/")[-2] for request in writes(api) if "PATCH" in request]
    notes, labels, removals = kinds[:2], kinds[2:4], kinds[4:]
    assert (notes, labels, removals) == (["jobs"] * 2, ["nodes"] * 2, ["jobs"] * 2)
    assert (labels_of(api), names(api, "jobs")) == (NOTHING, [])


def test_one_that_ended_after_the_labels_is_gone_on_with(api: KubeApi, fleet: Fleet, player: Player) -> None:
    fleet.states("preload", mode="host")
    player.started.clear()
    api.faults = [Fault("DELETE /apis/apps", status=403, message="no")]
    with pytest.raises(AssertionError):
        fleet.states("unload")
    assert (labels_of(api), len(names(api, "jobs")), player.started) == (NOTHING, 2, [])

    assert fleet.states("unload") == {"n1": "Removed", "n2": "Removed"}
    assert (sorted(player.started), names(api, "jobs")) == (["n1", "n2"], [])


def test_only_nodes_that_are_labelled_to_have_files_are_looked_at(
    api: KubeApi, fleet: Fleet, player: Player, published: Published
) -> None:
    label(api, "n2", published.disk)

    assert fleet.states("unload") == {"n1": "Unloaded", "n2": "Removed"}
    assert player.started == ["n2"]


def test_in_host_mode_all_are(fleet: Fleet, player: Player) -> None:
    assert fleet.states("unload", mode="host") == {"n1": "Removed", "n2": "Removed"}
    assert sorted(player.started) == ["n1", "n2"]


@pytest.mark.parametrize(("status", "state"), [(3, "Removed"), (13, "Failed")])
def test_files_that_are_not_there_are_no_failure(fleet: Fleet, player: Player, status: int, state: str) -> None:
    player.fates["n1"] = [failing(status, "disk", "read-only file system")]

    assert fleet.states("unload", mode="host")["n1"] == state


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_files_in_use_are_left_with_their_labels(
    api: KubeApi, fleet: Fleet, player: Player, published: Published, phase: str
) -> None:
    fleet.states("preload", mode="host")
    player.started.clear()
    api.put("pods", user(published.digest, "n1", phase))
    rows = fleet.rows("unload")

    assert (rows["n1"].state, "ml/engine-n1" in rows["n1"].why, rows["n2"].state) == ("InUse", True, "Removed")
    assert (labels_of(api), player.started) == ({"n1": {"disk", "warm"}, "n2": set()}, ["n2"])


@pytest.mark.parametrize(("phase", "model"), [("Succeeded", ""), ("Running", "sha256:" + "0" * 64)])
def test_a_pod_that_is_over_or_uses_another_model_is_no_user(
    api: KubeApi, fleet: Fleet, published: Published, phase: str, model: str
) -> None:
    fleet.states("preload", mode="host")
    api.put("pods", user(model or published.digest, "n1", phase))

    assert fleet.states("unload")["n1"] == "Removed"


def test_who_uses_the_image_keeps_no_label(api: KubeApi, fleet: Fleet, published: Published) -> None:
    fleet.states("preload")
    api.put("pods", user(published.digest, "n1"))

    assert fleet.states("unload") == {"n1": "Unloaded", "n2": "Unloaded"}
    assert labels_of(api) == NOTHING


@pytest.mark.parametrize("mode", ["image", "host"])
def test_the_holder_goes(api: KubeApi, fleet: Fleet, mode: str) -> None:
    fleet.states("preload", hold=True, mode=mode)
    fleet.states("unload")

    assert (names(api, "daemonsets"), names(api, "pods"), labels_of(api)) == ([], [], NOTHING)


def test_a_holder_that_holds_more_is_a_conflict_and_all_stays(api: KubeApi, fleet: Fleet) -> None:
    fleet.states("preload", hold=True)
    api.requests.clear()

    assert "holds the model on n2" in fleet.problem("unload", selector="kubernetes.io/hostname=n1")
    assert (writes(api), len(names(api, "daemonsets"))) == ([], 1)


@pytest.mark.parametrize("mode", ["image", "host"])
def test_jobs_that_still_run_go(api: KubeApi, fleet: Fleet, player: Player, mode: str) -> None:
    player.fates = {"n1": [RUNS], "n2": [RUNS]}
    fleet.states("preload", wait=False, mode=mode)
    fleet.states("unload")

    assert (names(api, "jobs"), names(api, "pods")) == ([], [])


def test_jobs_of_nodes_that_are_left_out_stay(api: KubeApi, fleet: Fleet, player: Player) -> None:
    player.fates = {"n1": [RUNS], "n2": [RUNS]}
    fleet.states("preload", wait=False)
    fleet.states("unload", selector="kubernetes.io/hostname=n1")

    assert [job["metadata"]["annotations"]["modelctl.io/node"] for job in api.objects["jobs"]] == ["n2"]


@pytest.mark.parametrize("dry_run", ["client", "server"])
def test_a_dry_run_writes_nothing(api: KubeApi, fleet: Fleet, published: Published, dry_run: str) -> None:
    label(api, "n1", published.disk)
    label(api, "n2", published.warm)

    assert fleet.states("unload", dry_run=dry_run) == {"n1": "OnDisk", "n2": "Labelled"}
    assert [request for request in api.requests if not request.startswith("GET ")] == []


def test_files_need_an_image_to_be_removed_by(api: KubeApi, fleet: Fleet, published: Published) -> None:
    label(api, "n1", published.disk)

    assert "no image of modelctl" in fleet.problem("unload", image="")
    assert writes(api) == []


def test_what_does_not_end_in_time_is_said(api: KubeApi, fleet: Fleet, player: Player, published: Published) -> None:
    label(api, "n1", published.disk)
    player.fates["n1"] = [Fate(unscheduled="0/2 nodes are available: 1 node(s) had untolerated taint")]
    row = fleet.rows("unload", timeout_s=1.0)["n1"]

    assert (row.state, "untolerated taint" in row.why) == ("TimedOut", True)


def test_a_removal_that_the_cluster_refuses_is_of_its_node_only(
    api: KubeApi, fleet: Fleet, published: Published
) -> None:
    label(api, "n1", published.disk)
    label(api, "n2", published.disk)
    api.faults = [Fault("PATCH /apis/batch", status=403, message="exceeded quota")]

    states = fleet.states("unload")
    assert sorted(states.values()) == ["Failed", "Removed"]
    assert {name for name, labels in labels_of(api).items() if labels} == {
        name for name, state in states.items() if state == "Failed"
    }


def test_a_selector_is_demanded(api: KubeApi, fleet: Fleet) -> None:
    with pytest.raises(UsageProblem, match="--node-selector"):
        fleet.run("unload", selector="")

    assert api.requests == []


def test_without_a_node_nothing_is_done(api: KubeApi, fleet: Fleet) -> None:
    api.objects["nodes"] = [ready_node("n1") | {"metadata": {"name": "n1", "labels": {}}}]

    assert fleet.states("unload") == {}
