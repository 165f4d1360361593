"""An API server that is busy, forgets, breaks off or falls silent: a preload ends as well as with a good one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import Namespace, new_namespace
from e2e.preload_faults.model import Model
from tests.fakes.kube_api import Fault
from tests.fakes.kube_proxy import kube_proxy

NODES, PODS, STATS, WATCH = "GET /api/v1/nodes?limit", "/pods?limit", "/stats/summary", "watch=true"
JOB, LABEL, CLEAN_UP = "PATCH /apis/batch", "PATCH /api/v1/nodes", "DELETE /apis/batch"
WRITES = (JOB, LABEL, CLEAN_UP)
ALL = (NODES, PODS, WATCH, *WRITES)
SOON = {"Retry-After": "1"}

FAULTS = {
    "409": [Fault(one, status=409, times=2) for one in WRITES],
    "410": [Fault(one, status=410) for one in (PODS, WATCH)],
    "410 in the watch": [Fault(WATCH, status=410, event=True, times=2)],
    "429": [Fault(one, status=429, headers=SOON) for one in ALL],
    "500": [Fault(one, status=500, times=2) for one in ALL],
    "503 of a kubelet": [Fault(STATS, status=503)],
    "done, and no answer": [Fault(one, cut=0) for one in WRITES],
    "not done, and no answer": [Fault(one, drop=True, times=2) for one in ALL],
    "a watch that breaks off at once": [Fault(WATCH, cut=0, times=3)],
    "a watch that breaks off within an event": [Fault(WATCH, cut=700, times=3)],
}
MIXED = [
    Fault("GET /version", status=503),
    Fault(NODES, status=429, headers=SOON),
    Fault(PODS, drop=True),
    Fault(WATCH, cut=0),
    Fault(STATS, status=500),
    Fault(JOB, status=409),
    Fault(WATCH, status=410, event=True),
    Fault(JOB, cut=0),
    Fault(PODS, status=410),
    Fault(WATCH, cut=900),
    Fault(LABEL, status=500),
    Fault(WATCH, status=429, headers=SOON),
    Fault(LABEL, drop=True),
    Fault(CLEAN_UP, status=429, headers=SOON),
    Fault(CLEAN_UP, cut=0),
]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_by_itself(model: Model, namespace: Namespace, name: str) -> None:
    with kube_proxy(*copy.deepcopy(FAULTS[name])) as proxy:
        found = model.preload(*on("n1"), "-n", namespace.name, "--kubeconfig", proxy.kubeconfig)

    assert proxy.faults == []
    assert (found.status, found.states) == (0, {"n1": "Warm"}), found.words
    assert (model.labels("n1"), model.jobs()) == ({"warm"}, [])


def test_faults_of_all_kinds_in_image_mode(model: Model, namespace: Namespace) -> None:
    with kube_proxy(*copy.deepcopy(MIXED)) as proxy:
        found = model.preload(*on("n1"), "-n", namespace.name, "--kubeconfig", proxy.kubeconfig)

    assert proxy.faults == []
    assert (found.status, found.states) == (0, {"n1": "Warm"}), found.words
    assert (model.labels("n1"), model.jobs()) == ({"warm"}, [])


def test_faults_of_all_kinds_in_host_mode(model: Model) -> None:
    with kube_proxy(*copy.deepcopy(MIXED[1:])) as proxy:
        found = model.preload(*on("n1"), "--mode", "host", "--kubeconfig", proxy.kubeconfig)

    assert proxy.faults == []
    assert (found.status, found.states) == (0, {"n1": "Warm"}), found.words
    assert (model.labels("n1"), model.jobs()) == ({"disk", "warm"}, [])


def test_a_cluster_whose_first_answers_are_that_it_is_busy(model: Model, namespace: Namespace) -> None:
    with kube_proxy(Fault("GET /version", status=429, headers=SOON, times=4)) as proxy:
        found = model.preload(*on("n1"), "-n", namespace.name, "--kubeconfig", proxy.kubeconfig)

    assert (found.status, found.states) == (0, {"n1": "Warm"}), found.words


@dataclass(frozen=True)
class Silent:
    """A preload whose first watch tells nothing, and how often it started its Job."""

    found: Told
    labels: set[str]
    jobs: int
    started: int


@pytest.fixture(scope="module")
def silent(new_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silent]:
    """That takes 90 s: bookmarks come each minute."""
    model = new_model()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        with kube_proxy(Fault(WATCH, hang="after")) as proxy:
            found = model.preload(*on("n1"), "-n", namespace.name, "--kubeconfig", proxy.kubeconfig)
        started = sum(JOB in request for request in proxy.requests)
        yield Silent(found, model.labels("n1"), len(model.jobs()), started)


@pytest.mark.timeout(240)
class TestASilentWatch:
    def test_it_is_begun_anew(self, silent: Silent) -> None:
        assert (silent.found.status, silent.found.states) == (0, {"n1": "Warm"}), silent.found.words
        assert (silent.labels, silent.jobs) == ({"warm"}, 0)

    def test_meanwhile_the_job_is_not_started_again(self, silent: Silent) -> None:
        assert silent.started == 1
