"""The flags that say which clusters, and how pods run there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from modelctl.cli.flags import with_flags
from modelctl.core.errors import UsageProblem

_CLUSTERS, _PODS = "Clusters", "Pods"
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Contexts:
    """Which contexts of which kubeconfig: those named, "*" for all, none for the current one."""

    names: tuple[str, ...]
    kubeconfig: str


CURRENT = Contexts((), "")


def _contexts(
    context: Annotated[
        str,
        typer.Option(metavar="A,B", help="Contexts. Without: the current one.", rich_help_panel=_CLUSTERS),
    ] = "",
    all_contexts: Annotated[
        bool, typer.Option("--all-contexts", help="Every context of the kubeconfig.", rich_help_panel=_CLUSTERS)
    ] = False,
    kubeconfig: Annotated[
        str, typer.Option(metavar="PATH", help="Without: kubectl's.", rich_help_panel=_CLUSTERS)
    ] = "",
) -> Contexts:
    if context and all_contexts:
        raise UsageProblem("--context with --all-contexts", why="the one is a part of the other")
    names = tuple(name for name in context.split(",") if name)
    return Contexts(("*",) if all_contexts else names, kubeconfig)


reaching_clusters = with_flags("contexts", _contexts)
"""Give a command the flags of `Contexts`; it receives them as its parameter `contexts`."""


def _pods(
    image: Annotated[
        str,
        typer.Option(help="Image of modelctl. Without: that of the cluster's settings.", rich_help_panel=_PODS),
    ] = "",
    pull_secret: Annotated[
        str, typer.Option(metavar="NAME", help="Secret with which they pull.", rich_help_panel=_PODS)
    ] = "",
    service_account: Annotated[
        str, typer.Option(metavar="NAME", help="Service account of the pods.", rich_help_panel=_PODS)
    ] = "",
    tolerations: Annotated[
        str,
        typer.Option(metavar="KEY[=VALUE][:EFFECT],...", help="Taints to tolerate, or all.", rich_help_panel=_PODS),
    ] = "",
    parallelism: Annotated[
        int, typer.Option(min=1, max=5000, help="Nodes of a cluster at once.", rich_help_panel=_PODS)
    ] = 50,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="For all of it, such as 90s or 1h30m.", rich_help_panel=_PODS)
    ] = "30m",
) -> dict[str, Any]:
    return {
        "image": image,
        "pull_secret": pull_secret,
        "service_account": service_account,
        "tolerations": [text for text in tolerations.split(",") if text],
        "parallelism": parallelism,
        "timeout_s": _seconds(timeout),
    }


running_pods = with_flags("pods", _pods)
"""Give a command the flags for its pods; it receives them, named as in `PreloadOptions`, as its parameter `pods`."""


def _seconds(text: str) -> float:
    """Parse a duration as kubectl does: `90s`, `30m`, `1h30m`."""
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        raise UsageProblem(f"--timeout {text[:50]!r}", why="expected a duration such as 90s, 30m or 1h30m")
    found = re.findall(r"([\d.]+)([hms])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in found)
    if seconds <= 0:
        raise UsageProblem(f"--timeout {text}", why="nothing could be done in that time")
    return seconds
