"""Pods that preload, hold and remove, as kubelets tell it, and what is made of that."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.cluster.labels import Object
from modelctl.cluster.outcome import Outcome, outcome
from modelctl.cluster.preloading import Preload, holder, preload_job, removal_job
from modelctl.core.types import digest_of

GIB = 1 << 30
IMAGE = Preload(
    mode="image",
    repository="registry.example:5000/qwen/qwen3-8b",
    digest=digest_of(b"manifest"),
    table=digest_of(b"table"),
    size=4 * GIB,
    namespace="ml",
    image="registry.example/tools/modelctl:0.1.0",
    pull_secret="hub",
    deadline_s=60,
)
HOST = replace(IMAGE, mode="host", namespace="modelctl-system")

WARM = {"table": IMAGE.table, "files": 6, "size": 4 * GIB, "resident": 4 * GIB}
WARM_HOST = WARM | {"table": ""}
PULLED = {"digest": IMAGE.digest, "files": 6, "size": 4 * GIB, "shared": 0}


def made(like: Object, *statuses: Object, node: str = "n1", inits: tuple[Object, ...] = (), **status: Any) -> Object:
    """A pod of the Job or DaemonSet `like`, as the API has it."""
    template = like["spec"]["template"]
    return {
        "metadata": {**template["metadata"], "name": "preload-x", "namespace": like["metadata"]["namespace"]},
        "spec": template["spec"] | ({"nodeName": node} if node else {}),
        "status": {
            "phase": "Pending",
            "initContainerStatuses": list(inits),
            "containerStatuses": list(statuses),
            **status,
        },
    }


def image_pod(*statuses: Object, **others: Any) -> Object:
    return made(preload_job(IMAGE, "n1"), *statuses, **others)


def host_pod(*statuses: Object, **others: Any) -> Object:
    return made(preload_job(HOST, "n1"), *statuses, **others)


def hold_pod(*statuses: Object, **others: Any) -> Object:
    return made(holder(IMAGE, []), *statuses, **others)


def ended(name: str, said: Any = "", exit_code: int = 0, reason: str = "") -> Object:
    """How a container ended that left `said`: text, or what is written as JSON."""
    message = said if isinstance(said, str) else json.dumps(said)
    state = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed"), "message": message}
    return {"name": name, "state": {"terminated": state}}


def waiting(name: str, reason: str, message: str = "") -> Object:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


def running(name: str) -> Object:
    return {"name": name, "state": {"running": {"startedAt": "2026-08-01T10:00:00Z"}}}


def event(reason: str, message: str, at: str = "2026-08-01T10:00:00Z", kind: str = "Warning") -> Object:
    return {
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "involvedObject": {"kind": "Pod", "name": "preload-x", "namespace": "ml"},
    }


def error(code: str, what: str, why: str, hint: str = "", **totals: Any) -> Object:
    return {**totals, "error": {"code": code, "what": what, "why": why, "hint": hint}}


def of_image(pod: Object, *events: Object) -> Outcome:
    return outcome(pod, events, IMAGE)


def of_host(pod: Object, *events: Object) -> Outcome:
    return outcome(pod, events, HOST)


# What proves something


def test_a_pod_that_measured_all_of_the_table_is_warm() -> None:
    found = of_image(image_pod(ended("warm", WARM), phase="Succeeded"))
    assert found == Outcome(state="Warm", warm=True, size=4 * GIB, resident=4 * GIB)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (WARM | {"table": digest_of(b"another")}, "table was expected".replace("table", IMAGE.table)),
        (WARM | {"table": ""}, "was expected"),
        (WARM | {"resident": 4 * GIB - 4096}, f"{4 * GIB - 4096} of {4 * GIB} bytes"),
        (WARM | {"size": 0, "resident": 0}, "0 of 0 bytes"),
        (WARM | {"resident": -1}, "did not say"),
        (WARM | {"size": str(4 * GIB)}, "did not say"),
        (WARM | {"error": {"code": "bug"}}, "did not say"),
        (json.dumps(WARM)[:-5], "did not say"),
        ("", "did not say"),
        ("null", "did not say"),
        ("[" * 4000, "did not say"),
        ('{"x":' + "[" * 4000, "did not say"),
        ("\ud800", "did not say"),
    ],
)
def test_whoever_ends_well_without_the_measurement_has_proved_nothing(said: Any, why: str) -> None:
    found = of_image(image_pod(ended("warm", said), phase="Succeeded"))
    assert (found.state, found.warm, found.disk) == ("Failed", False, False)
    assert why in found.why


def test_host_mode_proves_disk_then_memory() -> None:
    found = of_host(host_pod(ended("warm", WARM_HOST), inits=(ended("pull", PULLED),), phase="Succeeded"))
    assert found == Outcome(state="Warm", disk=True, warm=True, size=4 * GIB, resident=4 * GIB)


def test_what_is_on_disk_is_proved_before_it_is_in_memory() -> None:
    found = of_host(host_pod(running("warm"), inits=(ended("pull", PULLED),), phase="Running"))
    assert (found.state, found.disk, found.warm) == ("Warming", True, False)


@pytest.mark.parametrize("said", [PULLED | {"digest": digest_of(b"another")}, {}, "", "not JSON"])
def test_a_pull_that_does_not_name_the_digest_proves_nothing(said: Any) -> None:
    found = of_host(host_pod(ended("warm", WARM_HOST), inits=(ended("pull", said),), phase="Succeeded"))
    assert (found.state, found.disk, found.warm) == ("Failed", False, False)
    assert HOST.digest in found.why


def test_a_pull_that_failed_after_all_proves_nothing() -> None:
    assert not of_host(host_pod(inits=(ended("pull", PULLED, 1),), phase="Failed")).disk


def test_what_was_pulled_stays_proved_when_memory_is_too_small() -> None:
    partial = error("partial", "/model", "1 of 2 bytes are in memory", "use more", **WARM_HOST | {"resident": GIB})
    found = of_host(host_pod(ended("warm", partial, 9), inits=(ended("pull", PULLED),), phase="Failed"))
    assert (found.state, found.disk, found.warm) == ("Failed", True, False)
    assert (found.size, found.resident) == (4 * GIB, GIB)
    assert (found.why, found.hint) == ("/model: 1 of 2 bytes are in memory", "use more")


def test_image_mode_puts_nothing_where_claims_look() -> None:
    found = of_image(image_pod(ended("warm", WARM), inits=(ended("pull", PULLED),), phase="Succeeded"))
    assert (found.warm, found.disk) == (True, False)


def test_a_holder_that_is_ready_is_warm() -> None:
    ready = [{"type": "Ready", "status": "True"}]
    found = of_image(hold_pod(running("hold"), phase="Running", conditions=ready))
    assert found == Outcome(state="Warm", warm=True, size=4 * GIB, resident=4 * GIB)


def test_a_holder_that_is_not_ready_is_warming() -> None:
    not_ready = [{"type": "Ready", "status": "False"}]
    found = of_image(hold_pod(running("hold"), phase="Running", conditions=not_ready))
    assert found == Outcome(state="Warming", size=4 * GIB)


@pytest.mark.parametrize(("said", "state"), [(PULLED, "Warm"), ({}, "Failed")])
def test_a_holder_of_host_mode_is_warm_when_its_pull_named_the_digest(said: Any, state: str) -> None:
    ready = [{"type": "Ready", "status": "True"}]
    pod = made(holder(HOST, []), running("hold"), inits=(ended("pull", said),), phase="Running", conditions=ready)
    found = of_host(pod)
    assert (found.state, found.warm, found.disk) == (state, state == "Warm", state == "Warm")


@pytest.mark.parametrize("exit_code", [0, 3])
def test_a_model_that_is_removed_or_was_not_there_is_removed(exit_code: int) -> None:
    pod = made(removal_job(HOST, "n1"), ended("remove", "", exit_code), phase="Failed" if exit_code else "Succeeded")
    assert of_host(pod) == Outcome(state="Removed")


def test_a_removal_that_failed_is_not_one() -> None:
    found = of_host(made(removal_job(HOST, "n1"), ended("remove", "disk: I/O error", 13), phase="Failed"))
    assert (found.state, "I/O error" in found.why) == ("Failed", True)


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(["table", "digest", "size", "resident", "error", "code"]),
    inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_message_whatever_it_holds_proves_anything_or_ends_us(said: Any) -> None:
    found = of_host(host_pod(ended("warm", said), inits=(ended("pull", said),), phase="Succeeded"))
    assert (found.state, found.disk, found.warm) == ("Failed", False, False)


@pytest.mark.parametrize("make", [str, lambda said: error("bug", said, said, said)])
@given(said=st.text(max_size=2000), exit_code=st.integers(1, 255))
def test_what_a_failure_leaves_is_one_line_that_a_terminal_can_show(make: Any, said: str, exit_code: int) -> None:
    found = of_image(image_pod(ended("warm", make(said), exit_code), phase="Failed"))
    assert found.state == "Failed"
    assert (found.why + found.hint).isprintable()
    assert max(len(found.why), len(found.hint)) < 500


# How far it is


def test_a_pod_that_has_no_node_waits() -> None:
    assert of_image(image_pod(node="")) == Outcome(state="Waiting", size=4 * GIB)


def test_a_pod_whose_container_is_made_is_pulling() -> None:
    assert of_image(image_pod(waiting("warm", "ContainerCreating"))) == Outcome(state="Pulling", size=4 * GIB)


def test_a_pod_that_pulls_by_itself_is_pulling() -> None:
    old = event("Failed", f'Failed to pull image "{IMAGE.image}": timeout')
    found = of_host(host_pod(waiting("warm", "PodInitializing"), inits=(running("pull"),)), old)
    assert found == Outcome(state="Pulling", size=4 * GIB)


def test_a_pod_that_reads_is_warming() -> None:
    assert of_image(image_pod(running("warm"), phase="Running")) == Outcome(state="Warming", size=4 * GIB)


def test_a_pod_that_removes_is_removing() -> None:
    assert of_host(made(removal_job(HOST, "n1"), running("remove"), phase="Running")).state == "Removing"


def test_that_it_waited_for_a_node_is_forgotten_once_it_has_one() -> None:
    found = of_image(image_pod(waiting("warm", "ContainerCreating")), event("FailedScheduling", "0/2 nodes"))
    assert found.why == ""


def test_a_pull_that_failed_after_one_that_worked_counts() -> None:
    pulled = event("Pulled", f'Successfully pulled image "{IMAGE.image}" in 1s', "2026-08-01T10:00:00Z", "Normal")
    failed = event("Failed", f'Failed to pull image "{IMAGE.image}": timeout', "2026-08-01T10:00:20Z")
    assert "timeout" in of_image(image_pod(waiting("warm", "ContainerCreating")), pulled, failed).why


def test_a_pull_that_failed_is_forgotten_once_it_worked() -> None:
    failed = event("Failed", f'Failed to pull image "{IMAGE.image}": timeout', "2026-08-01T10:00:00Z")
    pulled = event("Pulled", f'Successfully pulled image "{IMAGE.image}" in 1s', "2026-08-01T10:00:20Z", "Normal")
    pod = image_pod(waiting("warm", "ContainerCreating"))
    assert of_image(pod, failed, pulled).why == ""
    assert "timeout" in of_image(pod, failed).why


# What keeps it from going on


def unschedulable(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return image_pod(node="", conditions=[condition])


OTHERS = "1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2 nodes are available"
TAINTED = f"0/2 nodes are available: 1 node(s) had untolerated taint(s), {OTHERS}"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (TAINTED, "--tolerations KEY=VALUE:EFFECT"),
        (f"0/2 nodes are available: 1 node(s) were unschedulable, {OTHERS}", "kubectl uncordon"),
        (f"0/2 nodes are available: 1 Insufficient memory, {OTHERS}", "memory"),
        (f"0/2 nodes are available: 1 Insufficient cpu, {OTHERS}", "CPU"),
        (f"0/2 nodes are available: 1 Too many pods, {OTHERS}", "as many pods as it may"),
        ("0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity].", "not there any more"),
    ],
)
def test_a_pod_that_its_node_does_not_take_has_a_next_step(message: str, hint: str) -> None:
    found = of_image(unschedulable(message))
    assert (found.state, found.why) == ("Waiting", message)
    assert hint in found.hint
    assert "--require-warm" not in found.hint


def test_the_taint_is_named_when_the_node_is_known() -> None:
    node = {
        "metadata": {"name": "n1"},
        "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = outcome(unschedulable(TAINTED), [], IMAGE, node)
    assert found.why == "not tolerated: gpu=yes:NoSchedule"
    assert found.hint == "--tolerations gpu=yes:NoSchedule"


def pull_failed(image: str, why: str) -> Object:
    return event("Failed", f'Failed to pull image "{image}": failed to pull and unpack image "{image}": {why}')


REFUSED = "failed to resolve reference: pull access denied, authorization failed: no basic auth credentials"


@pytest.mark.parametrize(
    ("image", "why", "hint"),
    [
        (IMAGE.reference, REFUSED, "what secret hub holds does not open the registry"),
        (IMAGE.reference, REFUSED, "--docker-server=registry.example:5000 "),
        (IMAGE.image, REFUSED, "--docker-server=registry.example "),
        (IMAGE.reference, "not found", "modelctl push"),
        (IMAGE.image, "not found", "image of container warm, not the model: --image"),
        (IMAGE.reference, "write /var/lib/containerd/x: no space left on device", "twice the size"),
        (IMAGE.image, "something that nobody foresaw", "--image names another"),
    ],
)
def test_a_pull_that_fails_has_a_next_step(image: str, why: str, hint: str) -> None:
    found = of_image(image_pod(waiting("warm", "ContainerCreating")), pull_failed(image, why))
    assert found.state == "Pulling"
    assert why in found.why
    assert hint in found.hint


def test_a_pull_that_backs_off_is_known_without_events() -> None:
    why = f'Back-off pulling image "{IMAGE.reference}": ErrImagePull: failed to pull and unpack image: {REFUSED}'
    found = of_image(image_pod(waiting("warm", "ImagePullBackOff", why)))
    assert "secret hub" in found.hint


def test_a_pull_of_an_init_container_fails_like_any_other() -> None:
    why = f'failed to pull image "{HOST.image}": not found'
    found = of_host(host_pod(waiting("warm", "PodInitializing"), inits=(waiting("pull", "ErrImagePull", why),)))
    assert (found.state, "image of container pull" in found.hint) == ("Pulling", True)


def test_a_secret_that_cannot_be_mounted_is_named() -> None:
    missing = event("FailedMount", 'MountVolume.SetUp failed for volume "credentials" : secret "hub" not found')
    found = of_host(host_pod(waiting("warm", "PodInitializing"), inits=(waiting("pull", "PodInitializing"),)), missing)
    assert found.state == "Pulling"
    assert "secret hub is not in namespace modelctl-system: kubectl -n modelctl-system create secret" in found.hint


def capped(pod: Object, limit: str = "512Mi") -> Object:
    """The same pod, as a LimitRange makes it."""
    pod["spec"]["containers"][0]["resources"]["limits"] = {"memory": limit}
    pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = (
        "LimitRanger plugin set: memory limit for container warm"
    )
    return pod


PARTIAL = error("partial", "/model", "268435456 of 4294967296 bytes", "no limit", **WARM | {"resident": GIB // 4})


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        (image_pod(waiting("warm", "ContainerCreating")), "Pulling"),
        (image_pod(running("warm"), phase="Running"), "Warming"),
        (image_pod(ended("warm", PARTIAL, 9), phase="Failed"), "Failed"),
        (image_pod(ended("warm", "", 137, "OOMKilled"), phase="Failed"), "Failed"),
    ],
)
def test_a_limit_below_the_model_is_told_at_every_stage(pod: Object, state: str) -> None:
    found = of_image(capped(pod))
    assert found.state == state
    assert found.why.startswith("a LimitRange of namespace ml gave container warm a memory limit of 512 MiB")
    assert "4096 MiB" in found.why
    assert found.hint.startswith("kubectl -n ml describe limitrange")


def test_a_limit_that_is_enough_is_not_told() -> None:
    assert of_image(capped(image_pod(running("warm"), phase="Running"), "4Gi")).why == ""


def test_a_limit_does_not_hide_another_failure() -> None:
    broken = error("checksum-mismatch", "model-1.safetensors", "from byte 5 on", "pull again")
    found = of_image(capped(image_pod(ended("warm", broken, 4), phase="Failed")))
    assert (found.why, found.hint) == ("model-1.safetensors: from byte 5 on", "pull again")


def test_what_was_warm_before_the_limit_is_warm() -> None:
    assert of_image(capped(image_pod(ended("warm", WARM), phase="Succeeded"))).warm


def test_a_container_that_was_killed_without_a_limit_met_a_small_node() -> None:
    found = of_image(image_pod(ended("warm", "", 137, "OOMKilled"), phase="Failed"))
    assert (found.why, found.hint) == (
        "container warm was killed: out of memory",
        "the node has too little memory",
    )


@pytest.mark.parametrize(
    ("status", "why", "hint"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory. Threshold quantity: 100Mi"},
            "low on resource: memory",
            "node n1 lacks memory",
        ),
        (
            {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
            "low on resource",
            "node n1 lacks disk",
        ),
        (
            {"reason": "NodeLost", "message": "Node n1 which was running pod preload-x is unresponsive"},
            "unresponsive",
            "kubectl describe node n1",
        ),
        (
            {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"},
            "longer than",
            "--timeout",
        ),
        (
            {"reason": "OutOfmemory", "message": "Node didn't have enough resource: memory"},
            "enough resource: memory",
            "",
        ),
    ],
)
def test_a_pod_that_was_ended_from_outside_says_by_whom(status: Object, why: str, hint: str) -> None:
    found = of_image(image_pod(ended("warm", "", 137), phase="Failed", **status))
    assert found.state == "Failed"
    assert why in found.why
    assert hint in found.hint


@pytest.mark.parametrize(
    ("reason", "message", "hint"),
    [
        ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", "kubectl describe node n1"),
        ("EvictionByEvictionAPI", "Eviction API: evicting", "drained"),
        ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod", "priority"),
        ("DeletionByPodGC", "PodGC: node no longer exists", "kubectl get node n1"),
    ],
)
def test_a_pod_that_is_disrupted_says_by_what(reason: str, message: str, hint: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    found = of_image(image_pod(running("warm"), phase="Running", conditions=[condition]))
    assert (found.state, found.why) == ("Failed", message)
    assert hint in found.hint


def test_a_pod_that_is_being_deleted_is_over() -> None:
    pod = image_pod(running("warm"), phase="Running")
    pod["metadata"]["deletionTimestamp"] = "2026-08-01T10:00:00Z"
    assert (of_image(pod).state, of_image(pod).why) == ("Failed", "it is being deleted")


def test_a_registry_that_refuses_the_pods_own_pull_is_told_with_the_secret() -> None:
    refused = error("denied", HOST.reference, "registry.example:5000 answered 401", "modelctl login")
    pod = host_pod(waiting("warm", "PodInitializing"), inits=(ended("pull", refused, 7),), phase="Failed")
    found = of_host(pod)
    assert found.why == f"{HOST.reference}: registry.example:5000 answered 401"
    assert "what secret hub holds does not open the registry" in found.hint
    assert "kubectl -n modelctl-system" in found.hint


def test_a_folder_that_refuses_is_no_matter_of_secrets() -> None:
    refused = error("denied", "/var/lib/modelctl", "Permission denied", "chown it")
    found = of_host(host_pod(inits=(ended("pull", refused, 7),), phase="Failed"))
    assert found.hint == "chown it"


def test_a_failure_that_left_no_json_shows_its_last_words_and_has_a_log() -> None:
    found = of_image(image_pod(ended("warm", "x" * 4000 + "\nNo such option: --output", 2), phase="Failed"))
    assert found.why.startswith("container warm ended with status 2: xxx")
    assert found.why.endswith("No such option: --output")
    assert found.hint == "kubectl -n ml logs preload-x -c warm"


def test_a_holder_that_crashes_says_why() -> None:
    crashed = ended("hold", error("not-found", "/model/a", "it was replaced"), 3)["state"]
    back_off = waiting("hold", "CrashLoopBackOff", "back-off 10s") | {"lastState": crashed}
    found = of_image(hold_pod(back_off, phase="Running"))
    assert (found.state, found.why) == ("Failed", "/model/a: it was replaced")


def test_a_holder_that_was_started_again_says_how_it_had_ended() -> None:
    crashed = ended("hold", error("not-found", "/model/a", "it was replaced"), 3)["state"]
    found = of_image(hold_pod(running("hold") | {"lastState": crashed}, phase="Running"))
    assert (found.state, found.why) == ("Warming", "/model/a: it was replaced")
