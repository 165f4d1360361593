"""cgroups of the nodes, where the machine has them: one of version 2, or a folder in each hierarchy of version 1."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def make_groups(name: str) -> None:
    """Make the group `name`, a path below the root, with every controller."""
    if not _version_2():
        for hierarchy in ROOT.glob("*/"):
            (hierarchy / name).mkdir(parents=True, exist_ok=True)
        return
    (ROOT / name).mkdir(parents=True, exist_ok=True)
    for parent in reversed((ROOT / name).relative_to(ROOT).parents):
        _enable_controllers(ROOT / parent)


def remove_groups(name: str) -> None:
    """Remove the group `name` and those below it, in which nothing runs any more."""
    for group in (ROOT / name,) if _version_2() else ROOT.glob(f"*/{name}"):
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)


def _version_2() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _enable_controllers(group: Path) -> None:
    control = group / "cgroup.subtree_control"
    missing = set((group / "cgroup.controllers").read_text().split()) - set(control.read_text().split())
    if not missing:
        return
    try:
        control.write_text(" ".join(f"+{name}" for name in sorted(missing)))
    except OSError as error:
        why = f"{error.strerror} (a container's own root group gives none while processes are in it)"
        raise OSError(f"{control}: {why}") from error
