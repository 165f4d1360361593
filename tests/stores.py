"""Models in stores on disk: packed, pulled, and changed by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec

from modelctl.core.media_types import OCI_MANIFEST, REF_NAME
from modelctl.core.progress import Progress
from modelctl.core.reference import Reference, parse_reference
from modelctl.core.types import Descriptor, Digest, FileRow, canonical_json, digest_of
from modelctl.flows.pack import PackOptions, PackReport, pack
from modelctl.flows.pull import PullOptions, PullReport, pull
from modelctl.flows.verify import Depth, VerifyReport, verify_artifact
from modelctl.node.folder import UNFINISHED
from modelctl.packing.table import Table, parse_table, render_table
from modelctl.registry.ocidir import OciDir


def reference(store: Path, tag: str = "v1") -> Reference:
    return parse_reference(f"oci:{store}:{tag}")


def whole(store: Path) -> Reference:
    """Return the reference that names the store itself."""
    return parse_reference(f"oci:{store}")


def pack_model(model: Path | str, store: Path, tag: str = "v1", **options: Any) -> PackReport:
    return pack(str(model), reference(store, tag), PackOptions(**options), Progress())


def pull_model(store: Path, target: Path, tag: str = "v1", **options: Any) -> PullReport:
    return pull(reference(store, tag), str(target), PullOptions(**options), Progress())


def problems(store: Path, tag: str = "v1", depth: Depth = "full") -> dict[str, list[str]]:
    """Verify an artifact; return {path: problems} of the files that are not right."""
    report: VerifyReport = verify_artifact(reference(store, tag), depth, jobs=2, progress=Progress())
    return {file.path: file.problems for file in report.bad}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder and its bytes, but for what a pull left unfinished."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and UNFINISHED not in path.parts
    }


def names_in(folder: Path) -> set[str]:
    """Return every file, folder and link below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def blob_path(store: Path, digest: str) -> Path:
    return store / "blobs" / digest.replace(":", "/")


def blobs_of(store: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (store / "blobs" / "sha256").iterdir()}


def tags_of(store: Path) -> dict[str, str]:
    """Return every tag and its digest, read from index.json by hand."""
    index = store / "index.json"
    items = json.loads(index.read_bytes())["manifests"] if index.exists() else []
    tags = {(item.get("annotations") or {}).get(REF_NAME): item["digest"] for item in items}
    return {tag: digest for tag, digest in tags.items() if tag}


def manifest_of(store: Path, tag: str = "v1") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(blob_path(store, tags_of(store)[tag]).read_bytes())
    return document


def attached_to(store: Path, digest: str) -> list[dict[str, Any]]:
    """Return the manifests in the index that name a subject, read by hand."""
    listed = json.loads((store / "index.json").read_bytes())["manifests"]
    manifests = [json.loads(blob_path(store, item["digest"]).read_bytes()) for item in listed]
    return [manifest for manifest in manifests if manifest.get("subject", {}).get("digest") == digest]


def pushed_of(store: Path, tag: str = "v1") -> set[str]:
    """Return the digests of the blobs that a push of a tag copies: those of the artifact, and of what is attached."""
    manifests = [manifest_of(store, tag), *attached_to(store, tags_of(store)[tag])]
    return {item["digest"] for manifest in manifests for item in (*manifest["layers"], manifest["config"])}


def layer_of(store: Path, path: str, tag: str = "v1") -> str:
    """Return the digest of the layer that holds the one file `path`."""
    layers = manifest_of(store, tag)["layers"]
    (digest,) = [layer["digest"] for layer in layers if layer["annotations"].get("org.cncf.model.filepath") == path]
    return str(digest)


def put(store: Path, data: bytes) -> Digest:
    digest = digest_of(data)
    blob_path(store, digest).write_bytes(data)
    return digest


def put_manifest(store: Path, manifest: dict[str, Any], tag: str) -> Digest:
    """Write a manifest and tag it."""
    data = canonical_json(manifest)
    digest = put(store, data)
    OciDir(store).tag(Descriptor(media_type=OCI_MANIFEST, digest=digest, size=len(data)), tag)
    return digest


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file, from the front or, negative, from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def gzipped(store: Path) -> list[str]:
    """Tag, as `gz`, a copy of `v1` whose layers are compressed, as skopeo writes it; return the layers' digests."""
    manifest = manifest_of(store)
    for layer in manifest["layers"]:
        data = gzip.compress(blob_path(store, layer["digest"]).read_bytes(), mtime=0)
        layer |= {"mediaType": layer["mediaType"] + "+gzip", "digest": put(store, data), "size": len(data)}
    put_manifest(store, manifest, "gz")
    return [layer["digest"] for layer in manifest["layers"]]


def rows_of(store: Path, tag: str = "v1") -> tuple[FileRow, ...]:
    """Return the rows of an artifact's table."""
    return parse_table(blob_path(store, manifest_of(store, tag)["layers"][-1]["digest"]).read_bytes()).rows


def with_rows(store: Path, path: str, /, **changes: Any) -> None:
    """Tag, as `lie`, a copy of `v1` whose table says something else of `path`; every digest is right."""
    manifest = manifest_of(store)
    config = json.loads(blob_path(store, manifest["config"]["digest"]).read_bytes())
    rows = [msgspec.structs.replace(row, **changes) if row.path == path else row for row in rows_of(store)]
    data = render_table(Table(tuple(rows)))
    manifest["layers"][-1] |= {"digest": put(store, data), "size": len(data)}
    config["rootfs"]["diff_ids"][-1] = manifest["layers"][-1]["digest"]
    raw = canonical_json(config)
    manifest["config"] |= {"digest": put(store, raw), "size": len(raw)}
    put_manifest(store, manifest, "lie")
