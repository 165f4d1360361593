"""Take a model from nodes: labels first, then what holds it, then the files that `preload --mode host` brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelctl.cluster.labels import DIGEST_ANNOTATION, MANAGED, Object, component_of, node_of
from modelctl.cluster.preloading import ca_config, holder_name, host_namespace, removal_job, selector_of
from modelctl.cluster.selector import parse_selector
from modelctl.core.errors import Conflict, Denied, Invalid
from modelctl.core.reference import Reference
from modelctl.core.types import Digest
from modelctl.flows.clusters import ClusterReport, NodesReport, PreloadOptions, Site, Watcher, in_clusters, need_image
from modelctl.flows.node_jobs import NodeJobs, NodeRow, has_ended
from modelctl.flows.node_labels import NodeLabels


def unload(reference: Reference, options: PreloadOptions, watcher: Watcher) -> NodesReport:
    """Unload in clusters; see `in_clusters` for what is refused.

    Pages stay in memory, and images on disk, until the node needs the room: no restricted pod can take them away.

    Args:
        reference: The artifact, in a registry.
        options: As of the preload; with mode "host" files are looked for on all nodes of the selector, else on those
            that are labelled.
        watcher: Told of the plan, then of each change.
    """
    parse_selector(options.selector)

    return in_clusters(reference, options, lambda site: _Unload(site, options, watcher))


class _Unload:
    """The unloading of one cluster."""

    def __init__(self, site: Site, options: PreloadOptions, watcher: Watcher) -> None:
        self._cluster, self._limits, self._options, self._watcher = site.cluster, site.limits, options, watcher
        self._labels = NodeLabels(self._cluster, site.artifact)
        self._digest = site.artifact.root.digest
        self._host = site.in_mode("host")
        self._namespaces = {site.in_mode("image").namespace, self._host.namespace}
        self.report = ClusterReport(context=self._cluster.context)

    def do(self) -> None:
        """Take labels, holder and Jobs away; then files, where no pod uses them."""
        nodes = {str(node["metadata"]["name"]): node for node in self._cluster.nodes(self._options.selector)}
        jobs = self._cluster.jobs("", selector_of(self._digest, "preload", "remove"))
        removals = {node_of(job): job for job in jobs if component_of(job) == "remove"}
        pods = [pod for pod in self._cluster.pods("", MANAGED) if _is_of(pod, self._digest)]
        holders = [pod for pod in pods if component_of(pod) == "hold"]
        users = _users(pods)
        self.report.nodes = [
            self._planned(name, node, users.get(name, ""), begun=name in removals) for name, node in nodes.items()
        ]
        self._refuse_to_hold_less(holders, set(nodes))
        on_disk = [row for row in self.report.nodes if row.state == "OnDisk"]
        if on_disk:
            need_image(self._host, self._cluster.context)
        self._watcher.planned(self.report)
        if not self._options.dry_run:
            self._need_namespace(on_disk)
            noted = [row for row in on_disk if self._noted(row, removals.get(row.name))]
            preloads = [job for job in jobs if component_of(job) == "preload" and node_of(job) in nodes]
            self._take(nodes, self._namespaces | {pod["metadata"]["namespace"] for pod in holders}, preloads)
            self._remove_files(noted)

    def _need_namespace(self, rows: Sequence[NodeRow]) -> None:
        namespace = self._host.namespace
        if rows and not self._cluster.find("Namespace", "", namespace):
            self._cluster.apply(host_namespace(namespace))

    def _noted(self, row: NodeRow, begun: Object | None) -> bool:
        """Note in the cluster that a node has files, for whoever goes on with this when its label is gone.

        The note is the Job that will remove them, paused; say whether the cluster took it.
        """
        if begun and not has_ended(begun):
            return True
        job = removal_job(self._host, row.name)
        try:
            if begun:
                self._cluster.delete("Job", self._host.namespace, job["metadata"]["name"])
            self._cluster.apply(job | {"spec": job["spec"] | {"suspend": True}})
        except (Denied, Invalid) as error:
            row.state, row.why, row.hint = "Failed", error.why, error.hint
        return row.state != "Failed"

    def _take(self, nodes: Mapping[str, Object], namespaces: Iterable[str], jobs: Iterable[Object]) -> None:
        """Take what says that nodes have the model, what keeps it there, and what would bring it again."""
        for row in self.report.nodes:
            if row.state not in ("InUse", "Failed"):
                self._labels.remove(row.name, *self._labels.of(nodes[row.name]))
        for namespace in sorted(namespaces):
            self._cluster.delete("DaemonSet", namespace, holder_name(self._digest))
        for job in jobs:
            self._cluster.delete("Job", job["metadata"]["namespace"], job["metadata"]["name"])
        for row in self.report.nodes:
            if row.state == "Labelled":
                row.state = "Unloaded"
                self._watcher.changed(self.report, row)

    def _planned(self, name: str, node: Object, user: str, *, begun: bool) -> NodeRow:
        found = self._labels.of(node)
        on_disk = begun or self._labels.disk in found or self._options.mode == "host"
        if on_disk and user:
            hint = "stop what uses it first: its next start would find no files"
            return NodeRow(name=name, state="InUse", why=f"pod {user} uses it", hint=hint)
        return NodeRow(name=name, state="OnDisk" if on_disk else "Labelled" if found else "Unloaded")

    def _refuse_to_hold_less(self, holders: Sequence[Object], names: set[str]) -> None:
        held = {pod["spec"]["nodeName"] for pod in holders if pod["spec"].get("nodeName")}
        if held - names:
            raise Conflict(
                f"holder {holder_name(self._digest)}",
                why=f"it holds the model on {', '.join(sorted(held - names)[:5])} too, which the selector leaves out",
                hint="unload with the selector of the preload, then preload --hold with the one that you want",
            )

    def _remove_files(self, rows: Sequence[NodeRow]) -> None:
        if not rows:
            return
        namespace = self._host.namespace
        with self._cluster.following(namespace, selector_of(self._digest, "remove")) as followed:
            jobs = NodeJobs(self._cluster, self._host, followed, removal_job, self._options.selector)
            jobs.run(rows, self._limits, lambda row: self._watcher.changed(self.report, row), lambda _row, _found: None)
        self._cluster.delete("ConfigMap", namespace, ca_config(self._host)["metadata"]["name"])


def _is_of(pod: Object, digest: Digest) -> bool:
    return bool((pod["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION) == digest)


def _users(pods: Sequence[Object]) -> dict[str, str]:
    """Return a pod that uses the model, by node: one that is neither ours nor over."""
    return {
        pod["spec"].get("nodeName", ""): f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if component_of(pod) not in ("preload", "hold", "remove")
        and pod.get("status", {}).get("phase") in ("Pending", "Running")
    }
