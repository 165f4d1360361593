"""The layout opens elsewhere: skopeo, umoci, podman and containerd find the files in it, and what they write is read.

The store has all three tags in every test, so that none of these tools minds the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.command import CommandFailed, files, manifest_of, modelctl, modelctl_json, run
from e2e.containers import Podman, containerd, isolated

NAME = "registry.example/models/test"
AS_THEY_ARE = "--dest-oci-accept-uncompressed-layers"
DETOURS = ["dir:{}/dir", "oci-archive:{}/layout.tar:v1", "docker-archive:{}/docker.tar:model:v1"]
OPTIONS = pytest.mark.parametrize("options", [[], [AS_THEY_ARE]], ids=["gzip", "as-they-are"])
TAGS = pytest.mark.parametrize("tag", ["v1", "v1-modelpack", "raw"])


def skopeo(source: str, destination: str, *options: str) -> None:
    run("skopeo", "copy", "--quiet", *options, source, destination)


def pulled(reference: str, folder: Path) -> dict[str, str]:
    modelctl("verify", reference, "--depth", "full")
    modelctl("pull", reference, folder)
    return files(folder)


class TestSkopeo:
    @OPTIONS
    @TAGS
    def test_a_copy_by_skopeo_is_proved_and_pulled(
        self, options: list[str], tag: str, model: Path, store: Path, tmp_path: Path
    ) -> None:
        skopeo(f"oci:{store}:{tag}", f"oci:{tmp_path}/copy:{tag}", *options)
        assert pulled(f"oci:{tmp_path}/copy:{tag}", tmp_path / "out") == files(model)

    @OPTIONS
    @TAGS
    def test_a_copy_by_skopeo_is_inspected(self, options: list[str], tag: str, store: Path, tmp_path: Path) -> None:
        skopeo(f"oci:{store}:{tag}", f"oci:{tmp_path}/copy:{tag}", *options)
        ours = modelctl_json("inspect", f"oci:{store}:{tag}", "--tensors")
        copy = modelctl_json("inspect", f"oci:{tmp_path}/copy:{tag}", "--tensors")
        assert [layer["files"] for layer in copy["layers"]] == [layer["files"] for layer in ours["layers"]]

    @TAGS
    def test_told_to_leave_layers_as_they_are_skopeo_keeps_the_digest(
        self, tag: str, store: Path, tmp_path: Path
    ) -> None:
        skopeo(f"oci:{store}:{tag}", f"oci:{tmp_path}/copy:{tag}", AS_THEY_ARE)
        assert modelctl("digest", f"oci:{tmp_path}/copy:{tag}") == modelctl("digest", f"oci:{store}:{tag}")

    def test_left_to_itself_skopeo_gzips_layers_and_keeps_only_the_manifests_annotations(
        self, store: Path, tmp_path: Path
    ) -> None:
        skopeo(f"oci:{store}:v1", f"oci:{tmp_path}/copy:v1")
        copy = manifest_of(tmp_path / "copy", "v1")
        assert {layer["mediaType"] for layer in copy["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
        assert not any("annotations" in layer for layer in copy["layers"])
        assert copy["annotations"] == {"team": "search"}

    @pytest.mark.parametrize("detour", DETOURS, ids=[detour.partition(":")[0] for detour in DETOURS])
    def test_the_artifact_survives_a_detour(self, detour: str, model: Path, store: Path, tmp_path: Path) -> None:
        skopeo(f"oci:{store}:v1", detour.format(tmp_path))
        skopeo(detour.format(tmp_path), f"oci:{tmp_path}/copy:v1")
        assert pulled(f"oci:{tmp_path}/copy:v1", tmp_path / "out") == files(model)

    def test_an_image_that_modelctl_did_not_pack_is_refused(self, store: Path, tmp_path: Path) -> None:
        run("umoci", "init", "--layout", tmp_path / "other")
        run("umoci", "new", "--image", f"{tmp_path}/other:v1")
        run("umoci", "insert", "--image", f"{tmp_path}/other:v1", store / "index.json", "/index.json")
        with pytest.raises(CommandFailed, match="not an artifact that modelctl packed"):
            modelctl("verify", f"oci:{tmp_path}/other:v1")


class TestUmoci:
    def test_umoci_lists_every_tag(self, store: Path) -> None:
        assert run("umoci", "list", "--layout", store).split() == ["v1", "v1-modelpack", "raw"]

    def test_umoci_unpacks_the_files_and_the_table(self, store: Path, mounted: dict[str, str], tmp_path: Path) -> None:
        run("umoci", "unpack", "--image", f"{store}:v1", tmp_path / "bundle")
        assert files(tmp_path / "bundle/rootfs") == mounted

    def test_umoci_unpacks_what_skopeo_gzipped(self, store: Path, mounted: dict[str, str], tmp_path: Path) -> None:
        skopeo(f"oci:{store}:v1", f"oci:{tmp_path}/copy:v1")
        run("umoci", "unpack", "--image", f"{tmp_path}/copy:v1", tmp_path / "bundle")
        assert files(tmp_path / "bundle/rootfs") == mounted


class TestPodman:
    @pytest.fixture
    def podman(self, room: Path) -> Podman:
        return Podman(room)

    @pytest.fixture
    def busybox(self, podman: Podman, room: Path) -> str:
        return podman.busybox(room)

    @pytest.fixture
    def image(self, podman: Podman, store: Path) -> str:
        return podman("pull", "--quiet", f"oci:{store}:v1")

    def test_a_container_reads_every_file_of_a_mounted_image(
        self, podman: Podman, busybox: str, image: str, mounted: dict[str, str]
    ) -> None:
        printed = podman.run_with(busybox, image, "cd /model && /busybox find . -type f -exec /busybox sha256sum {} +")
        assert {line[66:].removeprefix("./"): line[:64] for line in printed.splitlines()} == mounted

    @pytest.mark.parametrize("path", ["/model/new", "/model/config.json"])
    def test_a_container_cannot_write_to_it(self, podman: Podman, busybox: str, image: str, path: str) -> None:
        with pytest.raises(CommandFailed, match="Read-only file system"):
            podman.run_with(busybox, image, f"echo changed >{path}")

    def test_podman_loads_an_archive_of_it(self, podman: Podman, busybox: str, store: Path, room: Path) -> None:
        skopeo(f"oci:{store}:v1", f"oci-archive:{room}/model.tar:{NAME}:v1")
        podman("load", "--quiet", "--input", room / "model.tar")
        assert podman.run_with(busybox, f"{NAME}:v1", "/busybox wc -c </model/empty.txt").split() == ["0"]

    def test_what_podman_writes_is_proved_and_pulled(
        self, podman: Podman, image: str, model: Path, room: Path, tmp_path: Path
    ) -> None:
        podman("push", "--quiet", image, f"oci:{room}/copy:v1")
        assert pulled(f"oci:{room}/copy:v1", tmp_path / "out") == files(model)


class TestContainerd:
    @pytest.fixture
    def ctr(self, room: Path, store: Path) -> Iterator[str]:
        """Yield the start of a command for a containerd that has imported a tar of the store."""
        run("tar", "-cf", room / "store.tar", "-C", store, "oci-layout", "index.json", "blobs")
        with containerd(room) as socket:
            run("ctr", "-a", socket, "images", "import", "--no-unpack", "--base-name", NAME, room / "store.tar")
            yield f"ctr -a {socket}"

    def test_containerd_mounts_the_files_and_the_table(
        self, ctr: str, mounted: dict[str, str], room: Path, tmp_path: Path
    ) -> None:
        script = f'mkdir "$1"; {ctr} images mount {NAME}:v1 "$1"; cp -R "$1" "$2"; {ctr} images unmount "$1"'
        isolated(script, room / "mnt", tmp_path / "out")
        assert files(tmp_path / "out") == mounted

    def test_the_mount_cannot_be_written(self, ctr: str, room: Path) -> None:
        with pytest.raises(CommandFailed, match="Read-only file system"):
            isolated(f'mkdir "$1"; {ctr} images mount {NAME}:v1 "$1"; touch "$1/new"', room / "mnt")

    def test_what_containerd_exports_is_proved_and_pulled(
        self, ctr: str, model: Path, store: Path, room: Path, tmp_path: Path
    ) -> None:
        run(*ctr.split(), "images", "export", room / "out.tar", f"{NAME}:v1")
        shutil.unpack_archive(room / "out.tar", room / "copy", filter="data")
        assert modelctl("digest", f"oci:{room}/copy:v1") == modelctl("digest", f"oci:{store}:v1")
        assert pulled(f"oci:{room}/copy:v1", tmp_path / "out") == files(model)
