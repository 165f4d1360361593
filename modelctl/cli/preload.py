"""`modelctl preload` and `modelctl unload`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.clusters import CURRENT, Contexts, reaching_clusters, running_pods
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import DryRun, PreloadMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelctl.core.reference import Reference
    from modelctl.flows.clusters import NodesReport, PreloadOptions, Watcher

_SelectorFlag = Annotated[
    str, typer.Option("--node-selector", "-l", metavar="SELECTOR", help="Which nodes, as kubectl -l takes it.")
]
_ModeFlag = Annotated[
    PreloadMode | None,
    typer.Option("--mode", help="Mount the artifact as an image, or pull it to the nodes' disks. Without: what works."),
]
_NamespaceFlag = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Of image mode's pods. Without: the context's. Host mode has its own."),
]
_DryRunFlag = Annotated[
    DryRun | None, typer.Option("--dry-run", help="Only say what would be done: client, or checked by the server.")
]
_YesFlag = Annotated[bool, typer.Option("--yes", help="Do not ask before --all-contexts.")]


@reaching_registries
@reaching_clusters
@running_pods
def preload(
    reference: ReferenceArgument,
    node_selector: _SelectorFlag,
    mode: _ModeFlag = None,
    namespace: _NamespaceFlag = "",
    hold: Annotated[
        bool, typer.Option("--hold", help="Leave a DaemonSet that keeps the model in memory, on new nodes too.")
    ] = False,
    dry_run: _DryRunFlag = None,
    wait: Annotated[bool, typer.Option(help="Follow the Jobs to their end, and label the nodes.")] = True,
    yes: _YesFlag = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    pods: dict[str, Any] = {},
    contexts: Contexts = CURRENT,
    access: Access = DEFAULT,
) -> None:
    """Bring a model into the memory of the nodes that a selector names, and label those that proved it.

    A Job for each node: in image mode a restricted pod mounts the artifact and reads it; in host mode it pulls the
    files to the node's disk first. The plan stands on stderr before anything is created. Ends with status 9 when a
    node is not warm, 10 when the time was over.

    \b
    Examples:
      modelctl preload registry.example/qwen/qwen3-8b:v1 -l nodegroup=gpu -n ml --pull-secret hub
      modelctl preload registry.example/qwen/qwen3-8b:v1 -l nodegroup=gpu --mode host --hold
      modelctl preload registry.example/qwen/qwen3-8b:v1 -l nodegroup=gpu --all-contexts --dry-run=client -o json
    """
    from modelctl.cli.nodes import raise_unless_good
    from modelctl.flows.clusters import PreloadOptions
    from modelctl.flows.preload import preload as run

    options = PreloadOptions(
        selector=node_selector,
        mode=mode,
        contexts=contexts.names,
        kubeconfig=contexts.kubeconfig,
        namespace=namespace,
        hold=hold,
        dry_run=dry_run,
        wait=wait,
        access=access,
        **pods,
    )
    _confirm(options, yes=yes)
    found = _watched(run, reference, options, output=output, quiet=quiet)
    raise_unless_good(found, "warm")


@reaching_registries
@reaching_clusters
@running_pods
def unload(
    reference: ReferenceArgument,
    node_selector: _SelectorFlag,
    mode: Annotated[
        PreloadMode | None,
        typer.Option(
            "--mode", help="host: look for files on all these nodes. Without: on those labelled to have them."
        ),
    ] = None,
    namespace: _NamespaceFlag = "",
    dry_run: _DryRunFlag = None,
    yes: _YesFlag = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    pods: dict[str, Any] = {},
    contexts: Contexts = CURRENT,
    access: Access = DEFAULT,
) -> None:
    """Take a model from nodes: their labels, its holder, its Jobs, and the files of host mode.

    A node where a pod uses the files is left alone. Memory and images are the kernel's and the kubelet's to take
    back, when they need the room.

    \b
    Examples:
      modelctl unload registry.example/qwen/qwen3-8b:v1 -l nodegroup=gpu -n ml
      modelctl unload registry.example/qwen/qwen3-8b:v1 -l kubernetes.io/hostname=gpu-7 --context prod-a
    """
    from modelctl.cli.nodes import raise_unless_good
    from modelctl.flows.clusters import PreloadOptions
    from modelctl.flows.unload import unload as run

    options = PreloadOptions(
        selector=node_selector,
        mode=mode,
        contexts=contexts.names,
        kubeconfig=contexts.kubeconfig,
        namespace=namespace,
        dry_run=dry_run,
        access=access,
        **pods,
    )
    _confirm(options, yes=yes)
    found = _watched(run, reference, options, output=output, quiet=quiet)
    if not dry_run:
        raise_unless_good(found, "unloaded")


def _confirm(options: PreloadOptions, *, yes: bool) -> None:
    """Ask before changing every cluster of a kubeconfig; without a terminal to ask on, demand --yes."""
    from modelctl.core.errors import UsageProblem
    from modelctl.flows.clusters import ALL, chosen

    if options.contexts != ALL or yes or options.dry_run:
        return
    names = ", ".join(chosen(ALL, options.kubeconfig))
    if not sys.stdin.isatty():
        raise UsageProblem("--all-contexts without --yes", why=f"nobody is there to be asked about {names}")
    typer.confirm(f"Change the clusters {names}?", abort=True, err=True)


def _watched(
    run: Callable[[Reference, PreloadOptions, Watcher], NodesReport],
    reference: str,
    options: PreloadOptions,
    *,
    output: Output,
    quiet: bool,
) -> NodesReport:
    """Run, show how it goes, print the result."""
    from modelctl.cli.nodes import result_lines, watching
    from modelctl.core.reference import parse_reference

    with watching(quiet=quiet) as watcher:
        found = run(parse_reference(reference), options, watcher)
    report.print_result(found, output, result_lines(found))
    return found
