"""The wheel is all that is needed: unpacked outside the checkout it packs, with the layouts that it carries."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from e2e.command import files, run

CHECKOUT = Path(__file__).parents[1]
LAYOUTS = sorted(path.stem for path in (CHECKOUT / "layouts").glob("*.toml"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, unpacked; built as `pip install .` builds it, but with the backend that is here."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=CHECKOUT)
    (built,) = folder.glob("modelctl-*.whl")
    shutil.unpack_archive(built, folder / "unpacked", "zip")
    return folder / "unpacked"


def from_wheel(wheel: Path, cwd: Path, *arguments: str | Path) -> str:
    path = os.pathsep.join([f"PYTHONPATH={wheel}", *filter(None, [os.environ.get("PYTHONPATH")])])
    return run("env", path, sys.executable, *arguments, cwd=cwd)


def test_the_wheel_has_the_layouts_to_the_byte(wheel: Path) -> None:
    assert files(wheel / "modelctl/data/layouts") == files(CHECKOUT / "layouts")


def test_the_wheel_is_what_runs_in_these_tests(wheel: Path, tmp_path: Path) -> None:
    found = from_wheel(wheel, tmp_path, "-c", "from modelctl.core.assets import asset; print(asset('layouts'))")
    assert found.strip() == str(wheel / "modelctl/data/layouts")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_wheel_packs_and_pulls_outside_the_checkout(wheel: Path, model: Path, tmp_path: Path, layout: str) -> None:
    from_wheel(wheel, tmp_path, "-m", "modelctl", "pack", model, "oci:store:v1", "--layout", layout)
    from_wheel(wheel, tmp_path, "-m", "modelctl", "pull", "oci:store:v1", "out")
    assert files(tmp_path / "out") == files(model)


def test_the_wheel_has_the_step_of_ci(wheel: Path) -> None:
    (step,) = wheel.glob("modelctl-*.data/scripts/modelctl-step")
    assert step.read_bytes() == (CHECKOUT / ".ci/steps/modelctl-step").read_bytes()
