import json

import pytest

from modelctl.core.errors import Invalid, UsageProblem
from modelctl.core.types import canonical_json, digest_of
from modelctl.packing.layout import load_layout
from modelctl.packing.manifest import check_annotations, render_config, render_manifest
from tests.fakes.memory import MemoryStore
from tests.packing.artifacts import FILES, manifest_of, packed, sealed

LAYOUTS = ["image", "modelpack", "raw", "kserve"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_manifest_is_canonical(layout: str) -> None:
    store = MemoryStore()
    root = packed(store, layout=layout)
    assert store.blobs[root.digest] == canonical_json(manifest_of(store, root))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_descriptor_is_that_of_a_blob(layout: str) -> None:
    store = MemoryStore()
    manifest = manifest_of(store, packed(store, layout=layout))
    stated = [(item["digest"], item["size"]) for item in [manifest["config"], *manifest["layers"]]]
    assert stated == [(digest, len(store.blobs[digest])) for digest, _ in stated]


@pytest.mark.parametrize(
    ("layout", "key", "list_key"),
    [
        ("image", "rootfs", "diff_ids"),
        ("kserve", "rootfs", "diff_ids"),
        ("modelpack", "modelfs", "diffIds"),
        ("raw", "modelfs", "diffIds"),
    ],
)
def test_the_diff_ids_are_those_of_the_layers(layout: str, key: str, list_key: str) -> None:
    store = MemoryStore()
    manifest = manifest_of(store, packed(store, layout=layout))
    config = json.loads(store.blobs[manifest["config"]["digest"]])
    assert config[key][list_key] == [layer["digest"] for layer in manifest["layers"]]


@pytest.mark.parametrize(
    ("layout", "artifact_type"), [("image", None), ("modelpack", "application/vnd.cncf.model.manifest.v1+json")]
)
def test_only_an_artifact_has_an_artifact_type(layout: str, artifact_type: str | None) -> None:
    store = MemoryStore()
    assert manifest_of(store, packed(store, layout=layout)).get("artifactType") == artifact_type


def test_only_a_layer_of_one_file_states_its_crcs() -> None:
    store = MemoryStore()
    layers = manifest_of(store, packed(store))["layers"]
    assert ["io.modelctl.file.crc32" in layer["annotations"] for layer in layers] == [True, True, False, False, False]


def test_kserve_states_the_path_as_it_is_mounted() -> None:
    store = MemoryStore()
    layer = manifest_of(store, packed(store, layout="kserve"))["layers"][0]
    assert layer["annotations"]["org.cncf.model.filepath"] == "models/model-00001-of-00002.safetensors"


def test_image_and_modelpack_share_every_layer() -> None:
    store = MemoryStore()
    both = [manifest_of(store, packed(store, layout=layout))["layers"] for layout in ("image", "modelpack")]
    assert [layer["digest"] for layer in both[0]] == [layer["digest"] for layer in both[1]]


def test_the_subject_and_the_annotations_are_in_the_manifest() -> None:
    store = MemoryStore()
    root = packed(store)
    layout = load_layout("modelpack")
    raw = render_manifest(layout, b"{}", sealed(store, FILES, "modelpack"), b"", annotations={"k": "v"}, subject=root)
    manifest = json.loads(raw)
    assert (manifest["subject"]["digest"], manifest["annotations"]) == (root.digest, {"k": "v"})


def test_a_config_says_nothing_of_time_or_host() -> None:
    assert json.loads(render_config(load_layout("image"), [digest_of(b"")])).keys() == {
        "architecture",
        "os",
        "config",
        "rootfs",
    }


def test_a_manifest_that_no_registry_takes_is_refused() -> None:
    layers = sealed(MemoryStore(), {"a.txt": b"a"}, "raw") * 12_000
    with pytest.raises(Invalid, match=r"registries take 4194304\n  try: .*--layout image"):
        render_manifest(load_layout("raw"), b"{}", layers, b"", annotations={})


@pytest.mark.parametrize("key", ["", "io.modelctl.kind", "io.modelctl.x"])
def test_annotations_that_are_modelctls_own_are_refused(key: str) -> None:
    with pytest.raises(UsageProblem, match="--annotation"):
        check_annotations({key: "v"})


@pytest.mark.parametrize("annotations", [{"k\udcff": "v"}, {"k": "v\udcff"}])
def test_annotations_that_are_not_utf8_are_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(UsageProblem, match="not valid UTF-8"):
        check_annotations(annotations)


def test_other_annotations_are_the_users() -> None:
    check_annotations({"org.opencontainers.image.title": "模型", "x": ""})
