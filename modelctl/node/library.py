"""The models that a node keeps: a folder for each manifest, whose files are links to one copy of each content.

    ROOT/models/<manifest digest>/...    a model as it was packed, every file proved
    ROOT/partial/<manifest digest>/...   one that is being pulled
    ROOT/files/<content>                 each content once, however many models have it
    ROOT/lock                            held by the one who writes

A content is named by what proves it: the SHA-256 of its size and of the blake3 of its chunks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelctl.core.disk import locked, on_disk, sync_folder
from modelctl.core.types import Digest, FileRow, is_digest

_LINK, _LEAVING = "link-", "removed-"


class Library:
    """The models below `root`. Whoever changes it does so inside `writing`."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._files, self._models, self._partial = self.root / "files", self.root / "models", self.root / "partial"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who writes, into a root that is made when it is not there; waits for another to end.

        What it makes can be read by everybody, whatever the umask: pods run as users of their own.
        """
        umask = os.umask(0o022)
        try:
            with on_disk(str(self.root)):
                for folder in (self._files, self._models, self._partial):
                    folder.mkdir(parents=True, exist_ok=True)
            with locked(self.root / "lock", fcntl.LOCK_EX):
                self._sweep()
                yield
        finally:
            os.umask(umask)

    def _sweep(self) -> int:
        """Remove what a killed run had not given its name yet, or had begun to remove, and every content of no model.

        Returns:
            How much is free now [bytes].
        """
        freed = 0
        with on_disk(str(self.root)):
            for left in self._partial.glob(f"{_LINK}*"):
                left.unlink()
            for left in self._partial.glob(f"{_LEAVING}*"):
                freed += _remove_tree(left)
            for content in self._files.iterdir():
                status = content.stat()
                if status.st_nlink == 1:
                    content.unlink()
                    freed += status.st_size
        return freed

    def _link(self, there: Path, path: Path) -> None:
        """Make `path` another name of `there`, atomically; what was at `path` loses that name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._partial / f"{_LINK}{secrets.token_hex(4)}"
        os.link(there, fresh)
        os.replace(fresh, path)

    def folder(self, manifest: Digest) -> Path:
        """Return where a model is when all of it is there."""
        return self._models / manifest.removeprefix("sha256:")

    def filling(self, manifest: Digest) -> Path:
        """Return where a model is pulled into: its own folder, to be mended, or one that gets that name at the end."""
        folder = self.folder(manifest)
        return folder if folder.exists() else self._partial / folder.name

    def link(self, manifest: Digest, rows: Sequence[FileRow]) -> int:
        """Give the folder that is filled the files that another model has; return how much that was [bytes].

        Their bytes are still to be proved.
        """
        linked = 0
        for row in rows:
            path, content = self.filling(manifest) / row.path, self._files / content_name(row)
            with on_disk(str(path)):
                if content.exists() and not (path.exists() and path.samefile(content)):
                    linked += row.size if not path.exists() else 0
                    self._link(content, path)
        return linked

    def keep(self, manifest: Digest, rows: Sequence[FileRow]) -> None:
        """Take over the folder that was filled, each file proved: it gets its name, and shares its contents."""
        filling = self.filling(manifest)
        kept: set[str] = set()
        for row in rows:
            path, content = filling / row.path, self._files / content_name(row)
            with on_disk(str(content)):
                if not (content.exists() and content.samefile(path)):
                    proved, other = (content, path) if content.name in kept else (path, content)
                    self._link(proved, other)
            kept.add(content.name)
        with on_disk(str(self.folder(manifest))):
            if filling != self.folder(manifest):
                os.rename(filling, self.folder(manifest))
                sync_folder(self._models)

    def models(self) -> list[Digest]:
        """Return the manifests whose models are here, sorted; none when the root is not there."""
        with on_disk(str(self._models)):
            names = sorted(os.listdir(self._models)) if self._models.exists() else []
        return [Digest(f"sha256:{name}") for name in names if is_digest(f"sha256:{name}")]

    def size(self, manifest: Digest) -> tuple[int, int]:
        """Return how many files a model has here, and their size [bytes]."""
        with on_disk(str(self.folder(manifest))):
            sizes = [path.stat().st_size for path in self.folder(manifest).rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    def has(self, manifest: Digest) -> bool:
        """Say whether anything of a model is here."""
        with on_disk(str(self.root)):
            return self.filling(manifest).exists()

    def remove(self, manifest: Digest) -> int:
        """Forget a model, whole or begun, and every content that no model has; return how much is free now [bytes]."""
        freed = 0
        leaving = self._partial / f"{_LEAVING}{self.folder(manifest).name}"
        while self.has(manifest):
            with on_disk(str(leaving)):
                os.rename(self.filling(manifest), leaving)
            freed += self._sweep()
        return freed


def _remove_tree(folder: Path) -> int:
    """Remove a folder; return the size of the files that had no other name [bytes]."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    shutil.rmtree(folder)
    return sum(status.st_size for status in files if status.st_nlink == 1)


def content_name(row: FileRow) -> str:
    """Return the name of a file's content: equal files have equal names, whatever their paths."""
    return hashlib.sha256(row.size.to_bytes(8, "big") + row.chunks).hexdigest()
