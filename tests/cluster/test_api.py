"""A cluster as `preload` asks it: reads, writes, pods as they change; and a cluster that is busy, broken or gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stamina

from modelctl.cluster.api import Cluster
from modelctl.cluster.following import Followed
from modelctl.core.errors import BadAnswer, Conflict, Denied, Invalid, ModelctlError, NotFound, Unavailable
from modelctl.core.retry import ATTEMPTS, BRIEF
from tests.fakes.kube_api import VERSION, Fault, KubeApi, Object, kube_api, kubeconfig
from tests.fakes.registries import free_port, make_certificate, server_context

OURS = {"app": "ours"}
WATCH = "watch=true"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as server:
        yield server


@pytest.fixture
def cluster(api: KubeApi, tmp_path: Path) -> Cluster:
    return reach(api.url, tmp_path)


@pytest.fixture
def hurried() -> Iterator[None]:
    """As many attempts as always, and no waits between them."""
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield


def reach(url: str, folder: Path, **settings: Any) -> Cluster:
    return Cluster("here", str(kubeconfig(folder / "kubeconfig", {"here": url}, **settings)))


def pod(name: str, phase: str = "Pending", **labels: str) -> Object:
    metadata = {"name": name, "namespace": "default", "labels": labels or OURS}
    return {"metadata": metadata, "status": {"phase": phase}}


def node(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}}


def job(name: str, image: str = "modelctl:1", **metadata: Any) -> Object:
    template = {"spec": {"containers": [{"name": "load", "image": image}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"template": template},
    }


def named(found: list[Object]) -> list[str]:
    return sorted(one["metadata"]["name"] for one in found)


def phases(followed: Followed, until: dict[str, str], timeout_s: float = 10.0) -> dict[str, str]:
    """Ask for pods until they have these phases, or for so long [s]; return those they have."""
    end = time.monotonic() + timeout_s
    found: dict[str, str] = {}
    while found != until and time.monotonic() < end:
        found = {one["metadata"]["name"]: one["status"]["phase"] for one in followed.next(end - time.monotonic())}
    return found


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "watch of pods"]


class TestReads:
    def test_the_version_is_the_servers(self, cluster: Cluster) -> None:
        assert cluster.version() == VERSION

    @pytest.mark.parametrize(("said", "namespace"), [("ml", "ml"), ("", "default")])
    def test_the_namespace_is_the_contexts(self, api: KubeApi, tmp_path: Path, said: str, namespace: str) -> None:
        assert reach(api.url, tmp_path, namespace=said).namespace == namespace

    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("", ["a", "b", "c"]),
            ("gpu=h200", ["a"]),
            ("gpu", ["a", "b"]),
            ("!gpu", ["c"]),
            ("gpu in (h200, l40),zone!=z2", ["a"]),
        ],
    )
    def test_nodes_are_selected_by_the_server(
        self, api: KubeApi, cluster: Cluster, selector: str, names: list[str]
    ) -> None:
        api.put("nodes", node("a", gpu="h200", zone="z1"))
        api.put("nodes", node("b", gpu="l40", zone="z2"))
        api.put("nodes", node("c"))

        assert named(cluster.nodes(selector)) == names

    def test_a_list_whose_pages_expire_is_made_anew(self, api: KubeApi, cluster: Cluster, hurried: None) -> None:
        api.objects["nodes"] = [node(f"n{number}") for number in range(5)]
        api.faults = [Fault("continue=2", status=410)]

        assert len(cluster.nodes()) == 5

    def test_stats_are_the_kubelets(self, api: KubeApi, cluster: Cluster) -> None:
        api.stats["n1"] = {"node": {"fs": {"availableBytes": 5}}}

        assert cluster.stats("n1")["node"]["fs"]["availableBytes"] == 5

    def test_stats_without_the_right_are_denied_as_the_server_says(self, cluster: Cluster) -> None:
        with pytest.raises(Denied) as caught:
            cluster.stats("n1")

        assert "nodes/proxy" in caught.value.why

    def test_what_is_not_there_is_not_found(self, cluster: Cluster) -> None:
        assert cluster.find("Job", "default", "nope") is None

    def test_a_name_is_no_path(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("nodes", node("n1"))

        assert cluster.find("Job", "default/../..", "../../nodes/n1") is None


class TestWrites:
    def test_what_is_applied_is_there(self, cluster: Cluster) -> None:
        applied = cluster.apply(job("load"))

        assert cluster.find("Job", "default", "load") == applied
        assert applied["metadata"]["uid"]

    def test_applied_again_it_is_the_same_and_changed(self, cluster: Cluster) -> None:
        first = cluster.apply(job("load"))
        second = cluster.apply(job("load", labels={"a": "b"}))

        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        assert second["metadata"]["labels"] == {"a": "b"}

    def test_it_is_applied_as_modelctl_and_by_force(self, api: KubeApi, cluster: Cluster) -> None:
        cluster.apply(job("load"))

        path = "/apis/batch/v1/namespaces/default/jobs/load"
        assert api.requests == [f"PATCH {path}?fieldManager=modelctl&force=true"]

    def test_an_object_without_a_namespace_goes_into_the_contexts(self, api: KubeApi, tmp_path: Path) -> None:
        api.put("namespaces", node("ml"))
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}
        cluster = reach(api.url, tmp_path, namespace="ml")
        cluster.apply(made)

        assert cluster.find("ConfigMap", "ml", "settings")

    def test_a_namespace_is_in_none(self, cluster: Cluster) -> None:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}})

        assert cluster.find("Namespace", "", "ml")

    def test_a_dry_run_changes_nothing(self, cluster: Cluster) -> None:
        assert cluster.apply(job("load"), dry_run=True)["metadata"]["name"] == "load"
        assert cluster.find("Job", "default", "load") is None

    def test_what_cannot_be_changed_is_invalid(self, cluster: Cluster) -> None:
        cluster.apply(job("load"))

        with pytest.raises(Invalid, match="load") as caught:
            cluster.apply(job("load", image="modelctl:2"), dry_run=True)

        assert "immutable" in caught.value.why

    def test_a_namespace_that_is_not_there_is_not_found(self, cluster: Cluster) -> None:
        with pytest.raises(NotFound) as caught:
            cluster.apply(job("load", namespace="nope"))

        assert 'namespaces "nope"' in caught.value.why

    def test_what_is_deleted_is_gone_with_what_it_owns(self, api: KubeApi, cluster: Cluster) -> None:
        uid = cluster.apply(job("load"))["metadata"]["uid"]
        owned = pod("load-x")
        owned["metadata"]["ownerReferences"] = [{"uid": uid}]
        api.put("pods", owned)

        assert cluster.delete("Job", "default", "load")
        assert (cluster.find("Job", "default", "load"), cluster.pods("default", "")) == (None, [])

    def test_what_was_not_there_is_not_deleted(self, cluster: Cluster) -> None:
        assert not cluster.delete("DaemonSet", "default", "hold")

    def test_labels_are_set_and_removed_and_others_stay(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("nodes", node("n1", zone="z1", old="yes"))
        cluster.label_node("n1", {"disk.modelctl.io/0123": "true", "old": None, "never": None})

        (found,) = cluster.nodes()
        assert found["metadata"]["labels"] == {"zone": "z1", "disk.modelctl.io/0123": "true"}

    def test_a_node_that_left_cannot_be_labelled(self, cluster: Cluster) -> None:
        with pytest.raises(NotFound):
            cluster.label_node("n1", {"a": "b"})

    def test_a_label_that_is_none_is_invalid(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("nodes", node("n1"))

        with pytest.raises(Invalid):
            cluster.label_node("n1", {"a": "not a value"})


class TestFaults:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_busy_server_is_asked_again(self, api: KubeApi, cluster: Cluster, hurried: None, status: int) -> None:
        api.faults = [Fault("GET", status=status)]

        assert cluster.version() == VERSION
        assert len(api.requests) == 2

    @pytest.mark.parametrize("fault", [Fault("", drop=True), Fault("", cut=0), Fault("", cut=7)])
    def test_a_broken_connection_is_made_again(
        self, api: KubeApi, cluster: Cluster, hurried: None, fault: Fault
    ) -> None:
        api.faults = [fault]

        assert cluster.apply(job("load"))["metadata"]["name"] == "load"

    def test_a_server_is_left_alone_as_long_as_it_asks(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault("PATCH", status=429, headers={"Retry-After": "1"})]
        began = time.monotonic()
        cluster.apply(job("load"))

        assert time.monotonic() - began >= 1

    def test_a_conflict_is_tried_again(self, api: KubeApi, cluster: Cluster, hurried: None) -> None:
        api.faults = [Fault("", status=409)]

        assert cluster.apply(job("load"))["metadata"]["name"] == "load"

    @pytest.mark.parametrize(
        "write",
        [
            lambda cluster: cluster.apply(job("load")),
            lambda cluster: cluster.label_node("n1", {"a": "b"}),
            lambda cluster: cluster.delete("Job", "default", "load"),
        ],
    )
    def test_a_conflict_that_stays_is_one(
        self, api: KubeApi, cluster: Cluster, hurried: None, write: Callable[[Cluster], object]
    ) -> None:
        api.faults = [Fault("", status=409, message="somebody else", times=ATTEMPTS)]

        with pytest.raises(Conflict) as caught:
            write(cluster)

        assert "somebody else" in caught.value.why

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, Invalid),
            (401, Denied),
            (403, Denied),
            (404, NotFound),
            (405, BadAnswer),
            (415, BadAnswer),
            (422, Invalid),
        ],
    )
    def test_an_answer_becomes_the_error_that_it_means_at_once(
        self, api: KubeApi, cluster: Cluster, status: int, error: type[ModelctlError]
    ) -> None:
        api.faults = [Fault("", status=status, message="exceeded quota: pods")]

        with pytest.raises(error) as caught:
            cluster.apply(job("load"))

        assert type(caught.value) is error
        assert f"it answered {status}: exceeded quota: pods" in caught.value.why
        assert len(api.requests) == 1

    @pytest.mark.parametrize(("said", "hint"), [("exceeded quota", False), ('User "x" cannot create', True)])
    def test_only_who_lacks_a_right_is_told_where_to_look(
        self, api: KubeApi, cluster: Cluster, said: str, hint: bool
    ) -> None:
        api.faults = [Fault("", status=403, message=said)]

        with pytest.raises(Denied) as caught:
            cluster.version()

        assert ("can-i" in caught.value.hint) == hint

    def test_a_server_that_never_answered_is_given_up_soon(self, tmp_path: Path) -> None:
        cluster = reach(f"http://127.0.0.1:{free_port()}", tmp_path)
        began = time.monotonic()

        with pytest.raises(Unavailable, match="cluster here"):
            cluster.nodes()

        assert time.monotonic() - began < BRIEF.timeout_s

    def test_but_not_one_that_answers_that_it_is_busy(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault("GET", status=429, times=BRIEF.attempts + 1)]

        assert cluster.version() == VERSION

    def test_one_that_did_is_given_more_time(self, api: KubeApi, cluster: Cluster) -> None:
        cluster.version()
        api.faults = [Fault("", drop=True, times=BRIEF.attempts)]

        assert cluster.version() == VERSION

    def test_a_certificate_of_nobody_is_not_tried_again(self, tmp_path: Path) -> None:
        make_certificate(tmp_path)
        with kube_api(server_context(tmp_path)) as api:
            with pytest.raises(BadAnswer, match="cluster here") as caught:
                reach(api.url, tmp_path).version()

        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.why

    def test_many_threads_share_a_cluster(
        self, api: KubeApi, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        together = threading.Barrier(16)

        def work(number: int) -> str:
            together.wait()
            cluster.apply(job(f"load-{number}"))
            cluster.version()
            return str((cluster.find("Job", "default", f"load-{number}") or {})["metadata"]["name"])

        with caplog.at_level(logging.WARNING, "urllib3"), ThreadPoolExecutor(16) as pool:
            names = list(pool.map(work, range(16)))

        assert names == [f"load-{number}" for number in range(16)]
        assert caplog.records == []


class TestFollowing:
    def test_at_first_there_are_those_of_the_list(self, api: KubeApi, cluster: Cluster) -> None:
        for name in ("a", "b", "c"):
            api.put("pods", pod(name))
        api.put("pods", pod("stranger", app="another"))

        with cluster.following("default", "app=ours") as followed:
            assert named(followed.next(0)) == ["a", "b", "c"]

    def test_without_changes_it_waits_as_long_as_it_may(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("pods", pod("a"))
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            began = time.monotonic()

            assert named(followed.next(0.3)) == ["a"]
            assert 0.3 <= time.monotonic() - began < 2

    def test_changes_are_told_by_one_watch(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("pods", pod("a"))
        api.put("pods", pod("b"))
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            api.put("pods", pod("a", "Running"))
            api.put("pods", pod("c"))
            api.put("pods", pod("stranger", app="another"))
            api.remove("pods", "b")

            assert phases(followed, {"a": "Running", "c": "Pending"}) == {"a": "Running", "c": "Pending"}
        assert api.asked(WATCH) == 1

    def test_a_pod_that_is_not_selected_any_more_is_gone(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("pods", pod("a"))
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            api.put("pods", pod("a", app="another"))

            assert phases(followed, {}) == {}

    @pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 60, 200, 230, 250, 400])
    def test_a_watch_that_breaks_off_goes_on_from_where_it_was(self, api: KubeApi, cluster: Cluster, cut: int) -> None:
        api.faults = [Fault(WATCH, cut=cut)]
        with cluster.following("default", "app=ours") as followed:
            for phase in ("Pending", "Running", "Succeeded"):
                api.put("pods", pod("a", phase))

            assert phases(followed, {"a": "Succeeded"}) == {"a": "Succeeded"}
        assert api.asked("limit=") == 1

    def test_watches_that_break_after_each_event_are_no_errors(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault(WATCH, cut=300, times=2 * ATTEMPTS)]
        with cluster.following("default", "app=ours") as followed:
            for number in range(2 * ATTEMPTS):
                api.put("pods", pod(f"p{number}"))

            assert len(phases(followed, {f"p{number}": "Pending" for number in range(2 * ATTEMPTS)})) == 2 * ATTEMPTS

    def test_after_a_bookmark_it_goes_on_from_there(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault(WATCH, cut=120)]
        with cluster.following("default", "app=ours") as followed:
            api.put("nodes", node("n1"))
            api.bookmark()
            version = api.version
            api.put("pods", pod("a"))

            assert phases(followed, {"a": "Pending"}) == {"a": "Pending"}
        assert api.asked(f"resourceVersion={version}") == 1

    @pytest.mark.parametrize("event", [False, True])
    def test_a_watch_of_what_is_no_longer_kept_lists_again(self, api: KubeApi, cluster: Cluster, event: bool) -> None:
        api.put("pods", pod("a"))
        api.put("pods", pod("b"))
        api.faults = [Fault(WATCH, cut=0, times=2), Fault(WATCH, status=410, event=event)]
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            api.remove("pods", "b")
            api.put("pods", pod("a", "Running"))

            assert phases(followed, {"a": "Running"}) == {"a": "Running"}
        assert api.asked("limit=") == 2

    def test_a_server_that_has_forgotten_lists_again(self, api: KubeApi, cluster: Cluster) -> None:
        api.put("pods", pod("a"))
        api.faults = [Fault(WATCH, drop=True)]
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            api.remove("pods", "a")
            api.compacted = api.version

            assert phases(followed, {}) == {}

    @pytest.mark.parametrize("event", [False, True])
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_watch_is_tried_again_by_a_busy_server(
        self, api: KubeApi, cluster: Cluster, status: int, event: bool
    ) -> None:
        api.faults = [Fault(WATCH, status=status, event=event)]
        with cluster.following("default", "app=ours") as followed:
            api.put("pods", pod("a"))

            assert phases(followed, {"a": "Pending"}) == {"a": "Pending"}

    def test_a_watch_waits_as_long_as_it_is_asked_to(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault(WATCH, status=429, headers={"Retry-After": "1"})]
        began = time.monotonic()
        with cluster.following("default", "app=ours") as followed:
            api.put("pods", pod("a"))
            phases(followed, {"a": "Pending"})

        assert time.monotonic() - began >= 1

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_watch_that_is_refused_is_given_up_at_once(self, api: KubeApi, cluster: Cluster, status: int) -> None:
        api.put("pods", pod("a"))
        api.faults = [Fault(WATCH, status=status, message="no right to watch")]
        with cluster.following("default", "app=ours") as followed:
            assert named(followed.next(5)) == ["a"]
            with pytest.raises(Denied) as caught:
                followed.next(5)

        assert "no right to watch" in caught.value.why
        assert api.asked(WATCH) == 1

    def test_a_list_that_is_refused_is_an_error_before_anything(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault("pods", status=403)]

        with pytest.raises(Denied), cluster.following("default", "app=ours") as followed:
            followed.next(5)

    def test_a_watch_that_fails_again_and_again_is_given_up(self, api: KubeApi, cluster: Cluster) -> None:
        api.faults = [Fault(WATCH, cut=0, times=100)]
        with cluster.following("default", "app=ours") as followed:
            followed.next(0)
            with pytest.raises(Unavailable):
                followed.next(30)

        assert api.asked(WATCH) == ATTEMPTS

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(WATCH),
            Fault(WATCH, hang="after"),
            Fault(WATCH, status=429, headers={"Retry-After": "30"}),
        ],
    )
    def test_whoever_leaves_a_watch_ends_it(self, api: KubeApi, cluster: Cluster, fault: Fault) -> None:
        api.faults = [fault]
        with cluster.following("default", "app=ours"):
            assert wait_for(lambda: api.asked(WATCH))
            assert len(watchers()) == 1
            began = time.monotonic()

        assert (watchers(), time.monotonic() - began < 0.5) == ([], True)

    def test_a_watch_whose_answer_has_not_begun_is_left(self, tmp_path: Path) -> None:
        with kube_api() as api:
            api.faults = [Fault(WATCH, hang="before")]
            with reach(api.url, tmp_path).following("default", "app=ours"):
                assert wait_for(lambda: api.asked(WATCH))
                began = time.monotonic()

            assert time.monotonic() - began < 2
        assert wait_for(lambda: not watchers())

    def test_an_interrupt_ends_the_watch(self, cluster: Cluster) -> None:
        def work() -> None:
            with cluster.following("default", "app=ours") as followed:
                followed.next(0.2)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            work()

        assert watchers() == []

    def test_a_watch_behind_tls_ends_too(self, tmp_path: Path) -> None:
        ca = make_certificate(tmp_path)
        with kube_api(server_context(tmp_path)) as api:
            with reach(api.url, tmp_path, ca=ca).following("default", "app=ours") as followed:
                followed.next(0)
                api.put("pods", pod("a"))
                assert phases(followed, {"a": "Pending"}) == {"a": "Pending"}
                began = time.monotonic()

            assert (watchers(), time.monotonic() - began < 0.5) == ([], True)
