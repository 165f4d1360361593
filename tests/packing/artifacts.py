"""Artifacts in memory, and the same with one thing changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from modelctl.core.media_types import KIND, OCI_MANIFEST, TABLE_KIND
from modelctl.core.types import Descriptor, Digest, FileRow, canonical_json, digest_of
from modelctl.packing.layout import load_layout
from modelctl.packing.manifest import render_config, render_manifest
from modelctl.packing.plan import plan_layers
from modelctl.packing.seal import SealedLayer, seal
from modelctl.packing.table import Table, parse_table, render_table
from tests.fakes.memory import MemorySource, MemoryStore
from tests.models import noise, shard

FILES = {
    "README.md": b"# A tiny model\n",
    "config.json": b'{"hidden_size": 4}\n',
    "model-00001-of-00002.safetensors": shard({"a": bytes(range(16))}),
    "model-00002-of-00002.safetensors": shard({"b": noise(5000, "b"), "c": b""}),
    "tokenizer.json": b"{}",
    "模型/说明.md": "一个小模型\n".encode(),
}
"""A tiny fixed model: two shards, two configs, a doc, and a name outside ASCII."""


def sealed(store: MemoryStore, files: dict[str, bytes], layout: str) -> list[SealedLayer]:
    source = MemorySource(files)
    layers = []
    for plan in plan_layers(list(source.list()), load_layout(layout)):
        with store.upload() as upload:
            layers.append(seal(plan, source, upload, {}, lambda size: None))
    return layers


def packed(store: MemoryStore, files: dict[str, bytes] | None = None, layout: str = "image") -> Descriptor:
    """Pack `files` into `store` and return the manifest's descriptor."""
    layers = sealed(store, files or FILES, layout)
    rules = load_layout(layout)
    table = render_table(Table(tuple(row for layer in layers for row in layer.rows), rules.prefix))
    config = render_config(rules, [*(layer.digest for layer in layers), digest_of(table)])
    store.put(table, rules.table_type)
    store.put(config, rules.config_type)
    return store.put(render_manifest(rules, config, layers, table, annotations={}), OCI_MANIFEST)


def manifest_of(store: MemoryStore, root: Descriptor) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(store.blobs[root.digest])
    return document


def table_of(store: MemoryStore, root: Descriptor) -> Table:
    return parse_table(store.blobs[manifest_of(store, root)["layers"][-1]["digest"]])


def edited(store: MemoryStore, root: Descriptor, edit: Callable[[dict[str, Any]], object]) -> Descriptor:
    """Put the manifest after `edit` changed it in place."""
    manifest = manifest_of(store, root)
    edit(manifest)
    return store.put(canonical_json(manifest), OCI_MANIFEST)


def with_table(store: MemoryStore, root: Descriptor, table: bytes) -> Descriptor:
    """Put the manifest and its config with another table, pinned as the real one was."""
    manifest = manifest_of(store, root)
    config = json.loads(store.blobs[manifest["config"]["digest"]])
    config["rootfs"]["diff_ids"][-1] = digest_of(table)
    layer = manifest["layers"][-1]
    store.put(table, layer["mediaType"])
    layer |= {"digest": digest_of(table), "size": len(table), "annotations": {KIND: TABLE_KIND}}
    return with_config(store, manifest, config)


def with_config(store: MemoryStore, manifest: dict[str, Any], config: dict[str, Any]) -> Descriptor:
    """Put `manifest` with `config`."""
    data = canonical_json(config)
    store.put(data, manifest["config"]["mediaType"])
    manifest["config"] |= {"digest": digest_of(data), "size": len(data)}
    return store.put(canonical_json(manifest), OCI_MANIFEST)


def with_rows(
    store: MemoryStore, root: Descriptor, edit: Callable[[tuple[FileRow, ...]], Sequence[FileRow]]
) -> Descriptor:
    """Put the artifact with the rows of its table changed by `edit`."""
    table = table_of(store, root)
    return with_table(store, root, render_table(Table(tuple(edit(table.rows)), table.prefix)))


def with_layer(store: MemoryStore, root: Descriptor, index: int, data: bytes) -> tuple[Descriptor, Digest]:
    """Put the artifact with other bytes as layer `index`, in manifest, config and table; return them and the digest."""
    manifest = manifest_of(store, root)
    config = json.loads(store.blobs[manifest["config"]["digest"]])
    old, new = Digest(manifest["layers"][index]["digest"]), digest_of(data)
    store.put(data, manifest["layers"][index]["mediaType"])
    manifest["layers"][index] |= {"digest": new, "size": len(data)}
    config["rootfs"]["diff_ids"][index] = new
    changed = with_config(store, manifest, config)

    def move(rows: tuple[FileRow, ...]) -> list[FileRow]:
        return [replace_row(row, layer=new) if row.layer == old else row for row in rows]

    return with_rows(store, changed, move), new


def replace_row(row: FileRow, **changes: Any) -> FileRow:
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    return FileRow(**(fields | changes))
