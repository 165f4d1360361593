"""Work on a model in several clusters at once: which are meant, how pods run there, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Protocol, TypeVar

import msgspec

from modelctl.cluster.api import Cluster, contexts
from modelctl.cluster.labels import Object
from modelctl.cluster.preloading import HOST_NAMESPACE, Preload
from modelctl.cluster.selector import parse_toleration
from modelctl.cluster.serving import check_image, check_namespace, check_secret_name
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import DryRun, PreloadMode
from modelctl.core.config import load_config
from modelctl.core.disk import on_disk
from modelctl.core.ending import keeping_connections
from modelctl.core.errors import ModelctlError, UsageProblem
from modelctl.core.reference import Reference
from modelctl.flows.node_jobs import Limits, NodeRow
from modelctl.flows.regions import place
from modelctl.flows.stores import open_artifact
from modelctl.packing.artifact import Artifact

Result = TypeVar("Result")

_LATER_S = 15
"""How much longer a Job may take than the command [s]: who waits shall read why, not that it was killed."""

ALL = ("*",)
"""Stands for every context of the kubeconfig."""


@dataclass(frozen=True, kw_only=True)
class PreloadOptions:
    """What the user may choose; the names are those of the flags. `timeout_s` bounds the whole run [s]."""

    selector: str = ""
    mode: PreloadMode | None = None
    contexts: Sequence[str] = ()
    kubeconfig: str = ""
    namespace: str = ""
    tolerations: Sequence[str] = ()
    parallelism: int = 50
    hold: bool = False
    pull_secret: str = ""
    service_account: str = ""
    image: str = ""
    dry_run: DryRun | None = None
    wait: bool = True
    timeout_s: float = 1800.0
    access: Access = DEFAULT


class ClusterReport(msgspec.Struct, kw_only=True):
    """A cluster: how its nodes get the model and why so, and how each is; `problem` says why work there ended early.

    `objects` are those that a dry run would have applied.
    """

    context: str
    problem: str = ""
    mode: str = ""
    why: str = ""
    namespace: str = ""
    nodes: list[NodeRow] = msgspec.field(default_factory=list)
    objects: list[Object] = msgspec.field(default_factory=list)


class NodesReport(msgspec.Struct, kw_only=True):
    """A model on the nodes of clusters."""

    reference: str
    digest: str
    clusters: list[ClusterReport]


class Watcher:
    """Is told how it goes; this one tells nobody. Several threads call it, one for each cluster."""

    def planned(self, cluster: ClusterReport) -> None:
        """A cluster's nodes were judged; nothing was changed yet."""

    def changed(self, cluster: ClusterReport, row: NodeRow) -> None:
        """A node is in another state than before."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster, what its nodes get, and how far to go.

    Of `pods` the mode is open; see `in_mode`.
    """

    cluster: Cluster
    pods: Preload
    artifact: Artifact
    limits: Limits

    def in_mode(self, mode: PreloadMode) -> Preload:
        """Return what runs in a mode: with host mode's own namespace, or the one that was named, or the context's."""
        namespace = HOST_NAMESPACE if mode == "host" else self.pods.namespace or self.cluster.namespace
        return replace(self.pods, mode=mode, namespace=namespace)


class Work(Protocol):
    """What is done in one cluster; `report` is right at any time."""

    report: ClusterReport

    def do(self) -> None: ...


def in_clusters(
    reference: Reference, options: PreloadOptions, start: Callable[[Site], Work], *, runs_pods: bool = False
) -> NodesReport:
    """Work in every cluster that is meant, side by side; one that does not answer delays none.

    Args:
        reference: The artifact, in a registry; a cluster with a region pulls the same digest from that region's.
        options: Clusters, pods and patience.
        start: Begins the work in a cluster.
        runs_pods: It is sure to run pods, so that an image is demanded for every cluster before any is asked.

    Raises:
        UsageProblem: What was asked for contradicts itself, or lacks an image.
        NotFound: No such artifact, or no such kubeconfig. Denied, Unavailable: The registry does not show it.
    """
    if not reference.registry:
        hint = f"modelctl push {reference} REGISTRY/REPOSITORY:TAG, and name that"
        raise UsageProblem(f"no node can pull {reference}", why="it is in a folder", hint=hint)
    _, artifact = open_artifact(reference, options.access)
    names = chosen(options.contexts, options.kubeconfig)
    pods = {name: _pods(name, reference, artifact, options) for name in names}
    if runs_pods:
        for name in names:
            need_image(pods[name], name)
    stop = Event()
    limits = Limits(parallelism=options.parallelism, deadline=time.monotonic() + options.timeout_s, stop=stop)

    def work(cluster: Cluster) -> ClusterReport:
        begun = start(Site(cluster=cluster, pods=pods[cluster.context], artifact=artifact, limits=limits))
        try:
            begun.do()
        except ModelctlError as error:
            begun.report.problem = one_line(error)
        return begun.report

    def failed(context: str, problem: str) -> ClusterReport:
        return ClusterReport(context=context, problem=problem)

    clusters = side_by_side(names, options.kubeconfig, work, failed, stop)
    return NodesReport(reference=str(reference), digest=artifact.root.digest, clusters=clusters)


