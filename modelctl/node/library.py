"""The models that a node keeps: a folder for each manifest, whose files are links to one copy of each content.

    ROOT/models/<manifest digest>/...    a model as it was packed
    ROOT/files/<content>                 each content once, however many models have it
    ROOT/lock                            held by the one who writes

A content is named by what proves it: the SHA-256 of its size and of the blake3 of its chunks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelctl.core.disk import locked, on_disk
from modelctl.core.errors import NotFound
from modelctl.core.types import Digest, FileRow, parse_digest


class Library:
    """The models below `root`, made when it is not there. Whoever changes it does so inside `writing`."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._files, self._models = self.root / "files", self.root / "models"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who writes; waits for another to end."""
        with on_disk(str(self.root)):
            self._files.mkdir(parents=True, exist_ok=True)
            self._models.mkdir(exist_ok=True)
        with locked(self.root / "lock", fcntl.LOCK_EX):
            yield

    def folder(self, manifest: Digest) -> Path:
        """Return where a model is, or goes."""
        return self._models / manifest.removeprefix("sha256:")

    def link(self, manifest: Digest, rows: Sequence[FileRow]) -> int:
        """Give a model's folder those of its files that another model has; return how much that was [bytes].

        Their bytes are still to be proved.
        """
        linked = 0
        for row in rows:
            path, content = self.folder(manifest) / row.path, self._files / content_name(row)
            with on_disk(str(path)):
                if content.exists() and not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.link(content, path)
                    linked += row.size
        return linked

    def keep(self, manifest: Digest, rows: Sequence[FileRow]) -> None:
        """Make what a model's folder has, and is proved, the one copy of its content."""
        for row in rows:
            path, content = self.folder(manifest) / row.path, self._files / content_name(row)
            with on_disk(str(content)):
                if content.exists() and not content.samefile(path):
                    content.unlink()
                if not content.exists():
                    os.link(path, content)

    def models(self) -> list[Digest]:
        """Return the manifests whose models are here, sorted; none when the root is not there."""
        with on_disk(str(self._models)):
            names = sorted(os.listdir(self._models)) if self._models.exists() else []
        return [parse_digest(f"sha256:{name}") for name in names]

    def size(self, manifest: Digest) -> tuple[int, int]:
        """Return how many files a model has here, and their size [bytes]."""
        with on_disk(str(self.folder(manifest))):
            sizes = [path.stat().st_size for path in self.folder(manifest).rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    def remove(self, manifest: Digest) -> int:
        """Forget a model, and what no other model has; return how much is free now [bytes].

        Raises:
            NotFound: It is not here.
        """
        folder = self.folder(manifest)
        if not folder.exists():
            raise NotFound(str(folder), why="no such model is here", hint="modelctl node ls lists those that are")
        freed = 0
        with on_disk(str(self.root)):
            shutil.rmtree(folder)
            for content in self._files.iterdir():
                status = content.stat()
                if status.st_nlink == 1:
                    content.unlink()
                    freed += status.st_size
        return freed


def content_name(row: FileRow) -> str:
    """Return the name of a file's content: equal files have equal names, whatever their paths."""
    return hashlib.sha256(row.size.to_bytes(8, "big") + row.chunks).hexdigest()
