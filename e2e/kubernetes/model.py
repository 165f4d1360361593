"""A model in the registry, and modelctl's commands about it as who runs clusters gives them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from e2e.command import MODELCTL, ended, modelctl
from e2e.kubernetes.namespace import kubectl

BOTH = ("--context", "a,b")
"""Of both clusters."""


CONTEXT = {"n1": "a", "n2": "a", "n3": "b"}


class Told(NamedTuple):
    """What a command says of nodes: its status, the state of each node, what it says in words, and its report."""

    status: int
    states: dict[str, str]
    words: str
    report: Any


class Model:
    """A packed model; it knows by itself neither clusters nor namespaces."""

    def __init__(self, folder: Path, reference: str, image: str) -> None:
        """Take the folder that was packed, the artifact by digest, and the image of modelctl that pods run."""
        self.folder, self.reference = folder, reference
        self._flags = ("--plain-http", "--image", image)

    @property
    def digest(self) -> str:
        """The manifest's, in hex."""
        return self.reference.rpartition(":")[2]

    @property
    def short(self) -> str:
        return self.digest[:16]

    @property
    def name(self) -> str:
        """What objects are called that `modelctl render` writes."""
        return self.reference.partition("@")[0].rpartition("/")[2]

    @property
    def on_disk(self) -> str:
        """Where host mode puts the files of the model."""
        return f"/var/lib/modelctl/models/{self.digest}"

    @property
    def disk_label(self) -> str:
        return f"disk.modelctl.io/{self.short}"

    @cached_property
    def warm_label(self) -> str:
        """The label that pods which serve the model prefer."""
        rendered = modelctl("render", self.reference, "--plain-http", "--engine", "none", "--quiet", "-o", "json")
        deployment = json.loads(rendered)["items"][0]
        affinity = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        label: str = preferred["preference"]["matchExpressions"][0]["key"]
        return label

    def preload(self, *flags: str | Path) -> Told:
        return self._told("preload", *flags)

    def unload(self, *flags: str | Path) -> Told:
        return self._told("unload", *flags)

    def status(self, *flags: str | Path) -> Told:
        """Run `status`; its states are what the labels of nodes say."""
        return self._told("status", *flags)

    def fix(self, *flags: str | Path) -> Told:
        """Run `status --fix`; its states are what the labels of nodes say thereafter."""
        return self.status("--fix", *flags)

    def objects(self, *flags: str) -> list[Any]:
        """Return what a preload would apply to the first cluster."""
        objects: list[Any] = self.preload("--dry-run=client", *flags).report["clusters"][0]["objects"]
        return objects

    def command(self, verb: str, *flags: str | Path) -> list[str]:
        return [MODELCTL, verb, self.reference, *self._flags, *map(str, flags)]

    def _told(self, verb: str, *flags: str | Path) -> Told:
        done = ended(*self.command(verb, "-o", "json", *flags))
        report = json.loads(done.stdout) if done.stdout else {"clusters": []}
        rows = [row for cluster in report["clusters"] for row in cluster["nodes"]]
        return Told(done.status, {row["name"]: _state(row) for row in rows}, done.stderr, report)


def on(*nodes: str) -> tuple[str, str]:
    """Return the flags that select nodes by their names, in whatever cluster they are."""
    return "-l", f"kubernetes.io/hostname in ({','.join(nodes)})"


def labelled(label: str) -> list[str]:
    """Return the nodes of both clusters that have a label."""
    found = [kubectl("--context", context, "get", "nodes", "-l", label, "-o", "name") for context in ("a", "b")]
    return sorted(line.removeprefix("node/") for lines in found for line in lines.split())


def unlabel(label: str, *nodes: str) -> None:
    """Take a label from nodes, which may not have it."""
    for node in nodes:
        kubectl("--context", CONTEXT[node], "label", "node", node, f"{label}-")


def _state(row: dict[str, Any]) -> str:
    """Return a node's state; of `status` the labels."""
    labels = [name for name in ("disk", "warm") if row.get(name)]
    return str(row["state"]) if "state" in row else ",".join(labels)
