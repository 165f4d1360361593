"""Make the labels of nodes match what is measured: by holders, by Jobs that ended unseen, else by Jobs that look now.

To look is to warm: nobody but a file's owner can ask what of it is in memory without bringing it there.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelctl.cluster.fit import judge
from modelctl.cluster.following import Followed
from modelctl.cluster.labels import Object, component_of, node_of
from modelctl.cluster.outcome import Outcome, outcome
from modelctl.cluster.preloading import Preload, preload_job, selector_of
from modelctl.core.reference import Reference
from modelctl.flows.clusters import ClusterReport, NodesReport, PreloadOptions, Site, Watcher, in_clusters, need_image
from modelctl.flows.node_jobs import TICK_S, NodeJobs, NodeRow
from modelctl.flows.node_labels import NodeLabels, is_ending


def fix(reference: Reference, options: PreloadOptions, watcher: Watcher) -> NodesReport:
    """Fix the labels of nodes in clusters; see `in_clusters` for what is refused.

    Args:
        reference: The artifact, in a registry.
        options: As of the preload; there is no selector, the nodes are those that are labelled or were preloaded.
        watcher: Told of each node that was looked at.
    """
    return in_clusters(reference, options, lambda site: _Fix(site, watcher))


class _Fix:
    """The labels of one cluster's nodes."""

    def __init__(self, site: Site, watcher: Watcher) -> None:
        self._cluster, self._limits, self._watcher = site.cluster, site.limits, watcher
        self._labels = NodeLabels(self._cluster, site.artifact)
        self._modes = (site.in_mode("host"), site.in_mode("image"))
        self.report = ClusterReport(context=self._cluster.context)

    def do(self) -> None:
        """Look at each node that is labelled or has pods of ours."""
        nodes = {str(node["metadata"]["name"]): node for node in self._cluster.nodes()}
        for preload in self._modes:
            selector = selector_of(preload.digest, "preload", "hold")
            with self._cluster.following(preload.namespace, selector) as followed:
                self.report.nodes += self._believed(preload, followed.next(TICK_S), nodes)
                seen = {row.name for row in self.report.nodes}
                rows = [
                    self._judged(preload, node)
                    for name, node in nodes.items()
                    if name not in seen and self._is_of(preload, node)
                ]
                self.report.nodes += rows
                self._measure(preload, followed, [row for row in rows if row.state == "Fit"])

    def _is_of(self, preload: Preload, node: Object) -> bool:
        """Say whether a node is labelled as a mode labels it: only host mode knows of disks."""
        found = self._labels.of(node)
        return self._labels.disk in found if preload.mode == "host" else found == {self._labels.warm}

    def _believed(self, preload: Preload, pods: Sequence[Object], nodes: dict[str, Object]) -> list[NodeRow]:
        """Believe holders, and Jobs that ended well without anybody having looked."""
        rows: list[NodeRow] = []
        for pod in sorted(pods, key=_is_holder, reverse=True):
            name = node_of(pod)
            found = outcome(pod, (), preload)
            is_holder = _is_holder(pod)
            if not (is_holder or found.warm) or is_ending(pod) or name in {row.name for row in rows}:
                continue
            if name not in nodes or judge(nodes[name], preload, None).state == "NotReady":
                continue
            state = ("Held" if is_holder else "Warm") if found.warm else "NotWarm"
            row = NodeRow(name=name, state=state, why=found.why, hint=found.hint)
            row.size, row.resident = found.size, found.resident
            self._labels.set(name, disk=found.disk, warm=found.warm)
            if not found.warm:
                self._labels.remove(name, *(self._labels.of(nodes[name]) & {self._labels.warm}))
            if not is_holder:
                job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
                self._cluster.delete("Job", preload.namespace, job)
            self._watcher.changed(self.report, row)
            rows.append(row)
        return rows

    def _judged(self, preload: Preload, node: Object) -> NodeRow:
        """Return the row of a labelled node; one that is not ready has lost its memory, as far as is known."""
        fit = judge(node, preload, None)
        row = NodeRow(name=str(node["metadata"]["name"]), state=fit.state, why=fit.why, hint=fit.hint)
        if fit.state == "NotReady":
            self._labels.remove(row.name, *(self._labels.of(node) & {self._labels.warm}))
        self._watcher.changed(self.report, row)
        return row

    def _measure(self, preload: Preload, followed: Followed, rows: Sequence[NodeRow]) -> None:
        if not rows:
            return
        need_image(preload, self._cluster.context)

        def proved(row: NodeRow, found: Outcome) -> None:
            self._labels.set(row.name, disk=found.disk, warm=found.warm)

        jobs = NodeJobs(self._cluster, preload, followed, preload_job)
        jobs.run(rows, self._limits, lambda row: self._watcher.changed(self.report, row), proved)
        for row in rows:
            if row.state == "Failed" and row.resident:
                self._labels.remove(row.name, self._labels.warm)
                row.state = "NotWarm"
                self._watcher.changed(self.report, row)


def _is_holder(pod: Object) -> bool:
    return component_of(pod) == "hold"
