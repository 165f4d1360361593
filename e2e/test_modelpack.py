"""The layouts `modelpack` and `raw` against the CNCF ModelPack specification.

Source: github.com/modelpack/model-spec, docs/config.md and docs/spec.md; the schema beside this file says it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from e2e.command import blob_path, manifest_of, modelctl

SCHEMA = json.loads(Path(__file__).with_name("modelpack-config.schema.json").read_bytes())
LAYER = r"^application/vnd\.cncf\.model\.(weight|weight\.config|code|doc)\.v1\.{}$"
TAGS = pytest.mark.parametrize("tag", ["v1-modelpack", "raw"])
BROKEN: dict[str, Any] = {
    "another key": {"rootfs": {}},
    "an empty name": {"descriptor": {"name": ""}},
    "a number for a size": {"config": {"paramSize": 8}},
    "no digests": {"modelfs": {"type": "layers", "diffIds": []}},
    "another type": {"modelfs": {"type": "files", "diffIds": ["sha256:" + "0" * 64]}},
}


def config_of(store: Path, tag: str) -> Any:
    return json.loads(blob_path(store, manifest_of(store, tag)["config"]["digest"]).read_bytes())


@TAGS
def test_the_config_follows_the_specification(store: Path, tag: str) -> None:
    jsonschema.validate(config_of(store, tag), SCHEMA)


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_the_schema_refuses_what_the_specification_does(store: Path, change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config_of(store, "raw") | change, SCHEMA)


@TAGS
def test_the_manifest_says_that_it_is_a_model(store: Path, tag: str) -> None:
    manifest = manifest_of(store, tag)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"


@pytest.mark.parametrize(("tag", "form"), [("v1-modelpack", "tar"), ("raw", "raw")])
def test_the_layers_have_modelpacks_media_types_and_the_table_is_a_tar(store: Path, tag: str, form: str) -> None:
    *layers, table = [layer["mediaType"] for layer in manifest_of(store, tag)["layers"]]
    wanted = {"type": "array", "items": {"pattern": LAYER.format(form)}}
    jsonschema.validate(layers, wanted)
    assert table == "application/vnd.cncf.model.doc.v1.tar"


def test_every_raw_layer_names_its_file(store: Path) -> None:
    *layers, _ = manifest_of(store, "raw")["layers"]
    paths = [layer["annotations"]["org.cncf.model.filepath"] for layer in layers]
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in layers]
    assert len(set(paths)) == len(layers)
    assert titles == paths


def test_modelpack_shares_every_blob_with_the_image_and_points_back_to_it(store: Path) -> None:
    image, model = manifest_of(store, "v1"), manifest_of(store, "v1-modelpack")
    assert [layer["digest"] for layer in model["layers"]] == [layer["digest"] for layer in image["layers"]]
    assert model["subject"]["digest"] == modelctl("digest", f"oci:{store}:v1").strip()
