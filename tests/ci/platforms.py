"""What runs the ready files of `.ci/steps`, in a folder of its own: the shell of each, with what its platform sets.

Nothing but the shell is the platform's: actions and images that a file names are not fetched.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

ROOT = Path(__file__).parents[2]
STEPS = ROOT / ".ci/steps"
STEP = STEPS / "modelctl-step"
PATH = f"{STEPS}:{Path(sys.executable).parent}:{os.environ['PATH']}"


@dataclass(frozen=True)
class Ended:
    """How a job ended: its log, and what it left; `cache` is the folder that is kept for the next one."""

    status: int
    log: str
    summary: str
    outputs: Mapping[str, str]
    references: Sequence[str]
    result: str
    cache: Path

    @property
    def regions(self) -> dict[str, Any]:
        """The rows of the result, by region."""
        return {row["region"]: row for row in json.loads(self.result)["regions"]}

    @property
    def everything(self) -> str:
        return "\n".join([self.log, self.summary, self.result, *self.references, *self.outputs.values()])


class Platform(Protocol):
    """Runs a job in `folder`, with inputs, by the names of the action, and with variables of the environment."""

    folder: Path

    def run(self, inputs: Mapping[str, str], variables: Mapping[str, str]) -> Ended: ...


class GitHub:
    """Runs the composite action as the runner does: expressions in `env`, files for outputs and summary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._action = yaml.safe_load((STEPS / "github/action.yml").read_text())

    def run(self, inputs: Mapping[str, str], variables: Mapping[str, str]) -> Ended:
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
        for path in files.values():
            path.touch()
        given = {name: str(one.get("default", "")) for name, one in self._action["inputs"].items()} | dict(inputs)
        temporary = self.folder / "temp"
        temporary.mkdir(exist_ok=True)
        environ = {
            "PATH": PATH,
            "HOME": str(self.folder / "home"),
            "GITHUB_ACTION_PATH": str(STEPS / "github"),
            "RUNNER_TEMP": str(temporary),
            **{name: str(path) for name, path in files.items()},
            **variables,
        }
        status, log = 0, ""
        for step in self._action["runs"]["steps"]:
            if "run" in step and not status:
                own = {name: evaluated(text, given) for name, text in step.get("env", {}).items()}
                status, said = bash(step["run"], self.folder, environ | own)
                log += said
        outputs = parse_outputs(files["GITHUB_OUTPUT"].read_text()) | parse_commands(log)
        named = {
            name: outputs.get(one["value"].removeprefix("${{ steps.run.outputs.").removesuffix(" }}"), "")
            for name, one in self._action["outputs"].items()
        }
        return Ended(
            status,
            log,
            files["GITHUB_STEP_SUMMARY"].read_text(),
            named,
            named["references"].split(),
            written(Path(named["report"], "result.json")),
            self.folder / "home/.cache/modelctl/digests",
        )


class GitLab:
    """Runs `.modelctl` as the runner does: variables that name others, one script, dotenv and artifacts behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._job = yaml.safe_load((STEPS / "gitlab.yml").read_text())[".modelctl"]

    def run(self, inputs: Mapping[str, str], variables: Mapping[str, str]) -> Ended:
        job, project = self._job, str(self.folder)
        own = {name: text.replace("$CI_PROJECT_DIR", project) for name, text in job["variables"].items()}
        environ = {"PATH": PATH, "HOME": "/nonexistent", "CI_PROJECT_DIR": project} | own | as_variables(inputs)
        status, log = bash("\n".join(job["script"]), self.folder, environ | dict(variables))
        (report,), (cache,) = job["artifacts"]["paths"], job["cache"]["paths"]
        return ended(status, log, self.folder / report, self.folder / job["artifacts"]["reports"]["dotenv"], cache)


class Container:
    """Runs the step as a container's command, with arguments: no home, no shell that knows anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, inputs: Mapping[str, str], variables: Mapping[str, str]) -> Ended:
        given = dict(inputs)
        command, source, dest = given.pop("command", "pack"), given.pop("source"), given.pop("dest", "")
        login: dict[str, str] = {
            name: given.pop(name) for name in ("registry", "username", "password") if name in given
        }
        lines = filter(None, given.pop("flags", "").split("\n"))
        flags = [*lines, *(f"--{name}={value}" for name, value in given.items())]
        environ = {"PATH": PATH, "XDG_CACHE_HOME": str(self.folder / "cache")} | as_variables(login) | dict(variables)
        arguments = [command, *flags, "--", source, *([dest] if dest else [])]
        status, log = finished([str(STEP), *arguments], self.folder, environ)
        report = self.folder / "modelctl-report"
        return ended(status, log, report, report / "outputs.env", "cache/modelctl/digests")


PLATFORMS: Mapping[str, Callable[[Path], Platform]] = {"github": GitHub, "gitlab": GitLab, "container": Container}


def ended(status: int, log: str, report: Path, dotenv: Path, cache: str) -> Ended:
    outputs = parse_outputs(dotenv.read_text())
    return Ended(
        status,
        log,
        (report / "summary.md").read_text(),
        {name.removeprefix("MODELCTL_").lower(): value for name, value in outputs.items()},
        (report / "references.txt").read_text().split(),
        written(report / "result.json"),
        report.parent / cache,
    )


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def as_variables(inputs: Mapping[str, str]) -> dict[str, str]:
    return {f"MODELCTL_{name.upper()}": value for name, value in inputs.items()}


def bash(script: str, folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    return finished(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], folder, environ)


def finished(command: list[str], folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of a program, and all that it said."""
    run = subprocess.run(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def evaluated(text: str, inputs: Mapping[str, str]) -> str:
    """Put inputs where expressions name them."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], text)


def parse_outputs(text: str) -> dict[str, str]:
    """Read NAME=VALUE lines, and NAME<<END with the lines up to END."""
    pattern = r"^(\w+)(?:=(.*)|<<(\w+)\n((?:.*\n)*?)\3)$"
    return {name: value or lines.rstrip("\n") for name, value, _, lines in re.findall(pattern, text, re.MULTILINE)}


def parse_commands(log: str) -> dict[str, str]:
    """Read the outputs that commands in a log set, but for what stands where commands are stopped."""
    obeyed = re.sub(r"^::stop-commands::(\w+)$.*?^::\1::$", "", log, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^::set-output name=(\w+)::(.*)$", obeyed, re.MULTILINE))
