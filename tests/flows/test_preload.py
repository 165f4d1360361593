"""Preload: what is planned, what is started, what is believed, and what is made of all that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import UsageProblem
from tests.fakes.kube_api import Fault, KubeApi
from tests.fakes.kube_jobs import RUNS, Fate, Player, failing, ready_node
from tests.flows.conftest import Published
from tests.flows.fleet import Fleet, label, labels_of, names, writes

pytestmark = pytest.mark.usefixtures("player", "hurried")

WARM = {"warm"}
BOTH = {"disk", "warm"}


@pytest.fixture
def fleet(api: KubeApi, published: Published, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, published.text, {"a": api.url})


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def meanwhile(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestPlan:
    @pytest.mark.parametrize(
        ("node", "state", "said"),
        [
            (ready_node("n1", ready="Unknown"), "NotReady", "kubelet"),
            (ready_node("n1", unschedulable=True), "Cordoned", "kept from it"),
            (ready_node("n1", taints=[{"key": "gpu", "value": "h200", "effect": "NoSchedule"}]), "Tainted", "gpu=h200"),
            (ready_node("n1", memory="1Mi"), "NoMemory", "1 MiB are allocatable"),
        ],
    )
    def test_a_node_that_does_not_fit_is_refused_with_why(
        self, api: KubeApi, fleet: Fleet, node: dict[str, Any], state: str, said: str
    ) -> None:
        api.objects["nodes"] = [node]
        row = fleet.rows("preload")["n1"]

        assert (row.state, said in row.why, names(api, "jobs"), writes(api)) == (state, True, [], [])

    @pytest.mark.parametrize(
        ("mode", "place", "needed"), [("image", ("runtime", "imageFs"), "runtime's"), ("host", ("fs",), "kubelet's")]
    )
    def test_a_disk_that_is_too_small_is_refused_with_figures(
        self, api: KubeApi, fleet: Fleet, mode: str, place: tuple[str, ...], needed: str
    ) -> None:
        stats: dict[str, Any] = {"availableBytes": 1 << 10}
        for name in reversed(place):
            stats = {name: stats}
        api.stats["n1"] = {"node": stats}
        rows = fleet.rows("preload", mode=mode)

        assert {name: row.state for name, row in rows.items()} == {"n1": "NoDisk", "n2": "Warm"}
        assert needed in rows["n1"].why
        assert "0 MiB are free" in rows["n1"].why

    def test_the_others_are_preloaded_and_the_plan_comes_first(self, api: KubeApi, fleet: Fleet) -> None:
        api.objects["nodes"].append(ready_node("n3", unschedulable=True))

        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm", "n3": "Cordoned"}
        assert fleet.notes.plan == ["Fit", "Fit", "Cordoned"]

    @pytest.mark.parametrize("text", ["gpu=h200:NoSchedule", "gpu", "all"])
    def test_a_taint_that_is_tolerated_is_no_matter(
        self, api: KubeApi, fleet: Fleet, player: Player, text: str
    ) -> None:
        api.objects["nodes"] = [ready_node("n1", taints=[{"key": "gpu", "value": "h200", "effect": "NoSchedule"}])]

        assert fleet.states("preload", tolerations=[text]) == {"n1": "Warm"}

    def test_only_nodes_of_the_selector_are_touched(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        fleet.states("preload", selector="kubernetes.io/hostname=n2")

        assert (player.started, labels_of(api)) == (["n2"], {"n1": set(), "n2": WARM})

    def test_a_node_that_is_warm_gets_no_job(
        self, api: KubeApi, fleet: Fleet, player: Player, published: Published
    ) -> None:
        label(api, "n1", published.warm)
        row = fleet.rows("preload")["n1"]

        assert (row.state, "--fix" in row.hint, player.started) == ("Warm", True, ["n2"])

    def test_a_warm_node_without_the_files_gets_one_in_host_mode(
        self, api: KubeApi, fleet: Fleet, player: Player, published: Published
    ) -> None:
        label(api, "n1", published.warm)
        fleet.states("preload", mode="host")

        assert set(player.started) == {"n1", "n2"}

    def test_kubelets_are_left_alone_when_the_first_says_that_nobody_may_ask(self, api: KubeApi, fleet: Fleet) -> None:
        api.objects["nodes"] = [ready_node(f"n{number}") for number in range(40)]
        fleet.states("preload", dry_run="client")

        assert api.asked("proxy/stats") <= 16


class TestMode:
    @pytest.mark.parametrize(
        ("release", "mode", "said"),
        [
            ("v1.34.1", "host", "off unless"),
            ("v1.30.0", "host", "no image volumes"),
            ("v1.36.3", "image", "mounts images"),
            ("v1.35.0-aliyun.1", "image", "mounts images"),
        ],
    )
    def test_it_is_what_the_clusters_version_can(
        self, api: KubeApi, fleet: Fleet, release: str, mode: str, said: str
    ) -> None:
        api.release = release
        (found,) = fleet.run("preload", dry_run="client").clusters

        assert (found.mode, said in found.why) == (mode, True)

    def test_image_mode_may_be_asked_for_where_a_gate_was_opened(self, api: KubeApi, fleet: Fleet) -> None:
        api.release = "v1.33.0"
        (found,) = fleet.run("preload", mode="image", dry_run="client").clusters

        assert (found.mode, "where ImageVolume is on" in found.why) == ("image", True)

    def test_image_mode_is_refused_where_there_are_no_image_volumes(self, api: KubeApi, fleet: Fleet) -> None:
        api.release = "v1.30.0"

        assert "--mode host" in fleet.problem("preload", mode="image")
        assert writes(api) == []

    def test_a_layout_that_no_runtime_mounts_goes_to_the_disk(
        self, api: KubeApi, modelpack: Published, tmp_path: Path
    ) -> None:
        (found,) = Fleet(tmp_path, modelpack.text, {"a": api.url}).run("preload", dry_run="client").clusters

        assert (found.mode, found.namespace, found.why != "") == ("host", "modelctl-system", True)

    def test_a_namespace_is_refused_for_host_mode(self, api: KubeApi, fleet: Fleet) -> None:
        with pytest.raises(UsageProblem, match="--namespace with --mode host"):
            fleet.run("preload", mode="host", namespace="ml")

        assert api.requests == []

    def test_the_namespace_is_the_contexts(self, api: KubeApi, published: Published, tmp_path: Path) -> None:
        fleet = Fleet(tmp_path, published.text, {"a": api.url}, namespace="ml")
        (found,) = fleet.run("preload", dry_run="client").clusters

        assert {one["metadata"]["namespace"] for one in found.objects} == {"ml"}

    def test_host_mode_makes_its_namespace_where_it_is_not_there(self, api: KubeApi, fleet: Fleet) -> None:
        api.remove("namespaces", "modelctl-system")

        assert fleet.states("preload", mode="host") == {"n1": "Warm", "n2": "Warm"}
        assert "modelctl-system" in names(api, "namespaces")

    def test_host_mode_leaves_a_namespace_that_is_there_as_it_is(self, api: KubeApi, fleet: Fleet) -> None:
        fleet.states("preload", mode="host")

        assert api.asked("PATCH /api/v1/namespaces/modelctl-system") == 0


class TestProof:
    def test_a_node_is_labelled_warm_and_nothing_stays(self, api: KubeApi, fleet: Fleet, published: Published) -> None:
        rows = fleet.rows("preload")

        assert labels_of(api) == {"n1": WARM, "n2": WARM}
        assert (names(api, "jobs"), names(api, "pods")) == ([], [])
        assert (rows["n1"].size, rows["n1"].resident) == (published.artifact.size,) * 2

    def test_in_host_mode_it_is_labelled_to_have_the_files_too(
        self, api: KubeApi, fleet: Fleet, published: Published
    ) -> None:
        fleet.rows("preload", mode="host")
        keys = set(api.objects["nodes"][0]["metadata"]["labels"])

        assert {published.disk, published.warm} <= keys
        assert labels_of(api) == {"n1": BOTH, "n2": BOTH}

    def test_it_is_labelled_after_its_pod_ended_and_before_its_job_goes(self, api: KubeApi, fleet: Fleet) -> None:
        fleet.rows("preload", selector="kubernetes.io/hostname=n1")
        verbs = [request.split("?")[0] for request in writes(api)]

        assert [verb.split("/")[0] + verb.split("/")[-2] for verb in verbs] == [
            "PATCH jobs",
            "PATCH nodes",
            "DELETE jobs",
        ]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ({"table": "sha256:" + "0" * 64}, "by table"),
            ({"resident": 1}, "1 of"),
            ({"size": 0, "resident": 0}, "0 of 0"),
            ({"size": -1, "resident": -1}, "did not say"),
            ({"error": {"code": "partial"}}, "did not say"),
        ],
    )
    def test_a_pod_that_lies_brings_no_label(
        self, api: KubeApi, fleet: Fleet, player: Player, words: dict[str, Any], said: str
    ) -> None:
        player.fates["n1"] = [Fate(words=words)]
        rows = fleet.rows("preload")

        assert (rows["n1"].state, said in rows["n1"].why, rows["n2"].state) == ("Failed", True, "Warm")
        assert labels_of(api) == {"n1": set(), "n2": WARM}

    @pytest.mark.parametrize("words", [{"digest": "sha256:" + "0" * 64}, {"error": {"code": "partial"}}])
    def test_a_pull_that_lies_brings_none_either(
        self, api: KubeApi, fleet: Fleet, player: Player, words: dict[str, Any]
    ) -> None:
        player.fates["n1"] = [Fate(pull_words=words)]
        fleet.rows("preload", mode="host")

        assert labels_of(api) == {"n1": set(), "n2": BOTH}

    def test_after_a_lie_the_next_run_asks_again(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [Fate(words={"resident": 1}), Fate()]
        fleet.rows("preload")

        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm"}

    def test_the_files_are_proved_before_the_pages(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [failing(9, "partial", "too little memory", resident=5, size=9)]
        row = fleet.rows("preload", mode="host")["n1"]

        assert (row.state, row.resident, "too little memory" in row.why) == ("Failed", 5, True)
        assert labels_of(api)["n1"] == {"disk"}

    def test_while_it_warms_the_files_are_labelled_already(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [RUNS], "n2": [RUNS]}
        rows = fleet.rows("preload", mode="host", timeout_s=1.0)

        assert ({row.state for row in rows.values()}, labels_of(api)["n1"]) == ({"TimedOut"}, {"disk"})
        assert fleet.notes.states["n1"] == ["Waiting", "Warming", "TimedOut"]

    def test_a_node_that_left_meanwhile_ends_nothing_else(self, api: KubeApi, fleet: Fleet) -> None:
        api.faults = [Fault("PATCH /api/v1/nodes/n1", status=404, message='nodes "n1" not found')]

        assert fleet.states("preload") == {"n1": "Failed", "n2": "Warm"}
        assert labels_of(api)["n2"] == WARM

    def test_without_the_right_to_label_it_is_said(self, api: KubeApi, fleet: Fleet) -> None:
        api.faults = [Fault("PATCH /api/v1/nodes", status=403, message="cannot patch nodes", times=9)]

        assert "cannot patch nodes" in fleet.problem("preload")

    def test_what_ended_well_without_a_right_to_label_is_labelled_the_next_time(
        self, api: KubeApi, fleet: Fleet, player: Player
    ) -> None:
        api.faults = [Fault("PATCH /api/v1/nodes", status=403, message="cannot patch nodes")]
        fleet.problem("preload")
        fleet.states("preload")

        assert (labels_of(api), sorted(player.started)) == ({"n1": WARM, "n2": WARM}, ["n1", "n2"])


class TestFailures:
    def test_what_fails_is_tried_again_and_counted(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [Fate(main=5), Fate(main=5), Fate()]
        row = fleet.rows("preload")["n1"]

        assert (row.state, row.attempts, labels_of(api)["n1"]) == ("Warm", 3, WARM)

    def test_what_always_fails_is_given_up_with_why(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [failing(5, "unavailable", "no route to host")]
        rows = fleet.rows("preload")

        assert (rows["n1"].state, rows["n1"].attempts, rows["n2"].state) == ("Failed", 4, "Warm")
        assert "no route to host" in rows["n1"].why

    def test_what_another_attempt_does_not_mend_has_one(self, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [failing(4, "checksum-mismatch", "two digests")]
        row = fleet.rows("preload")["n1"]

        assert (row.state, row.attempts, "two digests" in row.why) == ("Failed", 1, True)

    def test_the_failed_job_stays_to_be_looked_at_until_the_next_run(
        self, api: KubeApi, fleet: Fleet, player: Player
    ) -> None:
        player.fates["n1"] = [failing(4, "checksum-mismatch")]
        fleet.states("preload")
        stayed = names(api, "jobs")
        player.fates["n1"] = [Fate()]

        assert len(stayed) == 1
        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm"}

    @pytest.mark.parametrize("reason", ["DeadlineExceeded", "BackoffLimitExceeded"])
    def test_a_job_of_an_earlier_run_that_failed_is_started_anew(
        self, api: KubeApi, fleet: Fleet, player: Player, reason: str
    ) -> None:
        player.fates = {"n1": [RUNS, Fate()], "n2": [RUNS, Fate()]}
        fleet.states("preload", wait=False)
        for job in list(api.objects["jobs"]):
            player.end_job(job, "Failed", reason)

        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm"}
        assert sorted(player.started) == ["n1", "n1", "n2", "n2"]

    def test_a_job_that_meets_the_deadline_of_an_earlier_run_is_started_anew(
        self, api: KubeApi, fleet: Fleet, player: Player
    ) -> None:
        player.fates = {"n1": [RUNS, Fate()]}
        running = meanwhile(lambda: fleet.states("preload"))
        until(lambda: player.started.count("n1") and len(api.objects["jobs"]) == 1)
        (job,) = api.objects["jobs"]
        api.remove("pods", names(api, "pods")[0])
        player.end_job(job, "Failed", "DeadlineExceeded")
        running.join()

        assert (player.started.count("n1"), labels_of(api)["n1"]) == (2, WARM)

    def test_a_job_that_somebody_deletes_is_said(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [RUNS]}
        rows: dict[str, Any] = {}
        running = meanwhile(lambda: rows.update(fleet.rows("preload")))
        until(lambda: labels_of(api)["n2"] == WARM and len(api.objects["jobs"]) == 1)
        api.remove("jobs", names(api, "jobs")[0])
        running.join()

        assert (rows["n1"].state, "somebody deleted" in rows["n1"].why) == ("Deleted", True)

    def test_a_job_of_another_image_is_replaced(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [RUNS, Fate()], "n2": [RUNS, Fate()]}
        fleet.states("preload", wait=False, image="registry.example/tools/modelctl:0")

        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm"}
        assert sorted(player.started) == ["n1", "n1", "n2", "n2"]

    def test_a_pod_that_security_refuses_fails_at_once(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates["n1"] = [Fate(refused='pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath')]
        row = fleet.rows("preload", mode="host")["n1"]

        assert (row.state, "violates PodSecurity" in row.why, row.hint != "") == ("Failed", True, True)
        assert names(api, "jobs") == []

    def test_what_was_refused_to_an_earlier_job_is_not_held_against_the_next(
        self, api: KubeApi, fleet: Fleet, player: Player
    ) -> None:
        player.fates["n1"] = [Fate(refused='violates PodSecurity "restricted:latest"'), Fate(late=True)]
        fleet.rows("preload", selector="kubernetes.io/hostname=n1")
        row = fleet.rows("preload", selector="kubernetes.io/hostname=n1", timeout_s=1.0)["n1"]

        assert (row.state, "PodSecurity" in row.why) == ("TimedOut", False)

    def test_a_quota_is_waited_for(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [Fate(refused='pods "x" is forbidden: exceeded quota: pods'), Fate()]}
        running = meanwhile(lambda: fleet.states("preload"))
        until(lambda: labels_of(api)["n2"] == WARM and api.objects.get("events"))
        time.sleep(0.3)
        waited = list(fleet.notes.states["n1"])
        (job,) = api.objects["jobs"]
        player.play(job)
        running.join()

        assert (waited[-1], labels_of(api)["n1"]) == ("Waiting", WARM)

    def test_a_write_that_is_refused_fails_its_node_only(self, api: KubeApi, fleet: Fleet) -> None:
        api.faults = [Fault("PATCH /apis/batch", status=403, message="exceeded quota: count/jobs.batch")]
        rows = fleet.rows("preload")

        assert sorted(row.state for row in rows.values()) == ["Failed", "Warm"]

    @pytest.mark.parametrize(
        ("fate", "said"),
        [
            (Fate(unscheduled="0/2 nodes are available: Insufficient memory"), "Insufficient memory"),
            (Fate(waiting='Failed to pull image "m": not found'), "not found"),
        ],
    )
    def test_what_does_not_move_ends_with_the_time_and_says_why(
        self, fleet: Fleet, player: Player, fate: Fate, said: str
    ) -> None:
        player.fates["n1"] = [fate]
        row = fleet.rows("preload", timeout_s=1.0)["n1"]

        assert (row.state, said in row.why) == ("TimedOut", True)

    def test_a_job_may_take_a_little_longer_than_the_command(self, fleet: Fleet) -> None:
        (found,) = fleet.run("preload", dry_run="client", timeout_s=90.5).clusters

        assert {one["spec"]["activeDeadlineSeconds"] for one in found.objects} == {105}


class TestPace:
    @pytest.mark.parametrize("parallelism", [1, 3])
    def test_there_are_never_more_jobs_at_once_than_asked_for(
        self, api: KubeApi, fleet: Fleet, player: Player, parallelism: int
    ) -> None:
        api.objects["nodes"] = [ready_node(f"n{number}") for number in range(7)]
        states = fleet.states("preload", parallelism=parallelism)

        assert (set(states.values()), len(player.started)) == ({"Warm"}, 7)
        assert 0 < player.most <= parallelism

    def test_what_was_not_begun_in_time_is_timed_out_too(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [RUNS]}

        rows = fleet.rows("preload", parallelism=1, timeout_s=0.5)

        assert ({row.state for row in rows.values()}, player.started) == ({"TimedOut"}, ["n1"])
        assert ("still Warming" in rows["n1"].why, "still Fit" in rows["n2"].why) == (True, True)

    def test_pods_are_listed_once_and_watched_once(self, api: KubeApi, fleet: Fleet) -> None:
        api.page = 500
        api.objects["nodes"] = [ready_node(f"n{number}") for number in range(20)]
        fleet.states("preload")

        assert (api.asked("GET /api/v1/namespaces/default/pods?limit"), api.asked("watch=true")) == (1, 1)


class TestDryRun:
    def test_of_the_client_writes_nothing(self, api: KubeApi, fleet: Fleet) -> None:
        (found,) = fleet.run("preload", dry_run="client", hold=True).clusters

        assert [one["kind"] for one in found.objects] == ["Job", "Job", "DaemonSet"]
        assert [request for request in api.requests if not request.startswith("GET ")] == []
        assert [row.state for row in found.nodes] == ["Fit", "Fit"]

    def test_in_host_mode_it_has_the_namespace_too(self, api: KubeApi, fleet: Fleet) -> None:
        api.remove("namespaces", "modelctl-system")
        (found,) = fleet.run("preload", dry_run="client", mode="host").clusters

        assert [one["kind"] for one in found.objects] == ["Namespace", "Job", "Job"]

    def test_of_the_server_is_checked_there_and_changes_nothing(self, api: KubeApi, fleet: Fleet) -> None:
        assert fleet.states("preload", dry_run="server", hold=True) == {"n1": "Fit", "n2": "Fit"}
        assert (api.asked("dryRun=All"), writes(api), names(api, "jobs")) == (3, [], [])

    def test_of_the_server_says_what_it_refuses(self, api: KubeApi, fleet: Fleet) -> None:
        api.faults = [Fault("dryRun=All", status=403, message="exceeded quota: count/jobs.batch", times=2)]
        rows = fleet.rows("preload", dry_run="server")

        assert {row.state for row in rows.values()} == {"Failed"}
        assert "exceeded quota" in rows["n1"].why

    @pytest.mark.parametrize("dry_run", ["client", "server"])
    def test_a_node_that_is_held_is_not_labelled(
        self, api: KubeApi, fleet: Fleet, dry_run: str, published: Published
    ) -> None:
        fleet.states("preload", hold=True)
        unlabelled = api.find("nodes", "n1")
        assert unlabelled
        del unlabelled["metadata"]["labels"][published.warm]
        api.put("nodes", unlabelled)
        api.requests.clear()

        assert fleet.states("preload", dry_run=dry_run)["n1"] == "Held"
        assert writes(api) == []


class TestNoWait:
    def test_jobs_are_started_and_left(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        player.fates = {"n1": [RUNS], "n2": [RUNS]}

        assert fleet.states("preload", wait=False) == {"n1": "Started", "n2": "Started"}
        assert (len(names(api, "jobs")), labels_of(api)) == (2, {"n1": set(), "n2": set()})

    def test_the_same_command_goes_on(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        fleet.states("preload", wait=False)

        assert fleet.states("preload") == {"n1": "Warm", "n2": "Warm"}
        assert (sorted(player.started), labels_of(api)) == (["n1", "n2"], {"n1": WARM, "n2": WARM})


class TestHold:
    def test_the_holder_comes_after_the_jobs(self, api: KubeApi, fleet: Fleet) -> None:
        assert fleet.states("preload", hold=True) == {"n1": "Held", "n2": "Held"}
        kinds = [request.split("/")[-2] for request in writes(api) if "fieldManager" in request and "force" in request]

        assert kinds == ["jobs", "jobs", "daemonsets"]

    def test_a_node_that_was_warm_is_held_without_a_job(self, api: KubeApi, fleet: Fleet, player: Player) -> None:
        fleet.states("preload")
        player.started.clear()

        assert fleet.states("preload", hold=True) == {"n1": "Held", "n2": "Held"}
        assert player.started == []

    def test_a_node_that_is_held_gets_no_job_and_its_labels(
        self, api: KubeApi, fleet: Fleet, player: Player, published: Published
    ) -> None:
        fleet.states("preload", hold=True, mode="host")
        for name in ("n1", "n2"):
            api.put("nodes", ready_node(name))
        player.started.clear()

        assert fleet.states("preload", mode="host") == {"n1": "Held", "n2": "Held"}
        assert (player.started, labels_of(api)) == ([], {"n1": BOTH, "n2": BOTH})

    def test_a_holder_that_does_not_get_there_in_time_is_said(self, fleet: Fleet, player: Player) -> None:
        player.fates["hold n1"] = [Fate(ready=False)]

        assert fleet.states("preload", hold=True, timeout_s=2.0) == {"n1": "TimedOut", "n2": "Held"}
        assert "Holding" in fleet.notes.states["n1"]

    def test_without_waiting_it_is_left_there(self, api: KubeApi, fleet: Fleet) -> None:
        assert fleet.states("preload", hold=True, wait=False) == {"n1": "Started", "n2": "Started"}
        assert len(names(api, "daemonsets")) == 1
