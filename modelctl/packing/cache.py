"""What layers hashed to, so that files which have not changed need not be read again.

A SQLite file in the user's cache folder; a layer is found by what the source says of its files' versions and by the
form they take. It detects change and proves nothing. Nothing here fails: without the cache the files are read, and
`DigestCache.problem` says why. A row that rotted is no answer, since it is stored with a hash of itself.

Safe with several processes and threads: who opens the file has `opening.lock` for that moment, and shares `users.lock`
until it is closed; a file that is of no use is removed by one who has both alone.
Source: "How To Corrupt An SQLite Database File", 2.4: a database that somebody has open must not be unlinked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from modelctl.core.chunks import CHUNK
from modelctl.core.disk import is_local, locked, on_disk
from modelctl.core.errors import Denied, ModelctlError
from modelctl.core.learned import learned
from modelctl.core.types import Digest, Entry, FileRow
from modelctl.packing import form, table
from modelctl.packing.plan import PlannedLayer

VERSION = 1
"""Of the file's schema, in `PRAGMA user_version`. A file of another one is begun anew."""

MAX_ENTRIES = 100_000
"""So many layers are remembered; those that were not used for longest go."""

MAX_SIZE = 256 << 20
"""So much is remembered of them [bytes]: layers of 50 TB."""

SETTLED_S = 2.0
"""A file must have been left alone for so long before it is hashed [s]: coarse clocks tick less often than writes."""

_BUSY_S = 5.0
_USELESS = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_LOCAL_VERSION = re.compile(r"\d+:\d+:\d+:-?\d+:(-?\d+)")

_SCHEMA = f"""
BEGIN;
CREATE TABLE layers (
    key BLOB PRIMARY KEY,
    title TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    used REAL NOT NULL,
    proof BLOB NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE places (
    digest TEXT NOT NULL,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (digest, registry)
);
PRAGMA user_version = {VERSION};
COMMIT;
"""

_FORGET = """
DELETE FROM layers WHERE key IN (
    SELECT key FROM (
        SELECT key, used, row_number() OVER newest AS number, sum(length(value)) OVER newest AS total
        FROM layers WINDOW newest AS (ORDER BY used DESC, key)
    ) WHERE used < ? OR number > ? OR total > ?
)
"""

_FORGET_PLACES = "DELETE FROM places WHERE digest NOT IN (SELECT digest FROM layers)"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer was sealed to: the digest and size [bytes] of its blob, and its files' rows in order."""

    digest: Digest
    size: int
    rows: tuple[FileRow, ...]


class CachedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the cache: the title of its plan, its blob, and when it was last found or kept [s since 1970]."""

    title: str
    digest: str
    size: int
    used_s: float


def may_keep(entry: Entry, hashed_at: float) -> bool:
    """Say whether the version of `entry` tells its next change from this state.

    A local file (see `sources.file.version_of`) may change again within one tick of the clock that its ctime was read
    from. That it `is_local` is for whoever knows where it lies.

    Args:
        entry: As it was listed, and is still after it was read.
        hashed_at: When its first byte was about to be read [s since 1970].
    """
    local = _LOCAL_VERSION.fullmatch(entry.version)
    return hashed_at - int(local[1]) / 1e9 >= SETTLED_S if local else bool(entry.version)


class DigestCache:
    """The cache while it is open. Thread-safe.

    `problem` says why it remembers or finds less than it could, and is empty when it does not.
    """

    def __init__(self) -> None:
        self.problem = ""
        self.useless = False
        self.connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._kept = False

    def find(self, layer: PlannedLayer) -> Remembered | None:
        """Return what the layer was sealed to before, when its files had the same versions."""
        key = _key(layer)
        found = self._ask("SELECT proof, value FROM layers WHERE key = ?", key) if key else []
        if not found or found[0][0] != _proof(key, found[0][1]):
            return None
        remembered = msgspec.msgpack.decode(found[0][1], type=learned(Remembered))
        if not all(map(table.has_all_chunks, remembered.rows)):
            return None
        self._tell("UPDATE layers SET used = ? WHERE key = ?", time.time(), key)
        return remembered

    def keep(self, layer: PlannedLayer, digest: Digest, size: int, rows: Sequence[FileRow]) -> None:
        """Remember a layer. The caller has asked `may_keep` of each of its entries."""
        key = _key(layer)
        if key:
            value = msgspec.msgpack.encode(Remembered(digest=digest, size=size, rows=tuple(rows)))
            row = (key, layer.title, digest, size, time.time(), _proof(key, value), value)
            self._tell("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
            self._kept = True

    def keep_place(self, digest: Digest, registry: str, repository: str) -> None:
        """Remember a repository that has the blob of a layer that was kept; one for each registry."""
        self._tell("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", digest, registry, repository)

    def place(self, digest: Digest, registry: str) -> str:
        """Return a repository of a registry that had a layer's blob, empty when none is known."""
        found = self._ask("SELECT repository FROM places WHERE digest = ? AND registry = ?", digest, registry)
        return str(found[0][0]) if found else ""

    def entries(self) -> list[CachedLayer]:
        """Return all layers, the one used last first."""
        rows = self._ask("SELECT title, digest, size, used FROM layers ORDER BY used DESC, key")
        return [CachedLayer(title=title, digest=digest, size=size, used_s=used) for title, digest, size, used in rows]

    def prune(self, older_than_s: float, max_entries: int, max_size: int = MAX_SIZE) -> int:
        """Forget layers, and give their space back.

        Args:
            older_than_s: Those that were not used for longer than this [s].
            max_entries: All but so many that were used last.
            max_size: All but so much [bytes].

        Returns:
            How many were forgotten.
        """
        count = self._tell(_FORGET, time.time() - older_than_s, max_entries, max_size)
        self._tell(_FORGET_PLACES)
        self._tell("VACUUM")
        return count

    def bound(self, max_entries: int, max_size: int) -> None:
        """Forget what is too much, when something came in."""
        if self._kept:
            self._tell(_FORGET, 0.0, max_entries, max_size)
            self._tell(_FORGET_PLACES)

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self.noting():
            if self.connection:
                return self.connection.execute(statement, values).fetchall()
        return []

    def _tell(self, statement: str, *values: object) -> int:
        """Change something, unless that failed before: a full disk stays full."""
        with self._lock, self.noting():
            if self.connection and not self.problem:
                return self.connection.execute(statement, values).rowcount
        return 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Turn an error into `problem`."""
        try:
            yield
        except ModelctlError as error:
            self.problem = f"{error.what}: {error.why}"
        except sqlite3.Error as error:
            self.problem = f"{cache_folder()}: {error}"
            self.useless = self.useless or _is_useless(error)


@contextmanager
def open_cache(*, max_entries: int = MAX_ENTRIES, max_size: int = MAX_SIZE) -> Iterator[DigestCache]:
    """Open the user's cache, made when it is not there; what comes in is bounded by `max_entries` and `max_size`."""
    folder = cache_folder()
    cache = DigestCache()
    with ExitStack() as users:
        with cache.noting():
            cache.connection = users.enter_context(_opened(folder))
        yield cache
        cache.bound(max_entries, max_size)
    if cache.useless:
        with cache.noting(), locked(folder / "opening.lock", fcntl.LOCK_EX):
            _remove(folder)


def cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("modelctl")) / "digests"


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the file in `folder`, a new one when it is of no use."""
    _own(folder)
    with ExitStack() as users:
        with locked(folder / "opening.lock", fcntl.LOCK_EX):
            users.enter_context(locked(folder / "users.lock", fcntl.LOCK_SH))
            try:
                connection = _connect(folder / "layers.sqlite")
            except sqlite3.Error as error:
                if not _is_useless(error):
                    raise
                users.close()
                _remove(folder)
                users.enter_context(locked(folder / "users.lock", fcntl.LOCK_SH))
                connection = _connect(folder / "layers.sqlite")
        users.callback(connection.close)
        yield connection


def _own(folder: Path) -> None:
    """Make the folder, for its user alone: who can write to it says what files hash to."""
    with on_disk(str(folder)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.lstat().st_uid != os.geteuid():
            raise Denied(str(folder), why="it belongs to somebody else")
        folder.chmod(0o700)


def _remove(folder: Path) -> None:
    """Remove the file, for who has `opening.lock`; `Conflict` when it is in use."""
    with locked(folder / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB, busy=str(folder)), on_disk(str(folder)):
        for path in folder.glob("layers.sqlite*"):
            path.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; what makes it useless is raised as SQLite would say it of a broken one."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        with on_disk(str(path)):
            path.chmod(0o600)
        _prepare(connection, "WAL" if is_local(path) else "DELETE")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, journal: str) -> None:
    """Make the table in an empty file, and refuse another one's. On network file systems a WAL cannot be shared."""
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("PRAGMA synchronous = NORMAL")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        connection.executescript(_SCHEMA)
    if connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
        raise _OtherVersion
    connection.execute("SELECT key, title, digest, size, used, proof, value FROM layers LIMIT 0")
    connection.execute("SELECT digest, registry, repository FROM places LIMIT 0")


class _OtherVersion(sqlite3.DatabaseError):
    """The file is of another version."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def _is_useless(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _USELESS


def _key(layer: PlannedLayer) -> bytes:
    """Name a layer by what its bytes and rows follow from; empty when its source does not say which version it has."""
    made = ["form", form.VERSION, "table", table.FORMAT, "chunks of", CHUNK, *FileRow.__struct_fields__, layer.identity]
    return hashlib.sha256("\0".join(map(str, made)).encode()).digest() if layer.identity else b""


def _proof(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()
