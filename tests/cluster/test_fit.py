"""Nodes, as API servers and kubelets tell it, and whether a model can go there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelctl.cluster.fit import Fit, judge
from modelctl.cluster.labels import Object, disk_label
from modelctl.cluster.preloading import Preload
from modelctl.cluster.selector import parse_toleration
from modelctl.core.types import digest_of

GIB = 1 << 30
IMAGE = Preload(
    mode="image",
    repository="registry.example/qwen/qwen3-8b",
    digest=digest_of(b"manifest"),
    table=digest_of(b"table"),
    size=60 * GIB,
    namespace="ml",
    image="registry.example/tools/modelctl:0.1.0",
    deadline_s=60,
)
HOST = replace(IMAGE, mode="host")


def node(*taints: str, labels: tuple[str, ...] = (), ready: str = "True", **spec: Any) -> Object:
    """A node; taints are KEY=VALUE:EFFECT."""
    return {
        "metadata": {"name": "n1", "labels": dict.fromkeys(labels, "true")},
        "spec": {"taints": [taint(text) for text in taints], **spec},
        "status": {
            "allocatable": {"memory": f"{128 << 20}Ki"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "message": "kubelet has sufficient memory available"},
                {
                    "type": "Ready",
                    "status": ready,
                    "lastTransitionTime": "2026-08-01T10:00:00Z",
                    "message": "Kubelet stopped posting node status.",
                },
            ],
        },
    }


def taint(text: str) -> Object:
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if equals else {})


def cordoned() -> Object:
    return node("node.kubernetes.io/unschedulable:NoSchedule", unschedulable=True)


def stats(image_free: int = 500 * GIB, free: int = 400 * GIB) -> Object:
    """What a kubelet answers to /stats/summary, as far as it matters."""
    return {
        "node": {
            "nodeName": "n1",
            "memory": {"availableBytes": 100 * GIB, "workingSetBytes": 20 * GIB},
            "fs": {"availableBytes": free, "capacityBytes": 900 * GIB},
            "runtime": {"imageFs": {"availableBytes": image_free, "capacityBytes": 900 * GIB}},
        },
        "pods": [],
    }


def tolerating(*texts: str) -> Preload:
    return replace(IMAGE, tolerations=[parse_toleration(text) for text in texts])


def test_a_node_that_has_room_fits_and_says_how_much() -> None:
    found = judge(node(), IMAGE, stats())
    assert found == Fit(state="Fit", disk_free=500 * GIB, memory_free=100 * GIB)


def test_a_kubelet_that_was_not_asked_says_nothing() -> None:
    assert judge(node(), IMAGE, None) == Fit(state="Fit")


@pytest.mark.parametrize("answer", [{}, {"node": None}, {"node": {"fs": {}}}, {"node": {"runtime": {"imageFs": 1}}}])
def test_a_kubelet_may_leave_anything_out(answer: Object) -> None:
    assert judge(node(), IMAGE, answer) == Fit(state="Fit")


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_is_not_ready_is_told_since_when_and_why(ready: str) -> None:
    found = judge(node(ready=ready), IMAGE, stats())
    assert found.state == "NotReady"
    assert found.why == "since 2026-08-01T10:00:00Z: Kubelet stopped posting node status."
    assert found.hint == "kubectl describe node n1"


def test_a_node_whose_kubelet_never_spoke_is_not_ready() -> None:
    found = judge({"metadata": {"name": "n1"}}, IMAGE, None)
    assert (found.state, found.why) == ("NotReady", "its kubelet has never said that it is")


def test_a_cordoned_node_is_told_by_that_and_not_by_its_taint() -> None:
    found = judge(cordoned(), IMAGE, stats())
    assert (found.state, "kubectl uncordon n1" in found.hint) == ("Cordoned", True)


@pytest.mark.parametrize("toleration", ["all", "node.kubernetes.io/unschedulable:NoSchedule"])
def test_a_cordon_can_be_tolerated(toleration: str) -> None:
    assert judge(cordoned(), tolerating(toleration), stats()).state == "Fit"


def test_a_tainted_node_is_told_with_what_would_tolerate_it() -> None:
    found = judge(node("gpu=yes:NoSchedule", "team:NoExecute", "soft:PreferNoSchedule"), IMAGE, stats())
    assert found.state == "Tainted"
    assert found.why == "not tolerated: gpu=yes:NoSchedule, team:NoExecute"
    assert found.hint == "--tolerations gpu=yes:NoSchedule,team:NoExecute"


@pytest.mark.parametrize(
    ("toleration", "state"),
    [
        ("all", "Fit"),
        ("gpu", "Fit"),
        ("gpu=yes", "Fit"),
        ("gpu=yes:NoSchedule", "Fit"),
        ("gpu:NoSchedule", "Fit"),
        ("gpu=no", "Tainted"),
        ("gpu=", "Tainted"),
        ("gpu=yes:NoExecute", "Tainted"),
        ("cpu=yes", "Tainted"),
    ],
)
def test_taints_are_tolerated_by_the_rules_of_kubernetes(toleration: str, state: str) -> None:
    assert judge(node("gpu=yes:NoSchedule"), tolerating(toleration), stats()).state == state


def test_a_taint_without_a_value_has_the_empty_one() -> None:
    assert judge(node("gpu:NoSchedule"), tolerating("gpu="), stats()).state == "Fit"


def test_every_taint_must_be_tolerated() -> None:
    found = judge(node("a:NoSchedule", "b:NoSchedule"), tolerating("a"), stats())
    assert found.why == "not tolerated: b:NoSchedule"


@pytest.mark.parametrize(("memory", "state"), [("61504Mi", "Fit"), ("61503Mi", "NoMemory"), ("20Gi", "NoMemory")])
def test_the_model_and_what_warms_it_must_fit_into_memory(memory: str, state: str) -> None:
    small = node()
    small["status"]["allocatable"]["memory"] = memory
    assert judge(small, IMAGE, stats()).state == state


def test_too_little_memory_is_told_in_figures() -> None:
    small = node()
    small["status"]["allocatable"]["memory"] = "20Gi"
    assert judge(small, IMAGE, None).why == "needs 61504 MiB of memory, 20480 MiB are allocatable"


@pytest.mark.parametrize("allocatable", [{}, {"memory": "plenty"}])
def test_memory_that_is_not_stated_does_not_count_against_a_node(allocatable: Object) -> None:
    silent = node()
    silent["status"]["allocatable"] = allocatable
    assert judge(silent, IMAGE, stats()).state == "Fit"


@pytest.mark.parametrize(
    ("preload", "image_free", "free", "state"),
    [
        (IMAGE, 120 * GIB, 0, "Fit"),
        (IMAGE, 120 * GIB - 1, 500 * GIB, "NoDisk"),
        (HOST, 0, 60 * GIB, "Fit"),
        (HOST, 500 * GIB, 60 * GIB - 1, "NoDisk"),
    ],
)
def test_a_runtime_needs_twice_the_disk_that_a_folder_needs(
    preload: Preload, image_free: int, free: int, state: str
) -> None:
    assert judge(node(), preload, stats(image_free, free)).state == state


def test_too_little_disk_is_told_in_figures() -> None:
    found = judge(node(), IMAGE, stats(image_free=100 * GIB))
    assert found.why == "needs 122880 MiB of the runtime's disk, 102400 MiB are free"
    assert (found.disk_free, "--mode host" in found.hint) == (100 * GIB, True)


def test_an_image_that_is_there_needs_no_disk() -> None:
    full = node()
    full["status"]["images"] = [{"names": None}, {"names": [IMAGE.reference], "sizeBytes": 1}]
    assert judge(full, IMAGE, stats(image_free=0)).state == "Fit"
    assert judge(full, HOST, stats(free=0)).state == "NoDisk"


def test_files_that_are_there_need_no_disk() -> None:
    full = node(labels=(disk_label(IMAGE.digest),))
    assert judge(full, HOST, stats(free=0)).state == "Fit"
    assert judge(full, IMAGE, stats(image_free=0)).state == "NoDisk"
