"""Pull an artifact into a folder: prove what is there, then restore what is missing, layers side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import NotFound
from modelctl.core.paths import selected
from modelctl.core.progress import Progress
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference
from modelctl.core.types import FileRow
from modelctl.flows.stores import open_artifact
from modelctl.flows.workers import Workers
from modelctl.node.folder import Folder, open_folder
from modelctl.node.part import SEGMENT, Part, Segment, segments
from modelctl.packing.artifact import Artifact, Layer


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """What the user may choose; the names are those of the flags."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    overwrite: bool = False
    jobs: int | None = None
    access: Access = DEFAULT


class PullReport(msgspec.Struct, kw_only=True):
    """What was pulled. `present` files were there already and are proved; sizes in bytes."""

    reference: str
    digest: str
    target: str
    files: int
    size: int
    present: int


def pull(reference: Reference, target: str, options: PullOptions, progress: Progress) -> PullReport:
    """Restore the files of `reference` in the folder `target`.

    Raises:
        Conflict: The folder is held, or not empty and not an earlier pull of this artifact; nothing was written.
        ChecksumMismatch: A layer holds other bytes than the table states; the file is not in its place.
        DiskProblem, Denied: The same command goes on where this one stopped.
    """
    return restore(reference, open_artifact(reference, options.access), target, options, progress)


def restore(
    reference: Reference, opened: tuple[Store, Artifact], target: str, options: PullOptions, progress: Progress
) -> PullReport:
    """Do as `pull` with what `open_artifact` gave for `reference`."""
    store, artifact = opened
    rows = {row.path: row for row in _wanted(artifact, options)}
    workers = Workers(options.jobs, progress, remote=bool(reference.registry))
    with open_folder(target, artifact.root.digest, overwrite=options.overwrite) as folder:
        present = folder.present({row.path: row for row in artifact.table.rows})
        workers.expect(len(rows), sum(row.size for row in rows.values()))
        done = _prove(folder, [row for row in present if row.path in rows], workers)
        missing = {path for path in rows if path not in done}
        folder.check_room([rows[path] for path in missing])

        with ExitStack() as stack:
            filling = _Filling(store, folder, missing, workers, stack)
            workers.run(lambda job: job(), [job for layer in artifact.layers for job in filling.jobs(layer)])
    return PullReport(
        reference=f"{reference.store}@{artifact.root.digest}",
        digest=artifact.root.digest,
        target=target,
        files=len(rows),
        size=sum(row.size for row in rows.values()),
        present=len(done),
    )


def _wanted(artifact: Artifact, options: PullOptions) -> list[FileRow]:
    rows = [row for row in artifact.table.rows if selected(row.path, options.include, options.exclude)]
    if not rows:
        raise NotFound(
            "no file to pull",
            why=f"none of the artifact's {len(artifact.table.rows)} files matches",
            hint="modelctl inspect lists them",
        )
    return rows


def _prove(folder: Folder, rows: Sequence[FileRow], workers: Workers) -> set[str]:
    """Return the paths of those files that are present and right."""

    def prove(row: FileRow) -> bool:
        with workers.part(row.path, row.size) as advance:
            return folder.proved(row, advance)

    return {row.path for row, right in zip(rows, workers.run(prove, rows), strict=True) if right}


@dataclass(frozen=True)
class _Filling:
    """The restoring of what is missing, cut into jobs. Parts that several jobs fill are closed by `stack`."""

    store: Store
    folder: Folder
    missing: Set[str]
    workers: Workers
    stack: ExitStack

    def jobs(self, layer: Layer) -> Iterator[Callable[[], None]]:
        """Yield one job for the layer's headers and small files, and one for each segment of a large file."""
        rows = [row for row in layer.rows if row.path in self.missing]
        large = [row for row in rows if row.size > SEGMENT and not layer.gzipped]
        if rows:
            yield partial(self.fill_small, layer, {row.path for row in rows if row not in large})
        for row in large:
            part = self.stack.enter_context(closing(self.folder.part(row)))
            yield from (partial(self.fill_segment, layer, row, part, segment) for segment in segments(row.size))

    def fill_small(self, layer: Layer, paths: Set[str]) -> None:
        rows = iter(layer.rows)
        with closing(layer.open(self.store)) as blob:
            for piece in layer.pieces():
                layer.check_head(blob, piece)
                row = next(rows, None)
                if row and row.path in paths:
                    with self.workers.part(row.path, row.size) as advance:
                        self.folder.restore(row, blob, advance)

    def fill_segment(self, layer: Layer, row: FileRow, part: Part, segment: Segment) -> None:
        start, end = segment
        title = f"{row.path} from {start}"
        with closing(layer.open(self.store)) as blob, self.workers.part(title, end - start) as advance:
            part.fill(segment, blob, advance)
