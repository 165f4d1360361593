"""Which names a model's files may have. One rule for what is packed, read and restored."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase

from modelctl.core.errors import Invalid

RESERVED = ".modelctl"
"""Names whose first component starts so are modelctl's own: the table, and unfinished pulls."""

NODE_ROOT = "/var/lib/modelctl"
"""Where a node keeps models; those of a manifest are in `models/<64 hex digits>`."""

_LONGEST_NAME = 255
_LONGEST_PATH = 4096


def check_path(path: str) -> None:
    """Refuse a path that could not be packed, restored and mounted as the same file everywhere.

    Raises:
        Invalid: It is empty, absolute, not normal, not UTF-8, too long, holds control characters, is reserved, or
            has a component `.wh.*`, which a container runtime takes for a deletion (OCI image-spec layer.md).
    """
    why = _fault(path)
    if why:
        raise Invalid(f"file name {path[:200]!r}", why=why, hint="rename it, or leave it out with --exclude")


def _fault(path: str) -> str:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    parts = path.split("/")
    faults = {
        "it is absolute": path.startswith("/"),
        "it has an empty, '.' or '..' component": any(part in ("", ".", "..") for part in parts),
        "it holds a control character": any(unicodedata.category(char) == "Cc" for char in path),
        "it holds a backslash": "\\" in path,
        f"it is longer than {_LONGEST_PATH} bytes": len(encoded) > _LONGEST_PATH,
        f"a component is longer than {_LONGEST_NAME} bytes": any(len(part.encode()) > _LONGEST_NAME for part in parts),
        "a runtime takes a name that starts with .wh. for a deletion": any(part.startswith(".wh.") for part in parts),
        f"names that start with {RESERVED} are modelctl's own": parts[0].casefold().startswith(RESERVED),
    }
    return next((why for why, found in faults.items() if found), "")


def check_paths(paths: Iterable[str]) -> None:
    """Check each path, and that no two would be one file on some file system, nor one a folder of the other.

    Raises:
        Invalid: Names both paths. Compared by Unicode form (NFC) and case.
    """
    seen: dict[str, str] = {}
    for path in sorted(paths):
        check_path(path)
        key = _folded(path)
        if key in seen:
            raise Invalid(
                f"file names {seen[key]!r} and {path!r}",
                why="they differ at most by case or Unicode form: one file on some file systems",
                hint="rename one, or leave it out with --exclude",
            )
        seen[key] = path
    for key, path in seen.items():
        parent = key
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in seen:
                raise Invalid(f"file names {seen[parent]!r} and {path!r}", why="one is a folder of the other")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def matches(path: str, globs: Iterable[str]) -> bool:
    """Say whether any glob matches. `*` also matches `/`; case counts."""
    return any(fnmatchcase(path, glob) for glob in globs)


def selected(path: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Say whether `path` is wanted: it matches some `include` (or there is none), and no `exclude`."""
    wanted = list(include)
    return (not wanted or matches(path, wanted)) and not matches(path, exclude)
