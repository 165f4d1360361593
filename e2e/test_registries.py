"""The tools that people use with registries, on distribution 3.1: crane, regctl, skopeo, podman, containerd.

They read what modelctl pushed, and modelctl reads what they copied. crane, regctl and the registry are built by
`make build/go.stamp`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.command import blob_path, files, manifest_of, modelctl, run, sha256, tar_files
from e2e.containers import Podman, containerd, isolated
from tests.fakes.registries import registry

BIN = Path(__file__).parents[1] / "build" / "go" / "bin"
TAGS = pytest.mark.parametrize("tag", ["v1", "v1-modelpack", "raw"])


def crane(*arguments: str | Path) -> str:
    return run(BIN / "crane", *arguments)


def regctl(*arguments: str | Path) -> str:
    """Run regctl, which takes a registry to have TLS unless it is told otherwise."""
    host = next(str(argument) for argument in arguments if "/" in str(argument)).partition("/")[0]
    return run(BIN / "regctl", "--host", f"reg={host},tls=disabled", *arguments)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of distribution 3.1."""
    folder = tmp_path_factory.mktemp("distribution") / "registry"
    with registry(folder, program=(str(BIN / "registry"), "serve")) as server:
        yield server.host


@pytest.fixture(scope="module")
def pushed(host: str, store: Path) -> str:
    """The repository with the model as `v1`, `v1-modelpack` and `raw`."""
    for tag in ("v1", "v1-modelpack", "raw"):
        modelctl("push", f"oci:{store}:{tag}", f"{host}/models/test:{tag}")
    return f"{host}/models/test"


def raw_manifest(store: Path, tag: str) -> str:
    return blob_path(store, modelctl("digest", f"oci:{store}:{tag}").strip()).read_text()


def pulled(reference: str, folder: Path) -> dict[str, str]:
    modelctl("verify", reference, "--depth", "full")
    modelctl("pull", reference, folder)
    return files(folder)


class TestModelctl:
    @TAGS
    def test_what_was_pushed_is_proved_and_pulled(self, pushed: str, tag: str, model: Path, tmp_path: Path) -> None:
        assert pulled(f"{pushed}:{tag}", tmp_path / "out") == files(model)

    def test_what_is_packed_into_it_has_the_digest_of_what_was_pushed(
        self, host: str, pushed: str, model: Path
    ) -> None:
        modelctl("pack", model, f"{host}/packed/test:v1", "--annotation", "team=search")
        assert modelctl("digest", f"{host}/packed/test:v1") == modelctl("digest", f"{pushed}:v1")

    def test_a_tag_is_forgotten_alone(self, host: str, store: Path) -> None:
        modelctl("push", f"oci:{store}:v1", f"{host}/tags/test:v1")
        modelctl("tag", f"{host}/tags/test:v1", "prod")
        modelctl("rm", f"{host}/tags/test:v1")
        assert "prod" in modelctl("ls", f"{host}/tags/test")

    def test_from_repository_to_repository_every_blob_is_mounted(self, host: str, pushed: str) -> None:
        (report,) = json.loads(
            modelctl("push", f"{pushed}:v1", f"{host}/mounted/test:v1", "--output", "json", "--quiet")
        )
        assert (report["sent"], report["skipped"]) == ([], [])


class TestCrane:
    @pytest.mark.parametrize("tag", ["v1", "v1-modelpack"])
    def test_crane_finds_it_valid(self, pushed: str, tag: str) -> None:
        """With `--fast`: without it crane gunzips every layer, and so refuses all that are not compressed."""
        assert "PASS" in crane("validate", "--fast", "--remote", f"{pushed}:{tag}")

    @TAGS
    def test_crane_reads_the_manifest_to_the_byte(self, pushed: str, store: Path, tag: str) -> None:
        assert crane("manifest", f"{pushed}:{tag}").rstrip("\n") == raw_manifest(store, tag)

    def test_crane_exports_the_files_and_the_table(self, pushed: str, mounted: dict[str, str], tmp_path: Path) -> None:
        crane("export", f"{pushed}:v1", tmp_path / "export.tar")
        assert tar_files(tmp_path / "export.tar") == mounted

    @TAGS
    def test_what_crane_copied_is_proved_and_pulled(
        self, host: str, pushed: str, tag: str, model: Path, tmp_path: Path
    ) -> None:
        crane("copy", f"{pushed}:{tag}", f"{host}/crane/test:{tag}")
        assert pulled(f"{host}/crane/test:{tag}", tmp_path / "out") == files(model)

    def test_what_crane_pushed_from_a_layout_is_proved_and_pulled(
        self, host: str, pushed: str, model: Path, tmp_path: Path
    ) -> None:
        crane("pull", "--format", "oci", f"{pushed}:v1", tmp_path / "layout")
        crane("push", tmp_path / "layout", f"{host}/crane/pushed:v1")
        assert pulled(f"{host}/crane/pushed:v1", tmp_path / "out") == files(model)


