"""The container image: small, without tools or traces of the machine it was built on, and the same each time."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.command import blob_path, files, manifest_of, run
from e2e.containers import Podman
from modelctl import __version__

CHECKOUT = Path(__file__).parents[1]
LAYOUT = CHECKOUT / "build/image"
LARGEST = 120_000_000
"""All layers together, compressed [bytes]."""

USER = 65532
TOOLS = ["apt", "apt-get", "pip", "pip3", "cc", "gcc", "ld", "make", "git"]
COMMON = {"localhost", "127.0.0.1", "pypi.org", "files.pythonhosted.org"}
"""Hosts that packages name by themselves."""

pytestmark = pytest.mark.timeout(600)  # `make image` installs buildah and fetches Debian


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Build the image, of Debian as it is now: what is compared with it must have the same packages."""
    run("make", "image", "--what-if", ".ci/image/base", cwd=CHECKOUT)
    return manifest_of(LAYOUT, "latest")


@pytest.fixture(scope="module")
def config(manifest: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(blob_path(LAYOUT, manifest["config"]["digest"]).read_bytes())
    return parsed


@pytest.fixture(scope="module")
def rootfs(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image's files, unpacked."""
    bundle = tmp_path_factory.mktemp("image") / "bundle"
    run("umoci", "unpack", "--image", f"{LAYOUT}:latest", bundle)
    return bundle / "rootfs"


@pytest.fixture(scope="module")
def contained(manifest: dict[str, Any], model: Path) -> Iterator[tuple[Path, Callable[..., str]]]:
    """Yield a folder with a model, and what runs modelctl in the image, with `options`, with that folder as /data.

    It runs as the image's own user, who may write nowhere else.
    """
    with tempfile.TemporaryDirectory(prefix="modelctl-") as name:
        podman, data = Podman(Path(name)), Path(name) / "data"
        shutil.copytree(model, data / "model")
        run("chown", "-R", f"{USER}:{USER}", data)
        image = podman("pull", "--quiet", f"oci:{LAYOUT}:latest")
        yield (
            data,
            lambda *arguments, options=(): podman(
                *("run", "--rm", "--network", "none", "--cgroups", "disabled"),
                *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
                *("--read-only", "--read-only-tmpfs=false", "--volume", f"{data}:/data", "--workdir", "/data"),
                *(*options, image, *arguments),
            ),
        )


def names_of_mirrors() -> set[str]:
    """Return the hosts from which this machine gets Debian and Python packages, and those between."""
    stated = [run("apt-get", "indextargets", "--format", "$(SITE)"), run("apt-config", "dump", "Acquire")]
    stated += [run(sys.executable, "-m", "pip", "config", "list")]
    stated += [value for key, value in os.environ.items() if re.search("INDEX|LINKS|MIRROR|PROXY", key, re.IGNORECASE)]
    urls = re.findall(r"\w+://[^\s'\",;]+", "\n".join(stated))
    return {host for url in urls if (host := urlsplit(url).hostname)} - COMMON


class TestImage:
    def test_it_is_a_layer_of_debian_and_one_of_modelctl(self, manifest: dict[str, Any]) -> None:
        kinds = [layer["mediaType"] for layer in manifest["layers"]]
        assert kinds == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2

    def test_a_new_version_changes_only_the_second(self, manifest: dict[str, Any]) -> None:
        with tarfile.open(blob_path(LAYOUT, manifest["layers"][1]["digest"])) as layer:
            changed = {member.name for member in layer if not member.isdir()}
        assert {name for name in changed if not name.startswith("opt/modelctl/")} == {
            *("etc/group", "etc/passwd", "usr/local/bin/modelctl", "usr/local/bin/modelctl-step")
        }

    def test_it_is_small(self, manifest: dict[str, Any]) -> None:
        assert sum(layer["size"] for layer in manifest["layers"]) <= LARGEST

    def test_it_runs_modelctl_as_nobody_in_particular(self, config: dict[str, Any]) -> None:
        assert (config["config"]["User"], config["config"]["Entrypoint"]) == (f"{USER}:{USER}", ["modelctl"])

    def test_it_says_what_it_is(self, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        labels = {
            key.removeprefix("org.opencontainers.image."): text for key, text in config["config"]["Labels"].items()
        }
        revision = labels.pop("revision")
        assert labels == {"title": "modelctl", "version": __version__, "licenses": "Apache-2.0"}
        assert revision.removesuffix("-dirty") == run("git", "rev-parse", "HEAD", cwd=CHECKOUT).strip()
        assert manifest["annotations"]["org.opencontainers.image.revision"] == revision


class TestFiles:
    @pytest.mark.parametrize("tool", TOOLS)
    def test_it_has_nothing_to_build_or_install_with(self, rootfs: Path, tool: str) -> None:
        assert not [path for path in rootfs.glob(f"**/bin/{tool}") if not path.is_dir()]

    @pytest.mark.parametrize("package", ["pip", "setuptools"])
    def test_it_has_no_package_that_installs(self, rootfs: Path, package: str) -> None:
        assert not [*rootfs.glob(f"**/*-packages/{package}")]

    @pytest.mark.parametrize("folder", ["etc/apt", "var/lib/apt", "var/cache/apt", "var/log/apt", "usr/share/man/man1"])
    def test_it_has_none_of(self, rootfs: Path, folder: str) -> None:
        assert not (rootfs / folder).exists()

    def test_no_file_is_setuid_or_setgid(self, rootfs: Path) -> None:
        assert run("find", rootfs, "-type", "f", "-perm", "/6000") == ""

    def test_no_bytecode_asks_for_its_sources_time(self, rootfs: Path) -> None:
        unchecked = (1).to_bytes(4, "little")
        assert {path.read_bytes()[4:8] for path in rootfs.rglob("*.pyc")} == {unchecked}

    def test_every_module_of_modelctl_has_bytecode(self, rootfs: Path) -> None:
        (package,) = rootfs.glob("opt/modelctl/lib/python3*/site-packages/modelctl")
        compiled = {path.parents[1] / f"{path.name.split('.')[0]}.py" for path in package.rglob("*.pyc")}
        assert compiled == {*package.rglob("*.py")}

    @pytest.mark.parametrize("file", ["hostname", "hosts", "resolv.conf"])
    def test_the_builders_network_is_not_in_it(self, rootfs: Path, file: str) -> None:
        assert (rootfs / "etc" / file).read_bytes() == b""

    def test_no_host_of_a_mirror_is_named_in_it(self, rootfs: Path, manifest: dict[str, Any]) -> None:
        documents = [LAYOUT / "index.json", blob_path(LAYOUT, manifest["config"]["digest"])]
        words = [option for host in names_of_mirrors() for option in ("-e", host)]
        assert run("sh", "-c", 'grep -rlF "$@" || [ $? = 1 ]', "sh", *words, "--", rootfs, *documents) == ""


class TestRuns:
    def test_it_starts(self, contained: tuple[Path, Callable[..., str]]) -> None:
        _, modelctl = contained
        assert modelctl("--version") == f"modelctl {__version__}"

    def test_it_packs_and_pulls_with_a_read_only_root(
        self, contained: tuple[Path, Callable[..., str]], model: Path
    ) -> None:
        data, modelctl = contained
        modelctl("pack", "model", "oci:store:v1")
        modelctl("pull", "oci:store:v1", "out")
        assert files(data / "out") == files(model)

    def test_it_runs_a_step_of_ci(self, contained: tuple[Path, Callable[..., str]]) -> None:
        data, modelctl = contained
        reference = modelctl("pack", "model", "oci:ci:v1", options=["--entrypoint", "modelctl-step"])
        assert f"MODELCTL_REFERENCE={reference}\n" in (data / "modelctl-report/outputs.env").read_text()


def test_a_second_build_from_nothing_has_the_same_digest(manifest: dict[str, Any], tmp_path: Path) -> None:
    run(".ci/image/base", tmp_path / "base.tar", cwd=CHECKOUT)
    run(".ci/image/build", tmp_path / "base.tar", tmp_path / "image", cwd=CHECKOUT)
    assert (tmp_path / "image/index.json").read_text() == (LAYOUT / "index.json").read_text()
