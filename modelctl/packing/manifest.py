"""The documents of an artifact: config and manifest. Pure, and a function of the content alone: no time, no host.

Source: OCI image-spec config.md and manifest.md; CNCF ModelPack docs/config.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from modelctl.core import media_types
from modelctl.core.errors import Invalid, UsageProblem
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest, Manifest, canonical_json, digest_of
from modelctl.packing.layout import Layout
from modelctl.packing.seal import SealedLayer


def render_config(layout: Layout, diff_ids: Sequence[Digest]) -> bytes:
    """Return the config: an image's (any `architecture` mounts anywhere: containerd 2.3.7) or a ModelPack's."""
    if layout.config_type == media_types.MODELPACK_CONFIG:
        model = {
            "descriptor": {},
            "config": {"format": "safetensors"},
            "modelfs": {"type": "layers", "diffIds": list(diff_ids)},
        }
        return canonical_json(model)
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return canonical_json(image)


def render_manifest(
    layout: Layout,
    config: bytes,
    layers: Sequence[SealedLayer],
    table: bytes,
    *,
    annotations: Mapping[str, str],
    subject: Descriptor | None = None,
) -> bytes:
    """Return the manifest's bytes; their digest is the artifact's name.

    Raises:
        Invalid: It would be larger than registries take.
    """
    manifest = Manifest(
        schema_version=2,
        artifact_type=layout.artifact_type,
        config=Descriptor(media_type=layout.config_type, digest=digest_of(config), size=len(config)),
        layers=(
            *(_layer(layout, layer) for layer in layers),
            Descriptor(
                media_type=layout.table_type,
                digest=digest_of(table),
                size=len(table),
                annotations={media_types.KIND: media_types.TABLE_KIND},
            ),
        ),
        subject=subject,
        annotations=annotations,
    )
    raw = canonical_json({"mediaType": manifest.media_type, **msgspec.to_builtins(manifest)})
    if len(raw) > MAX_DOCUMENT_SIZE:
        raise Invalid(
            f"a manifest of {len(raw)} bytes for {len(layers)} layers",
            why=f"registries take {MAX_DOCUMENT_SIZE}",
            hint="use a layout in which small files share a layer, such as --layout image",
        )
    return raw


def _layer(layout: Layout, layer: SealedLayer) -> Descriptor:
    annotations = {media_types.KIND: str(layer.plan.kind)}
    if len(layer.rows) == 1:
        (row,) = layer.rows
        annotations |= {
            media_types.FILEPATH: layout.prefix + row.path,
            media_types.FILE_SIZE: str(row.size),
            media_types.FILE_OFFSET: str(row.offset),
            media_types.FILE_CRC32: f"{row.crc32:08x}",
            media_types.FILE_CRC64: str(row.crc64),
        }
        annotations |= {media_types.TITLE: row.path} if layer.plan.form == "raw" else {}
    return Descriptor(
        media_type=layout.rule(layer.plan.entries[0].path).media_type,
        digest=layer.digest,
        size=layer.size,
        annotations=annotations,
    )


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Refuse annotations of the manifest that are not the user's to set.

    Raises:
        UsageProblem: An empty key, one under modelctl's own prefix, or what is not UTF-8.
    """
    for key, value in annotations.items():
        try:
            f"{key}={value}".encode()
        except UnicodeEncodeError as error:
            raise UsageProblem(f"--annotation {key!a}={value!a}", why="it is not valid UTF-8") from error
        if not key or key.startswith(media_types.PREFIX):
            raise UsageProblem(
                f"--annotation {key}=...",
                why=f"keys under {media_types.PREFIX} are modelctl's own, and none is empty",
            )
