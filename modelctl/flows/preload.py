"""Bring a model into the memory of the nodes that a selector names, in several clusters, and label what was proved."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from modelctl.cluster.api import Cluster
from modelctl.cluster.fit import judge
from modelctl.cluster.following import Followed
from modelctl.cluster.labels import Object, component_of, node_of
from modelctl.cluster.outcome import Outcome, outcome
from modelctl.cluster.preloading import (
    HOST_NAMESPACE,
    ca_config,
    holder,
    host_namespace,
    preload_job,
    selector_of,
)
from modelctl.cluster.selector import parse_selector
from modelctl.cluster.versions import parse_kube_version, why_image_volume, why_no_image_volume
from modelctl.core.choices import PreloadMode
from modelctl.core.errors import Denied, NotFound, Unavailable, UsageProblem
from modelctl.core.reference import Reference
from modelctl.flows.clusters import ClusterReport, NodesReport, PreloadOptions, Site, Watcher, in_clusters
from modelctl.flows.node_jobs import TICK_S, NodeJobs, NodeRow, visible
from modelctl.flows.node_labels import NodeLabels, holds
from modelctl.flows.render import why_not_mountable
from modelctl.packing.artifact import Artifact

_ASKERS = 16


def preload(reference: Reference, options: PreloadOptions, watcher: Watcher) -> NodesReport:
    """Preload in clusters; see `in_clusters` for what is refused.

    Args:
        reference: The artifact, in a registry.
        options: Nodes, pods and patience.
        watcher: Told of the plan, then of each change.

    Raises:
        UsageProblem: A namespace was named for host mode, which has its own.
    """
    expressions = parse_selector(options.selector)
    if options.namespace and options.mode == "host":
        why = f"its pods may write to the host, in a namespace of their own, {HOST_NAMESPACE}"
        raise UsageProblem("--namespace with --mode host", why=why)

    def start(site: Site) -> _Run:
        return _Run(site, options, expressions, watcher)

    return in_clusters(reference, options, start, runs_pods=True)


def choose_mode(cluster: Cluster, artifact: Artifact, asked: PreloadMode | None) -> tuple[PreloadMode, str]:
    """Return how the nodes of a cluster get the model, and why so.

    Raises:
        UsageProblem: It was asked for what would not mount.
    """
    if asked == "host":
        return "host", "asked for"
    version = parse_kube_version(cluster.version())
    no_layout = why_not_mountable(artifact)
    no_version = why_no_image_volume(version, gate=asked == "image", sub_path=False)
    if not no_layout and not no_version:
        return "image", why_image_volume(version)
    if asked:
        raise UsageProblem("pods could not mount the artifact", why=no_layout or no_version, hint="--mode host")
    return "host", no_layout or no_version


class _Run:
    """The preload of one cluster."""

    def __init__(self, site: Site, options: PreloadOptions, expressions: Sequence[Object], watcher: Watcher) -> None:
        self._cluster, self._limits = site.cluster, site.limits
        self._options, self._expressions, self._watcher = options, expressions, watcher
        mode, why = choose_mode(self._cluster, site.artifact, options.mode)
        self._preload = site.in_mode(mode)
        self._labels = NodeLabels(self._cluster, site.artifact)
        namespace = self._preload.namespace
        self.report = ClusterReport(context=self._cluster.context, mode=mode, why=why, namespace=namespace)

    def do(self) -> None:
        """Plan, then preload what fits, then hold it when that was asked for."""
        nodes = self._cluster.nodes(self._options.selector)
        selector = selector_of(self._preload.digest, "preload", "hold")
        with self._cluster.following(self._preload.namespace, selector) as followed:
            pods = followed.next(TICK_S)
            self.report.nodes = self._plan(nodes, pods)
            fit = [row for row in self.report.nodes if row.state == "Fit"]
            self._watcher.planned(self.report)
            around, after = self._around(), self._after()
            if self._options.dry_run == "client":
                self.report.objects = [*around, *(preload_job(self._preload, row.name) for row in fit), *after]
            else:
                self._clean_up(pods)
                self._go(followed, fit, around, after)

    def _plan(self, nodes: Sequence[Object], pods: Sequence[Object]) -> list[NodeRow]:
        """Judge each node: held already, warm already, one that it fits on, or why not."""
        held = {pod["spec"].get("nodeName", "") for pod in pods if holds(pod, self._preload)}
        rows = []
        named = {str(node["metadata"]["name"]): node for node in nodes}
        has = held | {name for name, node in named.items() if self._labels.all_on(node, self._preload.mode)}
        open_ = [name for name, node in named.items() if judge(node, self._preload, None).state == "Fit"]
        room = self._room([name for name in open_ if name not in has])
        for name, node in named.items():
            fit = judge(node, self._preload, room.get(name))
            row = NodeRow(name=name, state=fit.state, why=fit.why, hint=fit.hint)
            if name in held:
                row = NodeRow(name=name, state="Held", size=self._preload.size, resident=self._preload.size)
                if not self._options.dry_run and not self._labels.all_on(node, self._preload.mode):
                    self._labels.set(name, disk=self._preload.mode == "host", warm=True)
            elif fit.state == "Fit" and name in has:
                row = NodeRow(name=name, state="Warm", why="so it was when last measured", hint="modelctl status --fix")
            rows.append(row)
        return rows

    def _room(self, names: Sequence[str]) -> dict[str, Object]:
        """Ask the kubelets what is free, once; nothing is known where that is not allowed or a kubelet is silent."""

        def ask(name: str) -> tuple[str, Object | None]:
            try:
                return name, self._cluster.stats(name)
            except (Denied, NotFound, Unavailable):
                return name, None

        found = [ask(name) for name in names[:1]]
        if found and not found[0][1]:
            self.report.why += "; free disk is not known: no right to nodes/proxy, or a silent kubelet"
        elif found:
            with ThreadPoolExecutor(_ASKERS) as pool:
                found += pool.map(ask, names[1:])
        return {name: stats for name, stats in found if stats}

    def _clean_up(self, pods: Sequence[Object]) -> None:
        """Delete the Jobs that an earlier run left on nodes which it had labelled."""
        done = {row.name for row in self.report.nodes if row.state in ("Warm", "Held")}
        for pod in pods if not self._options.dry_run else ():
            if component_of(pod) == "preload" and node_of(pod) in done:
                job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
                self._cluster.delete("Job", self._preload.namespace, job)

    def _around(self) -> list[Object]:
        """Return what the Jobs need: in host mode a namespace of their own, when it is not there, and the CA."""
        namespace = self._preload.namespace
        if self._preload.mode == "image":
            return []
        made = [] if self._cluster.find("Namespace", "", namespace) else [host_namespace(namespace)]
        return made + ([ca_config(self._preload)] if self._preload.ca else [])

    def _after(self) -> list[Object]:
        return [holder(self._preload, self._expressions)] if self._options.hold else []

    def _go(
        self, followed: Followed, fit: Sequence[NodeRow], around: Sequence[Object], after: Sequence[Object]
    ) -> None:
        dry_run = self._options.dry_run is not None
        for found in around:
            self._cluster.apply(found, dry_run=dry_run)
            if dry_run and found["kind"] == "Namespace":
                self._say_unchecked(fit)
                return
        jobs = NodeJobs(self._cluster, self._preload, followed, preload_job, self._options.selector)
        if dry_run or not self._options.wait:
            for row, _ in jobs.start(fit, self._tell, dry_run=dry_run):
                row.state = "Fit" if dry_run else "Started"
        else:
            jobs.run(fit, self._limits, self._tell, self._proved)
        if after and not self._limits.over and not (fit and all(row.state == "Failed" for row in fit)):
            for found in after:
                self._cluster.apply(found, dry_run=dry_run)
            if self._options.wait and not dry_run:
                self._await_holders(followed)

    def _say_unchecked(self, rows: Sequence[NodeRow]) -> None:
        for row in rows:
            row.why = f"its Job was not checked: namespace {self._preload.namespace} is not there yet"
            self._tell(row)

    def _await_holders(self, followed: Followed) -> None:
        waiting = {row.name: row for row in self.report.nodes if row.state == "Warm"}
        while waiting and not self._limits.over:
            for pod in followed.next(TICK_S):
                row = waiting.get(pod["spec"].get("nodeName", ""))
                if row and component_of(pod) == "hold":
                    found, before = outcome(pod, (), self._preload), visible(row)
                    row.state, row.why, row.hint = "Held" if found.warm else "Holding", found.why, found.hint
                    if found.warm:
                        self._proved(waiting.pop(row.name), found)
                    if visible(row) != before:
                        self._tell(row)
        if not self._limits.stop.is_set():
            for row in waiting.values():
                row.state, row.why = "TimedOut", row.why or f"it was still {row.state} when the time was over"
                self._tell(row)

    def _tell(self, row: NodeRow) -> None:
        self._watcher.changed(self.report, row)

    def _proved(self, row: NodeRow, found: Outcome) -> None:
        self._labels.set(row.name, disk=found.disk, warm=found.warm)
