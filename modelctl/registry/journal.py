"""What is kept of an upload, so that another process can go on with it: where it is, and checkpoints of its state.

A file for each upload in the user's cache folder, mode 0600 since an upload's location is as good as a key to it;
a line of JSON for each thing learnt, appended while the upload goes on. A last line that was cut short is dropped. One
process holds a journal at a time (flock); who finds it held uploads without one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import platformdirs

from modelctl.core.learned import learned
from modelctl.core.types import Checkpoint

KEPT_S = 7 * 86400
"""Journals are removed when they were not written to for so long: registries forget uploads sooner."""


class _Line(msgspec.Struct, omit_defaults=True):
    location: str = ""
    checkpoint: Checkpoint | None = None


class Journal:
    """The journal of one upload, held by this process. Not thread-safe."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd
        self._whole = True
        self.location = ""
        self.checkpoints: list[Checkpoint] = []
        self._load()

    def _load(self) -> None:
        """Read what is there, up to the first line that is not whole."""
        data = b""
        while piece := os.read(self._fd, 1 << 20):
            data += piece
        good = 0
        for line in data.splitlines(keepends=True):
            try:
                entry = msgspec.json.decode(line if line.endswith(b"\n") else b"", type=learned(_Line))
            except msgspec.DecodeError:
                break
            good += len(line)
            self.location = entry.location or self.location
            if entry.checkpoint:
                self.checkpoints.append(entry.checkpoint)
        os.ftruncate(self._fd, good)
        os.lseek(self._fd, good, os.SEEK_SET)

    def set_location(self, location: str) -> None:
        """Keep where the upload is."""
        if location != self.location:
            self.location = location
            self._append(_Line(location=location))

    def add(self, checkpoint: Checkpoint) -> None:
        self._append(_Line(checkpoint=checkpoint))

    def _append(self, line: _Line) -> None:
        """Write a line; none follows one that could not be written, lest a checkpoint be missing in the middle."""
        data = msgspec.json.encode(line) + b"\n"
        try:
            self._whole = self._whole and os.write(self._fd, data) == len(data)
        except OSError:
            self._whole = False

    def remove(self) -> None:
        """Forget the upload: it is done."""
        self._path.unlink(missing_ok=True)


@contextmanager
def open_journal(name: str) -> Iterator[Journal | None]:
    """Hold the journal of the upload called `name`; None when another process holds it, or it cannot be written.

    An upload works without a journal, so a cache folder that cannot be used is no error.
    """
    folder = Path(platformdirs.user_cache_dir("modelctl")) / "uploads"
    path = folder / hashlib.sha256(name.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_old(folder)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield _load(path, fd) if _held(fd) else None
    finally:
        os.close(fd)


def _load(path: Path, fd: int) -> Journal | None:
    try:
        return Journal(path, fd)
    except OSError:
        return None


def _held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(fd).st_nlink == 1


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()
