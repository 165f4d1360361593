"""What a cluster does with Jobs and DaemonSets: controllers make pods, kubelets run them, as `Fate`s say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kube_api import KubeApi, Object

JOB_NAME = "batch.kubernetes.io/job-name"
COMPONENT = "app.kubernetes.io/component"
NODE = "modelctl.io/node"


@dataclass(frozen=True)
class Fate:
    """What becomes of a pod: how its containers end, and what they leave beside or instead of the truth.

    An exit status is None where a container does not end: it runs.
    """

    pull: int | None = 0
    main: int | None = 0
    pull_words: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    """Why no pod can be made of it at all."""
    late: bool = False
    """Nobody has made a pod of it yet, or said why."""
    waiting: str = ""
    """Why its image does not come."""
    unscheduled: str = ""
    """Why no node takes it."""
    ready: bool = True
    """Of a holder: whether all of the model is in memory."""


RUNS = Fate(main=None)


def failing(status: int, code: str, why: str = "as it was told", **facts: Any) -> Fate:
    """A pod whose last container fails, and says why."""
    error = {"code": code, "what": "model", "why": why, "hint": ""}
    return Fate(main=status, words={**facts, "error": error})


class Player:
    """Plays the Job controller, the DaemonSet controller and all kubelets of one API server.

    `fates` are of pods by node, one after the other, of which the last stays; without one all goes well. `most` is how
    many Jobs there were at most, `started` the nodes in the order of their Jobs.
    """

    def __init__(self, api: KubeApi, size: int, fates: Mapping[str, list[Fate]] | None = None) -> None:
        """Take a server, and how large the model is that pods find [bytes]."""
        self.fates: dict[str, list[Fate]] = dict(fates or {})
        self.most = 0
        self.started: list[str] = []
        self._api, self._size = api, size
        self._numbers = itertools.count(10)
        api.on_apply = self.play

    def play(self, applied: Object) -> None:
        """Do with an object that was applied what the cluster does."""
        if applied["kind"] == "Job":
            self.most = max(self.most, len(self._api.objects.get("jobs", [])))
            if not applied["spec"].get("suspend") and not self.pods_of(applied):
                self.started.append(applied["metadata"]["annotations"][NODE])
                self._run_job(applied)
        elif applied["kind"] == "DaemonSet":
            for node in self._api.objects["nodes"]:
                if _chosen(node, applied):
                    self._hold(applied, node["metadata"]["name"])

    def pods_of(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        pods = self._api.objects.get("pods", [])
        return [pod for pod in pods if [one["uid"] for one in pod["metadata"].get("ownerReferences", [])] == [uid]]

    def _run_job(self, job: Object) -> None:
        node = job["metadata"]["annotations"][NODE]
        for _ in range(job["spec"]["backoffLimit"] + 1):
            ended = self._run_pod(job, node, self._fate(node))
            if ended is None:
                return
            if ended == 0:
                self.end_job(job, "Complete")
                return
            if ended in job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]:
                self.end_job(job, "Failed", "PodFailurePolicy")
                return
        self.end_job(job, "Failed", "BackoffLimitExceeded")

    def _fate(self, node: str) -> Fate:
        fates = self.fates.get(node, [Fate()])
        return fates.pop(0) if len(fates) > 1 else fates[0]

    def end_job(self, job: Object, kind: str, reason: str = "") -> None:
        """Put a condition on a Job, if it is still there."""
        metadata = job["metadata"]
        condition = {"type": kind, "status": "True", "reason": reason}
        if self._api.find("jobs", metadata["name"], metadata["namespace"]):
            self._api.put("jobs", job | {"status": {"conditions": [condition]}})

    def _run_pod(self, job: Object, node: str, fate: Fate) -> int | None:
        """Make a pod and end it; return the exit status of the container that ended it, None when it goes on."""
        if fate.late:
            return None
        if fate.refused:
            self._warn(job, fate.refused)
            return None
        pod = self._pod(job)
        if fate.unscheduled:
            condition = {"type": "PodScheduled", "status": "False", "message": fate.unscheduled}
            self._api.put("pods", pod | {"status": {"phase": "Pending", "conditions": [condition]}})
            return None
        pod["spec"]["nodeName"] = node
        self._api.put("pods", pod | {"status": {"phase": "Pending"}})
        if fate.waiting:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": fate.waiting}}
            main = {"name": pod["spec"]["containers"][0]["name"], "state": state}
            self._api.put("pods", pod | {"status": {"phase": "Pending", "containerStatuses": [main]}})
            return None
        return self._run_containers(pod, fate)

    def _run_containers(self, pod: Object, fate: Fate) -> int | None:
        statuses: dict[str, list[Object]] = {"initContainerStatuses": [], "containerStatuses": []}
        steps = [
            ("initContainerStatuses", one, fate.pull, fate.pull_words) for one in pod["spec"].get("initContainers", [])
        ]
        steps += [("containerStatuses", one, fate.main, fate.words) for one in pod["spec"]["containers"]]
        for place, container, status, words in steps:
            state: Object = {"running": {}}
            if status is not None:
                said = self._words(pod, container, status) | dict(words)
                state = {"terminated": {"exitCode": status, "reason": "Completed", "message": json.dumps(said)}}
            statuses[place].append({"name": container["name"], "state": state})
            phase = "Running" if status is None else "Failed" if status else "Pending"
            self._api.put("pods", pod | {"status": {"phase": phase, **statuses}})
            if status is None or status:
                return status
        self._api.put("pods", pod | {"status": {"phase": "Succeeded", **statuses}})
        return 0

    def _words(self, pod: Object, container: Object, status: int) -> Object:
        """Return what `node pull`, `node warm` or `node rm` leaves when all is well."""
        args: list[str] = container["args"]
        digest = pod["metadata"]["annotations"]["modelctl.io/digest"]
        if status:
            return {}
        if container["name"] == "pull":
            return {"digest": digest, "files": 3, "size": self._size, "shared": 0}
        if container["name"] == "remove":
            return {"digest": digest, "freed": self._size}
        table = args[args.index("--table") + 1] if "--table" in args else ""
        return {"table": table, "files": 3, "size": self._size, "resident": self._size}

    def _hold(self, daemon_set: Object, node: str) -> None:
        fate = self._fate(f"hold {node}")
        pod = self._pod(daemon_set)
        pod["spec"]["nodeName"] = node
        main = {"name": "hold", "state": {"running": {}}}
        inits = [
            {
                "name": one["name"],
                "state": {"terminated": {"exitCode": 0, "message": json.dumps(self._words(pod, one, 0))}},
            }
            for one in pod["spec"].get("initContainers", [])
        ]
        ready = {"type": "Ready", "status": "True" if fate.ready else "False"}
        status = {
            "phase": "Running",
            "conditions": [ready],
            "initContainerStatuses": inits,
            "containerStatuses": [main],
        }
        self._api.put("pods", pod | {"status": status})

    def _pod(self, owner: Object) -> Object:
        number, metadata, template = next(self._numbers), owner["metadata"], owner["spec"]["template"]
        labels = template["metadata"]["labels"] | ({JOB_NAME: metadata["name"]} if owner["kind"] == "Job" else {})
        return {
            "metadata": {
                "name": f"{metadata['name']}-{number}",
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": dict(template["metadata"]["annotations"]),
                "ownerReferences": [{"kind": owner["kind"], "uid": metadata["uid"]}],
                "creationTimestamp": f"2026-08-01T10:00:{number}Z",
            },
            "spec": dict(template["spec"]),
        }

    def _warn(self, owner: Object, message: str) -> None:
        metadata = owner["metadata"]
        about = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        self._api.put(
            "events",
            {
                "metadata": {"name": f"event-{next(self._numbers)}", "namespace": metadata["namespace"]},
                "involvedObject": about,
                "type": "Warning",
                "reason": "FailedCreate",
                "message": message,
            },
        )


def ready_node(name: str, *, memory: str = "64Gi", ready: str = "True", **spec: Any) -> Object:
    """Return a node, of group `gpu`, as its kubelet keeps it."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "nodegroup": "gpu"}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"memory": memory}},
    }


def _chosen(node: Object, daemon_set: Object) -> bool:
    """Say whether a DaemonSet wants a node; of the operators there is what the tests use."""
    affinity = daemon_set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    labels = node["metadata"]["labels"]
    return all(labels.get(one["key"]) in one["values"] for one in term["matchExpressions"])
