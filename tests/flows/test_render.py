"""Render: what would not mount is refused, the digest is the registry's, and what it chose it can explain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelctl.core.access import Access
from modelctl.core.errors import Conflict, Denied, NotFound, UsageProblem
from modelctl.core.reference import parse_reference
from modelctl.flows.render import Rendered, RenderOptions, render, write_kustomization
from modelctl.registry.credentials import save_credentials
from tests.fakes.registries import Registry, registry
from tests.models import write_model
from tests.registries import ALICE, IMPATIENT, pack_to, remote
from tests.stores import files_of

ABSENT = "registry.example/qwen/qwen3-8b@sha256:" + "0" * 64


@pytest.fixture
def there(plain: Registry, repository: str, model: Path) -> str:
    """A model in a registry, in two layouts."""
    pack_to(model, f"{plain.host}/{repository}:v1", layouts=("image", "modelpack"))
    return f"{plain.host}/{repository}:v1"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for alice's password."""
    with registry(tmp_path_factory.mktemp("guarded") / "registry", password=ALICE[1]) as server:
        yield server


def rendered(text: str, access: Access = IMPATIENT, **options: Any) -> Rendered:
    return render(parse_reference(text), RenderOptions(access=access, **options))


def pod(found: Rendered) -> dict[str, Any]:
    (deployment,) = [one for one in found.objects if one["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def digest_at(text: str) -> str:
    reference = parse_reference(text)
    return remote(reference.registry, reference.path).resolve(reference.name).digest


def test_the_digest_is_the_one_that_the_tag_names(there: str) -> None:
    reference = pod(rendered(there))["volumes"][0]["image"]["reference"]
    assert reference == f"{there.removesuffix(':v1')}@{digest_at(there)}"


def test_a_digest_stays_what_it_is(there: str) -> None:
    by_digest = f"{there.removesuffix(':v1')}@{digest_at(there)}"
    assert pod(rendered(by_digest)) == pod(rendered(there))


def test_a_new_readme_leaves_the_label_of_warm_nodes(there: str, model: Path) -> None:
    before = pod(rendered(there))["affinity"]
    (model / "README.md").write_text("other words")
    pack_to(model, there)
    assert pod(rendered(there))["affinity"] == before


def test_other_weights_have_another_label_of_warm_nodes(there: str, model: Path) -> None:
    before = pod(rendered(there))["affinity"]
    write_model(model, seed=1)
    pack_to(model, there)
    assert pod(rendered(there))["affinity"] != before


def test_a_tag_that_is_not_there_is_not_found(there: str) -> None:
    with pytest.raises(NotFound, match="v9"):
        rendered(there.replace(":v1", ":v9"))


@pytest.mark.parametrize(
    ("version", "gate", "mode", "why"),
    [
        ("1.36", False, "image-volume", "Kubernetes 1.36 mounts images"),
        ("1.35", False, "image-volume", "Kubernetes 1.35 mounts images"),
        ("1.34", False, "pvc", "feature gate ImageVolume is off"),
        ("1.31", True, "image-volume", "where ImageVolume is on"),
        ("1.30", True, "pvc", "no image volumes"),
    ],
)
def test_it_chooses_what_mounts_and_says_why(there: str, version: str, gate: bool, mode: str, why: str) -> None:
    found = rendered(there, kube_version=version, image_volume_gate=gate)
    assert found.mode == mode
    assert why in found.why


def test_of_a_modelpack_it_chooses_the_claim(there: str) -> None:
    found = rendered(f"{there}-modelpack")
    assert found.mode == "pvc"
    assert "empty folder" in found.why


def test_a_modelpack_is_refused_as_an_image_volume(there: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        rendered(f"{there}-modelpack", mode="image-volume")
    assert "empty folder, without an error" in refused.value.why
    assert "--layout image" in refused.value.hint


def test_raw_layers_are_refused_as_an_image_volume(there: str, model: Path) -> None:
    pack_to(model, there, layouts=("raw",))
    with pytest.raises(UsageProblem):
        rendered(there, mode="image-volume")


@pytest.mark.parametrize(("version", "hint"), [("1.30", "--as pvc"), ("1.33", "--image-volume-gate")])
def test_an_old_kubernetes_is_refused_with_what_to_do(there: str, version: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        rendered(there, mode="image-volume", kube_version=version)
    assert hint in refused.value.hint


def test_a_folder_of_an_image_is_refused_before_1_33(there: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        rendered(there, mode="image-volume", kube_version="1.32", image_volume_gate=True, sub_path="models")
    assert "subPath" in refused.value.why
    assert refused.value.hint == "--as pvc"


def test_more_layers_than_runtimes_mount_are_refused(there: str, tmp_path: Path) -> None:
    many = write_model(tmp_path / "many", shards=130, size=100)
    pack_to(many, there, max_layers=200)
    with pytest.raises(UsageProblem) as refused:
        rendered(there, mode="image-volume")
    assert "--max-layers 110" in refused.value.why


def test_a_layout_on_disk_is_refused() -> None:
    with pytest.raises(UsageProblem) as refused:
        rendered("oci:./store:v1")
    assert "modelctl push" in refused.value.hint


@pytest.mark.parametrize("sub_path", ["../etc", "/etc", "a//b", "nope", "config.json"])
def test_a_sub_path_out_of_the_artifact_is_refused(there: str, sub_path: str) -> None:
    with pytest.raises(UsageProblem, match="--sub-path"):
        rendered(there, sub_path=sub_path)


def test_a_folder_of_the_image_is_none_of_the_claims(there: str, model: Path) -> None:
    pack_to(model, there, layouts=("kserve",))
    assert pod(rendered(there, sub_path="models"))["containers"][0]["volumeMounts"][0]["subPath"] == "models"
    with pytest.raises(UsageProblem, match="--sub-path"):
        rendered(there, sub_path="models", mode="pvc")


@pytest.mark.parametrize("image", ["x\ny", "a b", "$(id)"])
def test_an_image_that_is_none_is_refused(image: str) -> None:
    with pytest.raises(UsageProblem, match="--image"):
        rendered(ABSENT, offline=True, image=image)


def test_gpus_that_nothing_would_use_are_refused() -> None:
    with pytest.raises(UsageProblem, match="--gpus"):
        rendered(ABSENT, offline=True, engine="none", gpus=2)


def test_offline_nobody_is_asked() -> None:
    found = rendered(ABSENT, offline=True)
    assert pod(found)["volumes"][0]["image"]["reference"] == ABSENT
    assert "not checked" in found.notes[0]


def test_offline_a_tag_is_not_enough() -> None:
    with pytest.raises(UsageProblem) as refused:
        rendered("registry.example/qwen/qwen3-8b:v1", offline=True)
    assert "@sha256:" in refused.value.hint


def test_offline_warm_nodes_cannot_be_required() -> None:
    with pytest.raises(UsageProblem, match="--require-warm"):
        rendered(ABSENT, offline=True, require_warm=True)


@pytest.fixture
def regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Registry) -> None:
    (tmp_path / "config.toml").write_text(
        f'[regions.here]\nregistry = "{plain.host}"\nnamespace = "models"\n[regions.bare]\nregistry = "{plain.host}"\n'
    )
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "config.toml"))


@pytest.mark.usefixtures("regions")
def test_in_a_region_pods_pull_from_its_registry_and_namespace(there: str, plain: Registry) -> None:
    name = there.rpartition("/")[2]
    found = pod(rendered(f"hub.example/{name}", region="here"))
    assert found["volumes"][0]["image"]["reference"].startswith(f"{plain.host}/models/{name.partition(':')[0]}@")


@pytest.mark.usefixtures("regions")
def test_a_region_without_a_namespace_keeps_the_name(there: str, plain: Registry) -> None:
    path = there.partition("/")[2]
    found = pod(rendered(f"hub.example/{path}", region="bare"))
    assert found["volumes"][0]["image"]["reference"].startswith(f"{plain.host}/{path.partition(':')[0]}@")


@pytest.mark.parametrize(
    "region",
    ['registry = "https://hub.example/"', 'registry = "a:b@hub.example"', 'registry = "h.example"\nnamespace = "/M/"'],
)
def test_a_region_that_is_no_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    (tmp_path / "config.toml").write_text(f"[regions.r]\n{region}\n")
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "config.toml"))
    with pytest.raises(UsageProblem, match="region r"):
        rendered(ABSENT, offline=True, region="r")


