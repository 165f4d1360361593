"""The flows that are swept: where each starts, what must hold after any fault, and what when it is done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from modelctl.core.access import DEFAULT
from modelctl.core.chunks import CHUNK
from modelctl.core.errors import ModelctlError
from modelctl.core.progress import Progress
from modelctl.core.types import Digest
from modelctl.flows.node import node_models, node_pull, node_remove
from modelctl.flows.tags import add_tag, prune, remove
from modelctl.node.folder import UNFINISHED
from modelctl.registry.ocidir import OciDir
from tests.models import shard, write_model
from tests.stores import blob_path, files_of, pack_model, problems, pull_model, reference, tags_of, whole

UntilKilled = Callable[[Callable[[], None], Path, int], bool]
"""Runs a function with a kill at its n-th operation under a folder; says whether it came to that."""


class Operation:
    """A flow on a copy of a starting folder, in which `store` is the store and `target` the pulled folder.

    Two versions of one model stand beside it: `old` and `new`.
    """

    tags = ("v1",)

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.old, self.new = scratch / "old", scratch / "new"
        write_model(self.old, shards=2, size=50_000, seed=1)
        write_model(self.new, shards=2, size=50_000, seed=2)

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        """Fill the starting folder."""

    def run(self, folder: Path) -> None:
        raise NotImplementedError

    def watched(self, folder: Path, *, reads: bool) -> Path:
        """Return the folder whose files' operations are counted."""
        return folder

    def wrong(self, folder: Path) -> list[str]:
        """Say what must never be, however the flow ended."""
        return [*misnamed_blobs(folder / "store"), *broken_tags(folder / "store")]

    def undone(self, folder: Path) -> list[str]:
        """Say what keeps the flow from being done."""
        tags = tags_of(folder / "store")
        missing = [f"there is no tag {tag}" for tag in self.tags if tag not in tags]
        return [*self.wrong(folder), *missing, *unfinished(folder)]


class PackFresh(Operation):
    def watched(self, folder: Path, *, reads: bool) -> Path:
        return self.new if reads else folder

    def run(self, folder: Path) -> None:
        pack_into(folder, self.new)


class PackTwins(PackFresh):
    tags = ("v1", "v1-modelpack")

    def run(self, folder: Path) -> None:
        pack_into(folder, self.new, layouts=("image", "modelpack"))


class PackOver(PackFresh):
    """The tag names the old version before, and the old or the new one at any time."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.new)
        pack_into(start, self.old)

    def wrong(self, folder: Path) -> list[str]:
        lost = [] if "v1" in tags_of(folder / "store") else ["the tag v1 is lost"]
        return [*super().wrong(folder), *lost]


class PullFresh(Operation):
    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.new)

    def watched(self, folder: Path, *, reads: bool) -> Path:
        return folder / "store" if reads else folder

    def run(self, folder: Path) -> None:
        pull_model(folder / "store", folder / "target", jobs=1)

    def wrong(self, folder: Path) -> list[str]:
        present = files_of(folder / "target")
        known = [files_of(self.new), files_of(self.old)] if self.old_is_there(folder) else [files_of(self.new)]
        return [
            f"{path} has other bytes than the model's"
            for path, data in present.items()
            if data not in [files.get(path) for files in known]
        ]

    def old_is_there(self, folder: Path) -> bool:
        return False

    def undone(self, folder: Path) -> list[str]:
        whole = files_of(folder / "target") == files_of(self.new)
        return [*([] if whole else ["the target is not the model"]), *unfinished(folder)]


class PullResume(PullFresh):
    """A killed pull has left more than the first chunk of a large file."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        weights = b"\x01\x02\x03\x04" * ((CHUNK + 70_000) // 4)
        (self.new / "large.safetensors").write_bytes(shard({"large": weights}))
        super().prepare(start, until_killed)
        number = 1
        while not any(part.stat().st_size > CHUNK for part in parts_of(start)):
            shutil.rmtree(start / "target", ignore_errors=True)
            if not until_killed(lambda: self.run(start), start, number):
                raise RuntimeError("no kill left more than a chunk")
            number += 1


class PullOver(PullFresh):
    """The target holds the old version, which is replaced."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.old)
        pull_model(start / "store", start / "target", jobs=1)
        pack_into(start, self.new)

    def old_is_there(self, folder: Path) -> bool:
        return True

    def run(self, folder: Path) -> None:
        pull_model(folder / "store", folder / "target", jobs=1, overwrite=True)


class NodePull(Operation):
    """The node has the old version, of which the new one shares the small files; the node's root is `target`."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.old)
        keep(start)
        pack_into(start, self.new)

    def watched(self, folder: Path, *, reads: bool) -> Path:
        return folder / "store" if reads else folder / "target"

    def run(self, folder: Path) -> None:
        keep(folder)

    def wrong(self, folder: Path) -> list[str]:
        known = [files_of(self.old), files_of(self.new)]
        found = [Path(one.folder) for one in node_models(str(folder / "target"))]
        return [f"{path.name} is no model" for path in found if files_of(path) not in known]

    def undone(self, folder: Path) -> list[str]:
        models = node_models(str(folder / "target"))
        return [*self.wrong(folder), *([] if len(models) == 2 else ["not both are there"]), *strays(folder)]


