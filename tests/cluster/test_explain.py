"""Pods that do not start, as kubelets and schedulers tell it, and what a user is told."""

from __future__ import annotations

from typing import Any

import pytest

from modelctl.cluster.explain import Explained, explain_job, explain_pod
from modelctl.cluster.labels import Object

IMAGE = "hub.example:5000/qwen/qwen3-8b@sha256:" + "0" * 64


def pod(secrets: tuple[str, ...] = (), **status: Any) -> Object:
    return {
        "metadata": {"name": "qwen", "namespace": "ml"},
        "spec": {"imagePullSecrets": [{"name": name} for name in secrets]},
        "status": {"phase": "Pending", **status},
    }


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z", of: str = "qwen") -> Object:
    return {
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "involvedObject": {"name": of},
    }


def pull_failed(why: str) -> Object:
    return event("Failed", f'Failed to pull image "{IMAGE}": rpc error: code = Unknown desc = {why}')


REFUSED = "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"


def unschedulable(message: str) -> Object:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    return pod(conditions=conditions)


def ended(reason: str) -> Object:
    return pod(containerStatuses=[{"name": "engine", "lastState": {"terminated": {"reason": reason}}, "state": {}}])


def waiting(reason: str, message: str = "") -> Object:
    return pod(containerStatuses=[{"name": "engine", "state": {"waiting": {"reason": reason, "message": message}}}])


def test_a_pod_that_is_ready_needs_no_words() -> None:
    assert explain_pod(pod(conditions=[{"type": "Ready", "status": "True"}]), [pull_failed(REFUSED)]) == Explained(
        "Ready"
    )


def test_a_pod_that_names_no_secret_is_told_to() -> None:
    found = explain_pod(pod(), [pull_failed(REFUSED)])
    assert found.state == "ErrImagePull"
    assert "401" in found.why
    assert "the pod names no pull secret" in found.hint
    assert "kubectl -n ml create secret docker-registry NAME --docker-server=hub.example:5000" in found.hint


def test_a_secret_that_is_not_there_is_named() -> None:
    missing = event("FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (hub)")
    found = explain_pod(pod(("hub",)), [missing, pull_failed(REFUSED)])
    assert "secret hub is not in namespace ml" in found.hint
    assert "create secret docker-registry hub" in found.hint


def test_a_secret_that_opens_nothing_is_named() -> None:
    assert "what secret hub holds" in explain_pod(pod(("hub",)), [pull_failed(REFUSED)]).hint


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        ("write /var/lib/containerd/x: no space left on device", "twice the size"),
        ("manifest unknown: not found", "modelctl push"),
        ("x509: certificate signed by unknown authority", "CA"),
        ("http: server gave HTTP response to HTTPS client", "no TLS"),
        ("dial tcp: lookup hub.example: no such host", "reaches"),
        ("something that nobody foresaw", "modelctl verify"),
    ],
)
def test_a_failed_pull_has_a_next_step(why: str, hint: str) -> None:
    found = explain_pod(pod(), [pull_failed(why)])
    assert why in found.why
    assert hint in found.hint


def test_digits_of_a_digest_are_no_status_of_http() -> None:
    digest = "sha256:66403cd401" + "0" * 54
    assert (
        "modelctl push" in explain_pod(pod(), [event("Failed", f"Failed to pull image hub/m@{digest}: not found")]).hint
    )


def test_that_it_failed_does_not_hide_why() -> None:
    later = event("Failed", "Error: ErrImagePull", at="2026-01-01T00:00:09Z")
    assert "401" in explain_pod(pod(), [pull_failed(REFUSED), later]).why


def test_the_latest_failure_counts() -> None:
    events = [
        event("Failed", "Failed to pull image: new", at="2026-01-01T00:00:09Z"),
        event("Failed", "Failed to pull image: old", at="2026-01-01T00:00:01Z"),
    ]
    assert explain_pod(pod(), events).why.endswith("new")