@pytest.mark.usefixtures("regions")
def test_a_region_that_nobody_described_is_refused(there: str) -> None:
    with pytest.raises(UsageProblem, match="mars"):
        rendered(there, region="mars")


@pytest.fixture
def secret(guarded: Registry, model: Path, repository: str, tmp_path: Path) -> tuple[str, Access]:
    """A model in the guarded registry, and alice's way to it."""
    authfile = str(tmp_path / "auth.json")
    save_credentials(guarded.host, *ALICE, authfile)
    access = Access(authfile=authfile, timeout_s=5)
    pack_to(model, f"{guarded.host}/{repository}:v1", access=access)
    return f"{guarded.host}/{repository}:v1", access


def test_that_pods_would_be_refused_is_said_with_what_to_do(secret: tuple[str, Access]) -> None:
    text, access = secret
    (note,) = rendered(text, access, namespace="ml").notes
    assert "ErrImagePull" in note
    assert f"kubectl -n ml create secret docker-registry NAME --docker-server={text.partition('/')[0]}" in note


@pytest.mark.parametrize("named", ["pull_secret", "service_account"])
def test_with_a_secret_there_is_nothing_to_say(secret: tuple[str, Access], named: str) -> None:
    text, access = secret
    assert rendered(text, access, **{named: "hub"}).notes == []


def test_of_an_open_registry_there_is_nothing_to_say(there: str) -> None:
    assert rendered(there).notes == []


def test_without_credentials_a_guarded_registry_is_denied(secret: tuple[str, Access]) -> None:
    with pytest.raises(Denied):
        rendered(secret[0])


def test_a_kustomization_lists_the_files_beside_it(there: str, tmp_path: Path) -> None:
    found = rendered(there, mode="pvc")
    paths = write_kustomization(found.objects, str(tmp_path / "out"))
    kustomization = yaml.safe_load((tmp_path / "out/kustomization.yaml").read_text())
    assert [yaml.safe_load((tmp_path / "out" / name).read_text()) for name in kustomization["resources"]] == list(
        found.objects
    )
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(paths)


def test_the_next_version_replaces_the_last(there: str, tmp_path: Path) -> None:
    write_kustomization(rendered(there).objects, str(tmp_path))
    newer = rendered(there, namespace="prod")
    write_kustomization(newer.objects, str(tmp_path))
    assert yaml.safe_load((tmp_path / "deployment.yaml").read_text()) == newer.objects[0]


def test_what_an_earlier_run_wrote_and_this_one_does_not_goes(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_kustomization(rendered(there, mode="pvc").objects, str(folder))
    paths = write_kustomization(rendered(there).objects, str(folder))
    assert sorted(map(str, folder.iterdir())) == sorted(paths)


def test_what_somebody_else_wrote_stays(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: [mine.yaml]\n")
    with pytest.raises(Conflict, match=r"kustomization\.yaml"):
        write_kustomization(rendered(there).objects, str(folder))
    assert files_of(folder) == {"kustomization.yaml": b"resources: [mine.yaml]\n"}