class TestRegctl:
    @TAGS
    def test_regctl_reads_the_manifest_to_the_byte(self, pushed: str, store: Path, tag: str) -> None:
        printed = regctl("manifest", "get", "--format", "raw-body", f"{pushed}:{tag}")
        assert printed.rstrip("\n") == raw_manifest(store, tag)

    def test_regctl_reads_a_blob_to_the_byte(self, pushed: str, store: Path) -> None:
        digest = manifest_of(store, "v1")["config"]["digest"]
        assert f"sha256:{sha256(regctl('blob', 'get', pushed, digest).encode())}" == digest

    @TAGS
    def test_what_regctl_copied_is_proved_and_pulled(
        self, host: str, pushed: str, tag: str, model: Path, tmp_path: Path
    ) -> None:
        regctl("image", "copy", f"{pushed}:{tag}", f"{host}/regctl/test:{tag}")
        assert pulled(f"{host}/regctl/test:{tag}", tmp_path / "out") == files(model)

    def test_regctl_exports_the_blobs_as_they_are(self, pushed: str, store: Path, tmp_path: Path) -> None:
        regctl("image", "export", f"{pushed}:v1", tmp_path / "export.tar")
        with tarfile.open(tmp_path / "export.tar") as tar:
            names = {Path(name).name for name in tar.getnames()}
        assert {layer["digest"].removeprefix("sha256:") for layer in manifest_of(store, "v1")["layers"]} <= names


class TestOthers:
    @TAGS
    def test_what_skopeo_copied_to_a_layout_is_proved_and_pulled(
        self, pushed: str, tag: str, model: Path, tmp_path: Path
    ) -> None:
        copy = f"oci:{tmp_path}/copy:{tag}"
        run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{pushed}:{tag}", copy)
        assert pulled(copy, tmp_path / "out") == files(model)

    def test_what_skopeo_pushed_is_proved_and_pulled(self, host: str, store: Path, model: Path, tmp_path: Path) -> None:
        """skopeo compresses the layers on the way."""
        name = f"{host}/skopeo/test:v1"
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{store}:v1", f"docker://{name}")
        assert pulled(name, tmp_path / "out") == files(model)

    def test_a_container_of_podman_reads_every_file_of_it(
        self, pushed: str, mounted: dict[str, str], room: Path
    ) -> None:
        podman = Podman(room)
        image = podman("pull", "--quiet", "--tls-verify=false", f"{pushed}:v1")
        script = "cd /model && /busybox find . -type f -exec /busybox sha256sum {} +"
        printed = podman.run_with(podman.busybox(room), image, script)
        assert {line[66:].removeprefix("./"): line[:64] for line in printed.splitlines()} == mounted

    def test_containerd_pulls_and_mounts_the_files_and_the_table(
        self, pushed: str, mounted: dict[str, str], room: Path, tmp_path: Path
    ) -> None:
        with containerd(room) as socket:
            ctr = f"ctr -a {socket} images"
            run(*ctr.split(), "pull", "--plain-http", f"{pushed}:v1")
            script = f'mkdir "$1"; {ctr} mount {pushed}:v1 "$1"; cp -R "$1" "$2"; {ctr} unmount "$1"'
            isolated(script, room / "mnt", tmp_path / "out")
        assert files(tmp_path / "out") == mounted
