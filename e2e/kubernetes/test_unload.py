"""What `modelctl unload` takes away, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

from e2e.command import files
from e2e.kubernetes.manifests import rendered
from e2e.kubernetes.model import Model, labelled, on
from e2e.kubernetes.namespace import Namespace, kubectl
from e2e.kubernetes.node import models, orphans

HOST = ("--mode", "host")


def test_a_node_where_a_pod_uses_the_files_keeps_them_until_it_is_gone(
    namespace: Namespace, new_model: Callable[[], Model], busybox: str
) -> None:
    model = new_model()
    model.preload(*on("n1", "n2"), *HOST)
    namespace.start("deploy/user", rendered(model.reference, namespace, "pvc", "--name", "user", "--image", busybox))
    (used,) = [pod["spec"]["nodeName"] for pod in namespace.get("pods")]
    (free,) = {"n1", "n2"} - {used}

    told = model.unload(*on("n1", "n2"))

    assert (told.status, told.states) == (9, {used: "InUse", free: "Removed"})
    assert f"pod {namespace.name}/user-" in told.words
    assert labelled(model.disk_label) == labelled(model.warm_label) == [used]
    assert model.digest in models(used)
    assert model.digest not in models(free)
    assert namespace.files("deploy/user", "/models/user") == files(model.folder)

    namespace("delete", "deploy/user")
    namespace.until("no pods", lambda: "none" if namespace.get("pods") == [] else "")
    told = model.unload(*on("n1", "n2"))

    assert (told.status, told.states) == (0, {used: "Removed", free: "Unloaded"})
    assert labelled(model.disk_label) == []
    assert model.digest not in models(used)


def test_holder_labels_jobs_and_files_are_gone_and_a_preload_begins_anew(new_model: Callable[[], Model]) -> None:
    model = new_model()
    there = ("--context", "b", *on("n3"))
    held = model.preload(*there, *HOST, "--hold")
    told = model.unload(*there)
    left = labelled(model.warm_label), labelled(model.disk_label), models("n3").count(model.digest), orphans("n3")
    again = model.preload(*there, *HOST)

    assert (held.status, held.states) == (0, {"n3": "Held"}), held.words
    assert (told.status, told.states) == (0, {"n3": "Removed"}), told.words
    assert left == ([], [], 0, [])
    assert (again.status, again.states) == (0, {"n3": "Warm"})
    assert models("n3").count(model.digest) == 1


def test_a_job_that_got_no_pod_is_gone_too(namespace: Namespace, new_model: Callable[[], Model]) -> None:
    model = new_model()
    namespace("create", "quota", "none", "--hard=pods=0")
    namespace.wait_for("jsonpath={.status.hard}", "quota/none")
    started = model.preload(*on("n1"), "-n", namespace.name, "--no-wait")
    model.unload(*on("n1"), "-n", namespace.name)

    assert started.states == {"n1": "Started"}
    assert namespace.get("jobs") == []


def test_a_dry_run_removes_nothing(namespace: Namespace, new_model: Callable[[], Model]) -> None:
    model = new_model()
    kubectl("label", "node", "n1", f"{model.warm_label}=")
    told = model.unload(*on("n1"), "-n", namespace.name, "--dry-run=client")

    assert (told.status, told.states) == (0, {"n1": "Labelled"})
    assert labelled(model.warm_label) == ["n1"]