def chosen(names: Sequence[str], kubeconfig: str) -> list[str]:
    """Return the contexts that are meant: those named, all for `ALL`, the current one for none.

    Raises:
        NotFound: No such kubeconfig. UsageProblem: No such context.
    """
    known, current = contexts(kubeconfig)
    wanted = known if tuple(names) == ALL else list(dict.fromkeys(names)) or [current]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UsageProblem(f"no context is named {', '.join(unknown)}", why=f"there are {', '.join(known)}")
    return wanted


def side_by_side(
    names: Sequence[str],
    kubeconfig: str,
    work: Callable[[Cluster], Result],
    failed: Callable[[str, str], Result],
    stop: Event,
) -> list[Result]:
    """Do `work` in the cluster of each context at once; return the results in the order of `names`.

    Args:
        names: Contexts.
        kubeconfig: Its path, empty for kubectl's.
        work: Ends early when `stop` is set, as ^C does.
        failed: Makes the result of a cluster where it was impossible, from the context and why.
        stop: Set at the end, and as soon as one work ends in what is no `ModelctlError`.
    """

    def one(context: str) -> Result:
        try:
            return work(Cluster(context, kubeconfig, stop))
        except ModelctlError as error:
            return failed(context, one_line(error))

    with keeping_connections(), ThreadPoolExecutor(len(names)) as pool:
        futures = [pool.submit(one, name) for name in names]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        return [future.result() for future in futures]


def one_line(error: ModelctlError) -> str:
    """Say what stopped the work in a cluster."""
    return f"{error.what}: {error.why}" + (f"; try: {error.hint}" if error.hint else "")


def need_image(pods: Preload, context: str) -> None:
    """Demand that it is known what pods run; `UsageProblem` otherwise."""
    if not pods.image:
        raise UsageProblem(
            f"no image of modelctl for cluster {context}",
            why="its nodes run modelctl in pods",
            hint=f'make image, push it, and --image NAME, or image = "NAME" in [clusters.{context}] of the settings',
        )


def _pods(context: str, reference: Reference, artifact: Artifact, options: PreloadOptions) -> Preload:
    config = load_config()
    settings = config.cluster(context)
    where, access = reference, options.access
    if settings.region:
        where, access = place(reference, settings.region, config, access)
    image = options.image or settings.image
    if access.client_cert and options.mode == "host":
        why = "pods that pull for themselves have no client certificate"
        raise UsageProblem("--client-cert with --mode host", why=why, hint="--mode image, where runtimes pull")
    flags = ["--plain-http"] * access.plain_http + ["--insecure"] * access.insecure
    flags += [flag for realm in access.trust_realm for flag in ("--trust-realm", realm)]
    return Preload(
        mode=options.mode or "image",
        repository=f"{where.registry}/{where.path}",
        digest=artifact.root.digest,
        table=artifact.table_digest,
        size=artifact.size,
        namespace=check_namespace(options.namespace) if options.namespace else "",
        image=check_image(image) if image else "",
        pull_secret=check_secret_name(options.pull_secret, "--pull-secret"),
        service_account=check_secret_name(options.service_account, "--service-account"),
        tolerations=[parse_toleration(text) for text in options.tolerations],
        deadline_s=max(1, int(options.timeout_s)) + _LATER_S,
        registry_flags=flags,
        ca=_text(access.ca_file) if access.ca_file else "",
    )


def _text(path: str) -> str:
    with on_disk(path):
        return Path(path).read_text()
