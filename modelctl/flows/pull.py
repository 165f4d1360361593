"""Pull an artifact into a folder: prove what is there, then restore what is missing, layers side by side."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import closing
from dataclasses import dataclass

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import NotFound
from modelctl.core.paths import selected
from modelctl.core.progress import Progress
from modelctl.core.protocols import Blob
from modelctl.core.reference import Reference
from modelctl.core.types import FileRow
from modelctl.flows.stores import open_artifact
from modelctl.flows.workers import Workers
from modelctl.node.folder import Folder, open_folder
from modelctl.packing.artifact import Artifact, Layer


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """What the user may choose; the names are those of the flags."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    overwrite: bool = False
    jobs: int = 4
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
    store, artifact = open_artifact(reference, options.access)
    rows = {row.path: row for row in _wanted(artifact, options)}
    workers = Workers(options.jobs, progress)
    with open_folder(target, artifact.root.digest, overwrite=options.overwrite) as folder:
        present = folder.present({row.path: row for row in artifact.table.rows})
        workers.expect(len(rows), sum(row.size for row in rows.values()))
        done = _prove(folder, [row for row in present if row.path in rows], workers)
        missing = {path for path in rows if path not in done}
        folder.check_room([rows[path] for path in missing])

        def pull_layer(layer: Layer) -> None:
            with closing(layer.open(store)) as blob:
                _pull_layer(folder, layer, blob, missing, workers)

        workers.run(pull_layer, [layer for layer in artifact.layers if any(row.path in missing for row in layer.rows)])
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


def _pull_layer(folder: Folder, layer: Layer, blob: Blob, missing: Set[str], workers: Workers) -> None:
    rows = iter(layer.rows)
    for piece in layer.pieces():
        layer.check_head(blob, piece)
        row = next(rows, None)
        if row and row.path in missing:
            with workers.part(row.path, row.size) as advance:
                folder.restore(row, blob, advance)
