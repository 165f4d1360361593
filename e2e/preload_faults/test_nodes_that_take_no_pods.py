"""Cordons and taints: named in the plan with the flag that tolerates them, or while a pod waits because of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.kubernetes.model import on
from e2e.kubernetes.namespace import Namespace, kubectl
from e2e.preload_faults.model import Model
from tests.fakes.kube_proxy import kube_proxy

pytestmark = [pytest.mark.usefixtures("n2"), pytest.mark.timeout(600)]


@contextmanager
def cordoned() -> Iterator[None]:
    kubectl("cordon", "n2")
    try:
        yield
    finally:
        kubectl("uncordon", "n2")


@contextmanager
def tainted(*taints: str) -> Iterator[None]:
    kubectl("taint", "node", "n2", *taints)
    try:
        yield
    finally:
        kubectl("taint", "node", "n2", *(f"{re.split('[=:]', taint)[0]}-" for taint in taints))


def tolerating(words: str) -> list[str]:
    """Return the flags that a message recommends."""
    (said,) = set(re.findall(r"(?:-> |try: |or )((?:--tolerations \S+ ?)+)$", words, re.MULTILINE))
    return str(said).split()


@pytest.fixture
def flags(namespace: Namespace) -> tuple[str, ...]:
    return *on("n2"), "-n", namespace.name


def test_a_cordoned_node_is_refused_and_with_the_flag_that_is_named_preloaded(
    model: Model, flags: tuple[str, ...]
) -> None:
    with cordoned():
        refused = model.preload(*flags)
        left = (model.labels("n2"), model.jobs())
        again = model.preload(*flags, *tolerating(refused.words))

    assert (refused.status, refused.states, left) == (9, {"n2": "Cordoned"}, (set(), []))
    assert "try: kubectl uncordon n2, or --tolerations node.kubernetes.io/unschedulable:NoSchedule" in refused.words
    assert (again.status, again.states, model.labels("n2")) == (0, {"n2": "Warm"}, {"warm"})


def test_a_tainted_node_is_refused_and_with_the_flag_that_is_named_preloaded(
    model: Model, flags: tuple[str, ...]
) -> None:
    with tainted("gpu=h100:NoSchedule"):
        refused = model.preload(*flags)
        left = (model.labels("n2"), model.jobs())
        again = model.preload(*flags, *tolerating(refused.words))

    assert (refused.status, refused.states, left) == (9, {"n2": "Tainted"}, (set(), []))
    assert "try: --tolerations gpu=h100:NoSchedule\n" in refused.words
    assert (again.status, again.states, model.labels("n2")) == (0, {"n2": "Warm"}, {"warm"})


def test_the_flag_that_is_named_for_two_taints_tolerates_both(model: Model, flags: tuple[str, ...]) -> None:
    with tainted("gpu=h100:NoSchedule", "team=b:NoExecute"):
        refused = model.preload(*flags)
        again = model.preload(*flags, *tolerating(refused.words))

    assert (again.status, again.states) == (0, {"n2": "Warm"})


def test_a_taint_that_comes_after_the_plan_is_named_and_when_it_goes_the_pod_starts(
    model: Model, flags: tuple[str, ...]
) -> None:
    def taint(request: str) -> None:
        if request.startswith("PATCH /apis/batch"):
            kubectl("taint", "node", "n2", "late=yes:NoSchedule", "--overwrite")

    with kube_proxy(before=taint) as proxy:
        with model.preloading(*flags, "--kubeconfig", proxy.kubeconfig) as run:
            line = run.until("late=yes")
            kubectl("taint", "node", "n2", "late-")
            found = run.ended()

    assert "a  n2  Waiting" in line
    assert line.endswith("not tolerated: late=yes:NoSchedule -> --tolerations late=yes:NoSchedule")
    assert (found.status, model.labels("n2")) == (0, {"warm"}), found.stderr
