"""`modelctl status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import Partial, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelctl.flows.status import ClusterStatus


@reaching_registries
def status(
    reference: ReferenceArgument,
    context: Annotated[
        str, typer.Option(metavar="A,B", help="Contexts of the kubeconfig. Without: the current one.")
    ] = "",
    all_contexts: Annotated[bool, typer.Option("--all-contexts", help="Every context of the kubeconfig.")] = False,
    kubeconfig: Annotated[str, typer.Option(metavar="PATH", help="Without: kubectl's.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pods. Without: all.")] = "",
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Show which nodes have a model on disk and in memory, and how the pods are that use it.

    Of a pod that does not start it says why, and what to do. Ends with status 9 when a cluster does not answer.

    \b
    Examples:
      modelctl status registry.example/qwen/qwen3-8b:v1
      modelctl status registry.example/qwen/qwen3-8b:v1 --context prod-a,prod-b -n ml -o json
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.status import status as run

    if context and all_contexts:
        raise UsageProblem("--context with --all-contexts", why="the one is a part of the other")
    names = ["*"] if all_contexts else [name for name in context.split(",") if name]
    found = run(parse_reference(reference), names, kubeconfig=kubeconfig, namespace=namespace, access=access)
    report.print_result(found, output, "".join(line for cluster in found.clusters for line in _lines(cluster)))
    silent = [cluster for cluster in found.clusters if cluster.problem]
    if silent:
        why = "\n       ".join(cluster.problem for cluster in silent)
        raise Partial(f"{len(silent)} of {len(found.clusters)} clusters did not answer", why=why)


def _lines(cluster: ClusterStatus) -> Iterator[str]:
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
