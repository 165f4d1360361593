"""`modelctl status`."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.clusters import CURRENT, Contexts, reaching_clusters, running_pods
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import Partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelctl.core.reference import Reference
    from modelctl.flows.clusters import NodesReport
    from modelctl.flows.status import ClusterStatus


@reaching_registries
@reaching_clusters
@running_pods
def status(
    reference: ReferenceArgument,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of the pods. Without: all; with --fix as preload does.")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and print what changes, until ^C.")] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First measure again, and make the nodes' labels say what was measured.")
    ] = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    pods: dict[str, Any] = {},
    contexts: Contexts = CURRENT,
    access: Access = DEFAULT,
) -> None:
    """Show which nodes have a model on disk and in memory, and how the pods are that use it.

    Of a pod that does not start it says why, and what to do. --fix asks holders and runs a preload's Job on the other
    nodes that are labelled, which warms them again; the flags for pods are for those. Ends with status 9 when a
    cluster does not answer, or with --fix when a labelled node could not be measured.

    \b
    Examples:
      modelctl status registry.example/qwen/qwen3-8b:v1
      modelctl status registry.example/qwen/qwen3-8b:v1 --context prod-a,prod-b -n ml -o json
      modelctl status registry.example/qwen/qwen3-8b:v1 --fix -n ml --pull-secret hub
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.status import Where, watch_status
    from modelctl.flows.status import status as run

    wanted = parse_reference(reference)
    where = Where(kubeconfig=contexts.kubeconfig, namespace=namespace, access=access)
    fixed = _fixed(wanted, contexts, namespace, pods, access, quiet=quiet) if fix else None
    if watch:
        watch_status(wanted, contexts.names, where, _Printer(output).show)
        return
    found = run(wanted, contexts.names, where)
    report.print_result(found, output, "".join(line for cluster in found.clusters for line in _lines(cluster)))
    silent = [cluster for cluster in found.clusters if cluster.problem]
    if silent:
        why = "\n       ".join(cluster.problem for cluster in silent)
        raise Partial(f"{len(silent)} of {len(found.clusters)} clusters did not answer", why=why)
    if fixed and any(cluster.nodes or cluster.problem for cluster in fixed.clusters):
        from modelctl.cli.nodes import GOOD, raise_unless_good

        raise_unless_good(fixed, "measured", good=(*GOOD, "NotWarm"))


def _fixed(
    reference: Reference, contexts: Contexts, namespace: str, pods: dict[str, Any], access: Access, *, quiet: bool
) -> NodesReport:
    from modelctl.cli.nodes import watching
    from modelctl.flows.clusters import PreloadOptions
    from modelctl.flows.fix import fix

    options = PreloadOptions(
        contexts=contexts.names, kubeconfig=contexts.kubeconfig, namespace=namespace, access=access, **pods
    )
    with watching(quiet=quiet) as watcher:
        return fix(reference, options, watcher)


class _Printer:
    """Prints of each cluster what is new since it was last shown."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last: dict[str, list[str]] = {}
        self._lock = Lock()

    def show(self, cluster: ClusterStatus) -> None:
        with self._lock:
            lines = list(_lines(cluster))
            new = [line for line in lines if line not in self._last.get(cluster.context, ())]
            self._last[cluster.context] = lines
            report.print_result(cluster, self._output, "".join(new))


def _lines(cluster: ClusterStatus) -> Iterator[str]:
    if cluster.problem:
        yield f"{cluster.context}  does not answer: {cluster.problem}\n"
    for node in cluster.nodes:
        has = ["disk"] * node.disk + ["warm"] * node.warm
        ready = "Ready" if node.ready else "NotReady"
        yield f"{cluster.context}  node/{node.name}  {ready}  {','.join(has) or '-'}\n"
    for pod in cluster.pods:
        yield f"{cluster.context}  {pod.namespace}/{pod.name}  {pod.state}  {pod.node or '-'}\n"
        if pod.why:
            yield f"  why: {pod.why}\n"
        if pod.hint:
            yield f"  try: {pod.hint}\n"