class NodeRemove(NodePull):
    """The node has both, and the old one goes."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        super().prepare(start, until_killed)
        keep(start)

    def watched(self, folder: Path, *, reads: bool) -> Path:
        return folder / "target"

    def run(self, folder: Path) -> None:
        current = Digest(tags_of(folder / "store")["v1"])
        for model in node_models(str(folder / "target")):
            if model.digest != current:
                node_remove(str(folder / "target"), Digest(model.digest))
        keep(folder)

    def undone(self, folder: Path) -> list[str]:
        models = node_models(str(folder / "target"))
        return [*self.wrong(folder), *([] if len(models) == 1 else ["the old one is there"]), *strays(folder)]


def keep(folder: Path) -> None:
    node_pull(reference(folder / "store"), str(folder / "target"), 1, DEFAULT, Progress())


def strays(folder: Path) -> list[str]:
    """Return what is in the node's root and belongs to no model."""
    root = folder / "target"
    contents = [path for path in (root / "files").iterdir() if path.stat().st_nlink == 1]
    return [f"{path.relative_to(root)} is left" for path in (*contents, *(root / "partial").iterdir())]


class Prune(Operation):
    """The store holds blobs of the old version that no tag names."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.old)
        pack_into(start, self.new)

    def run(self, folder: Path) -> None:
        prune(whole(folder / "store"), dry_run=False)

    def undone(self, folder: Path) -> list[str]:
        left = OciDir(folder / "store").prune(dry_run=True)
        return [*super().undone(folder), *(f"blob {blob.digest} is still there" for blob in left)]


class Retag(Operation):
    """The tag v2 is added, and v1 is removed. What a kill leaves unfinished is the next writer's to sweep up."""

    def prepare(self, start: Path, until_killed: UntilKilled) -> None:
        pack_into(start, self.new)

    def run(self, folder: Path) -> None:
        tags = OciDir(folder / "store").tags()
        if "v2" not in tags:
            add_tag(reference(folder / "store"), "v2")
        if "v1" in tags:
            remove(reference(folder / "store"))

    def undone(self, folder: Path) -> list[str]:
        right = set(tags_of(folder / "store")) == {"v2"}
        return [*self.wrong(folder), *([] if right else ["v2 is not the only tag"])]


OPERATIONS: dict[str, type[Operation]] = {
    "pack-fresh": PackFresh,
    "pack-twins": PackTwins,
    "pack-over": PackOver,
    "pull-fresh": PullFresh,
    "pull-resume": PullResume,
    "pull-over": PullOver,
    "prune": Prune,
    "retag": Retag,
    "node-pull": NodePull,
    "node-remove": NodeRemove,
}


def pack_into(folder: Path, model: Path, layouts: tuple[str, ...] = ("image",)) -> None:
    pack_model(model, folder / "store", layouts=layouts, jobs=1)


def parts_of(folder: Path) -> list[Path]:
    return [path for path in (folder / "target" / UNFINISHED).rglob("*") if path.is_file()]


def unfinished(folder: Path) -> list[str]:
    left = [*(folder / "store").glob(".modelctl/unfinished*"), *(folder / "target").glob(UNFINISHED)]
    return [f"{path.relative_to(folder)} is left" for path in left]


def misnamed_blobs(store: Path) -> list[str]:
    blobs = store / "blobs" / "sha256"
    return [
        f"blob {path.name} has other bytes"
        for path in (blobs.iterdir() if blobs.exists() else ())
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name
    ]


def broken_tags(store: Path) -> list[str]:
    return [f"tag {tag}: {fault}" for tag, digest in tags_of(store).items() for fault in _faults_of(store, tag, digest)]


def _faults_of(store: Path, tag: str, digest: str) -> Iterator[str]:
    try:
        manifest = json.loads(blob_path(store, digest).read_bytes())
        named = [item["digest"] for item in [manifest["config"], *manifest["layers"]]]
        yield from (f"{name} is missing" for name in named if not blob_path(store, name).exists())
        yield from (f"{path}: {found}" for path, found in problems(store, tag).items())
    except (FileNotFoundError, ModelctlError) as error:
        yield str(error)