def test_events_of_others_do_not_count() -> None:
    assert explain_pod(pod(), [event("Failed", "Failed to pull image", of="another")]) == Explained("Pending")


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity", "modelctl node pull"),
        ("0/2 nodes are available: 2 node(s) had volume node affinity conflict", "modelctl node pull"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}", "tolerate the taint"),
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu", "GPUs"),
        ("0/2 nodes are available: 2 Insufficient memory", "memory"),
        ("0/2 nodes are available: 2 node(s) were unschedulable", "uncordon"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector", "--require-warm"),
    ],
)
def test_a_pod_that_finds_no_node_has_a_next_step(message: str, hint: str) -> None:
    found = explain_pod(unschedulable(message), [])
    assert (found.state, found.why) == ("Unschedulable", message)
    assert hint in found.hint


def test_several_reasons_have_several_steps() -> None:
    found = explain_pod(unschedulable("1 Insufficient memory, 1 node(s) had untolerated taint {a: b}"), [])
    assert "memory" in found.hint
    assert "taint" in found.hint


def test_a_container_that_took_too_much_memory_is_told_of_the_limit() -> None:
    assert "memory limit" in explain_pod(ended("OOMKilled"), []).hint


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "CreateContainerError"])
def test_a_container_that_does_not_run_has_logs(reason: str) -> None:
    found = explain_pod(waiting(reason, "back-off"), [])
    assert (found.state, found.hint) == (reason, "kubectl -n ml logs qwen --previous")


def test_a_pull_that_backs_off_is_known_from_the_status_alone() -> None:
    found = explain_pod(waiting("ErrImagePull", f"failed to pull {IMAGE}: not found"), [])
    assert found.state == "ErrImagePull"
    assert "modelctl push" in found.hint


def test_an_evicted_pod_is_told_to_request_memory() -> None:
    found = explain_pod(pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), [])
    assert (found.state, "low on resource" in found.why, "request" in found.hint) == ("Evicted", True, True)


def test_a_warning_that_nobody_foresaw_is_shown() -> None:
    assert explain_pod(pod(), [event("Strange", "the moon is full")]).why == "the moon is full"


def test_what_is_long_is_cut() -> None:
    assert len(explain_pod(pod(), [event("Strange", "x" * 10_000)]).why) < 500


def refused(message: str) -> Object:
    found = event("FailedCreate", f"Error creating: {message}", of="preload-x")
    found["involvedObject"]["namespace"] = "ml"
    return found


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            'pods "preload-x-1" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes',
            "kubectl label namespace ml pod-security.kubernetes.io/enforce=privileged",
        ),
        (
            'pods "preload-x-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4',
            "kubectl -n ml describe quota",
        ),
        (
            'pods "preload-x-1" is forbidden: failed quota: q: must specify limits.memory for: warm',
            "throw the model out of memory",
        ),
        (
            'pods "hold-x-1" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            "kubectl -n ml describe limitrange",
        ),
        (
            'pods "preload-x-1" is forbidden: error looking up service account ml/me: serviceaccount "me" not found',
            "--service-account",
        ),
        ('admission webhook "policy.example" denied the request: no hostPath', "policy"),
    ],
)
def test_a_job_whose_pods_are_refused_has_a_next_step(message: str, hint: str) -> None:
    found = explain_job("preload-x", [refused(message)])
    assert (found.state, message in found.why) == ("FailedCreate", True)
    assert hint in found.hint


def test_a_job_that_nobody_refuses_waits() -> None:
    other = refused("exceeded quota") | {"involvedObject": {"name": "another"}}
    assert explain_job("preload-x", [other]) == Explained("Waiting")


def test_what_others_wrote_moves_no_cursor() -> None:
    assert explain_pod(pod(), [event("Strange", "\x1b[2Jthe moon\r\nis full")]).why == "[2Jthe moon is full"
