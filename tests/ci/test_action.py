"""What must hold of the ready files as they are written."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from tests.ci.platforms import ROOT, STEP, STEPS

ACTION = yaml.safe_load((STEPS / "github/action.yml").read_text())
PAGE = (ROOT / "docs/ci.md").read_text()
SCRIPTS = [step for step in ACTION["runs"]["steps"] if "run" in step]


def test_no_script_has_an_expression_in_it() -> None:
    assert ["${{" in step["run"] for step in SCRIPTS] == [False] * len(SCRIPTS)


def test_every_input_is_used() -> None:
    assert set(re.findall(r"inputs\.([\w-]+)", str(ACTION["runs"]))) == set(ACTION["inputs"])


def test_other_actions_are_named_by_commit() -> None:
    used = [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert [bool(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)) for name in used] == [True] * len(used)


def test_what_the_action_installs_is_locked() -> None:
    (script,) = [step["run"] for step in SCRIPTS if step["id"] == "install"]
    installs = re.findall(r'^ *"\$\{pip\[@\]\}" (.*)$', script, re.MULTILINE)
    files = re.findall(r'"\$root/(.*?)"', script)
    assert (STEPS / "github/../../..").resolve() == ROOT
    assert [line.split()[:2] for line in installs] == [
        ["--require-hashes", "--requirement"],
        ["--no-deps", "--no-build-isolation"],
    ]
    assert [(ROOT / name).is_file() for name in files] == [True, True]


def test_what_builds_it_is_locked() -> None:
    """Where no build is isolated, what it requires has to be there."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert (ROOT / "requirements/build.in").read_text().split() == wanted


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_step_is_a_script_of_any_shell(shell: str) -> None:
    assert subprocess.run([shell, "-n", STEP], check=False).returncode == 0


def test_examples_are_yaml() -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert [bool(yaml.safe_load(text)) for text in examples] == [True] * len(examples)


def test_the_examples_name_inputs_and_variables_that_there_are() -> None:
    read = STEP.read_text() + (STEPS / "gitlab.yml").read_text() + "MODELCTL_CONFIG"
    named = set(re.findall(r"MODELCTL_[A-Z]+", PAGE)) - {"MODELCTL_STATUS", "MODELCTL_DIGEST", "MODELCTL_REFERENCE"}
    assert {name for name in named if name not in read} == set()
