"""preload, unload and status --fix as a user types them, against a cluster that is played."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelctl.cluster.labels import warm_label
from modelctl.core.reference import parse_reference
from modelctl.flows.stores import open_artifact
from modelctl.packing.artifact import Artifact
from tests.cli.program import MODELCTL, environment, run, run_on_terminal
from tests.fakes.kube_api import KubeApi, kube_api, kubeconfig
from tests.fakes.kube_jobs import RUNS, Fate, Player, failing, ready_node
from tests.fakes.registries import Registry
from tests.registries import IMPATIENT

IMAGE = ("--image", "registry.example/tools/modelctl:1")
SELECTOR = ("-l", "nodegroup=gpu")


@pytest.fixture(scope="module")
def there(plain: Registry, store: str) -> str:
    """The model in a registry."""
    text = f"{plain.host}/models/preloaded:v1"
    run("push", f"{store}:v1", text).check_returncode()
    return text


@pytest.fixture(scope="module")
def artifact(there: str) -> Artifact:
    return open_artifact(parse_reference(there), IMPATIENT)[1]


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as server:
        server.objects["nodes"] = [ready_node("n1"), ready_node("n2")]
        yield server


@pytest.fixture
def player(api: KubeApi, artifact: Artifact) -> Player:
    return Player(api, artifact.size)


@pytest.fixture
def config(api: KubeApi, tmp_path: Path) -> tuple[str, str]:
    """The flag that names a kubeconfig of two contexts, both of the one cluster."""
    return ("--kubeconfig", str(kubeconfig(tmp_path / "kubeconfig", {"a": api.url, "b": api.url})))


@pytest.fixture
def preload(there: str, config: tuple[str, str], player: Player) -> tuple[str, ...]:
    """The command."""
    return ("preload", there, *SELECTOR, *IMAGE, *config)


def warm_nodes(api: KubeApi, artifact: Artifact) -> list[str]:
    label = warm_label(artifact.weights)
    return sorted(node["metadata"]["name"] for node in api.objects["nodes"] if label in node["metadata"]["labels"])


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def interrupted(api: KubeApi, number: signal.Signals, when: Callable[[], object], *command: str) -> tuple[int, str]:
    """Run a command, signal it when something is so; return its status and stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([*MODELCTL, *command], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        until(when)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
        return process.returncode, stderr


def test_nodes_are_warmed_and_printed(api: KubeApi, preload: tuple[str, ...], artifact: Artifact) -> None:
    ended = run(*preload)

    assert ended.returncode == 0
    assert [line.split()[:3] for line in ended.stdout.splitlines()] == [["a", "n1", "Warm"], ["a", "n2", "Warm"]]
    assert warm_nodes(api, artifact) == ["n1", "n2"]


def test_the_plan_and_each_change_are_lines_on_stderr(preload: tuple[str, ...]) -> None:
    lines = run(*preload).stderr.splitlines()

    assert lines[0].startswith("a: image mode (Kubernetes 1.36 mounts images; free disk is not known")
    assert lines[0].endswith("namespace default: 2 Fit")
    assert [bool(re.fullmatch(r"a  n[12]  (Waiting|Pulling|Warming|Warm)  .*", line)) for line in lines[1:]].count(
        False
    ) == 0


def test_quiet_says_nothing_but_the_result(preload: tuple[str, ...]) -> None:
    ended = run(*preload, "-q")

    assert (ended.stderr, ended.stdout.count("Warm")) == ("", 2)


def test_the_json_has_these_fields(preload: tuple[str, ...], artifact: Artifact) -> None:
    report = json.loads(run(*preload, "-o", "json").stdout)
    (cluster,) = report["clusters"]

    assert list(report) == ["reference", "digest", "clusters"]
    assert list(cluster) == ["context", "problem", "mode", "why", "namespace", "nodes", "objects"]
    assert list(cluster["nodes"][0]) == ["name", "state", "size", "resident", "seconds", "attempts", "why", "hint"]
    assert (report["digest"], cluster["nodes"][0]["resident"]) == (artifact.root.digest, artifact.size)


def test_a_dry_run_prints_objects_that_can_be_applied(api: KubeApi, preload: tuple[str, ...]) -> None:
    ended = run(*preload, "--dry-run", "client", "--hold", "-o", "json")
    objects = json.loads(ended.stdout)["clusters"][0]["objects"]

    assert (ended.returncode, [found["kind"] for found in objects]) == (0, ["Job", "Job", "DaemonSet"])
    assert [request for request in api.requests if not request.startswith("GET")] == []


def test_on_a_terminal_a_table_is_drawn(preload: tuple[str, ...]) -> None:
    stdout, seen = run_on_terminal(*preload)

    assert [word for word in ("CLUSTER", "RESIDENT", "n1", "n2", "2 Warm") if word not in seen] == []
    assert stdout.count("Warm") == 2


@pytest.mark.parametrize(("term", "quiet"), [("dumb", ()), ("xterm", ("-q",))])
def test_no_table_is_drawn_where_it_would_not_do(preload: tuple[str, ...], term: str, quiet: tuple[str, ...]) -> None:
    _, seen = run_on_terminal(*preload, *quiet, TERM=term)

    assert "\x1b[" not in seen


def test_what_nodes_say_cannot_move_a_terminals_cursor(player: Player, preload: tuple[str, ...]) -> None:
    error = {"code": "x", "what": "\x1b[2Jmodel", "why": "\x1b]0;title\x07", "hint": ""}
    player.fates["n1"] = [Fate(main=4, words={"error": error})]
    ended = run(*preload)

    assert ended.returncode == 9
    assert ("\x1b" in ended.stderr, "\x1b" in ended.stdout) == (False, False)


class TestStatuses:
    def test_a_node_that_is_not_warm_is_9(self, player: Player, preload: tuple[str, ...]) -> None:
        player.fates["n1"] = [Fate(main=4)]
        ended = run(*preload, "-q")

        assert (ended.returncode, "partial: 1 node not warm" in ended.stderr) == (9, True)
        assert "a/n1 Failed: " in ended.stderr

    def test_time_that_is_over_is_10(self, player: Player, preload: tuple[str, ...]) -> None:
        player.fates = {"n1": [RUNS], "n2": [RUNS]}
        ended = run(*preload, "--timeout", "1s")

        assert (ended.returncode, "timed-out: 2 nodes not warm" in ended.stderr) == (10, True)
        assert "a/n1 TimedOut: it was still Warming" in ended.stderr

    def test_no_node_is_3(self, preload: tuple[str, ...]) -> None:
        assert run(*preload, "-l", "nodegroup=none").returncode == 3

    def test_a_cluster_that_does_not_answer_is_9(
        self, api: KubeApi, there: str, tmp_path: Path, player: Player
    ) -> None:
        path = kubeconfig(tmp_path / "two", {"a": api.url, "dead": "http://127.0.0.1:1"})
        ended = run("preload", there, *SELECTOR, *IMAGE, "--kubeconfig", path, "--context", "a,dead")

        assert (ended.returncode, "dead: cluster dead" in ended.stderr, ended.stdout.count("Warm")) == (9, True, 2)

    def test_no_image_is_usage(self, api: KubeApi, there: str, config: tuple[str, str]) -> None:
        ended = run("preload", there, *SELECTOR, *config)

        assert (ended.returncode, "[clusters.a]" in ended.stderr, api.requests) == (2, True, [])

    @pytest.mark.parametrize(
        "flags",
        [
            ("-n", "ml", "--mode", "host"),
            ("--timeout", "soon"),
            ("--timeout", "0s"),
            ("--timeout", "10"),
            ("--parallelism", "0"),
            ("--context", "a", "--all-contexts"),
            ("--context", "mars"),
            ("--dry-run", "perhaps"),
            ("--tolerations", "a=b=c"),
        ],
    )
    def test_what_cannot_be_asked_for_is_2(
        self, api: KubeApi, preload: tuple[str, ...], flags: tuple[str, ...]
    ) -> None:
        assert (run(*preload, *flags).returncode, api.requests) == (2, [])

    @pytest.mark.parametrize("verb", ["preload", "unload"])
    def test_all_contexts_without_anybody_to_ask_is_2(
        self, api: KubeApi, there: str, config: tuple[str, str], verb: str
    ) -> None:
        ended = run(verb, there, *SELECTOR, *IMAGE, *config, "--all-contexts")

        assert (ended.returncode, "--yes" in ended.stderr, api.requests) == (2, True, [])

    def test_all_contexts_with_yes_are_worked_on(self, preload: tuple[str, ...]) -> None:
        ended = run(*preload, "--all-contexts", "--yes", "--dry-run", "client", "-o", "json")

        assert [cluster["context"] for cluster in json.loads(ended.stdout)["clusters"]] == ["a", "b"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("2h", 7200), ("1m1s", 61)])
def test_durations_are_kubectls(preload: tuple[str, ...], text: str, seconds: int) -> None:
    ended = run(*preload, "--timeout", text, "--dry-run", "client", "-o", "json")
    objects = json.loads(ended.stdout)["clusters"][0]["objects"]

    assert {found["spec"]["activeDeadlineSeconds"] for found in objects} == {seconds + 15}


class TestInterrupted:
    def test_it_says_what_goes_on_and_that_is_so(self, api: KubeApi, player: Player, preload: tuple[str, ...]) -> None:
        player.fates = {"n1": [RUNS], "n2": [RUNS]}
        status, stderr = interrupted(api, signal.SIGINT, lambda: len(player.started) == 2, *preload)

        assert (status, len(api.objects["jobs"])) == (130, 2)
        assert "; 2 Jobs go on without this command\n" in stderr
        assert stderr.splitlines()[-1].startswith("interrupted: ")

    def test_what_was_not_begun_is_not_counted(self, api: KubeApi, player: Player, preload: tuple[str, ...]) -> None:
        player.fates = {"n1": [RUNS], "n2": [RUNS]}
        status, stderr = interrupted(
            api, signal.SIGINT, lambda: len(player.started) == 1, *preload, "--parallelism", "1"
        )

        assert (status, len(api.objects["jobs"])) == (130, 1)
        assert "1 Fit; 1 Job goes on without this command\n" in stderr

    def test_what_is_warm_is_said_to_be(
        self, api: KubeApi, player: Player, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        player.fates = {"n1": [RUNS]}
        status, stderr = interrupted(
            api, signal.SIGINT, lambda: warm_nodes(api, artifact) == ["n2"] and len(api.objects["jobs"]) == 1, *preload
        )

        assert status == 130
        assert re.search(r"1 (Waiting|Warming), 1 Warm; 1 Job goes on", stderr)

    def test_a_kill_leaves_what_the_same_command_ends(
        self, api: KubeApi, player: Player, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        player.fates = {"n1": [RUNS, Fate()], "n2": [RUNS, Fate()]}
        status, _ = interrupted(api, signal.SIGKILL, lambda: len(player.started) == 2, *preload)
        for job in list(api.objects["jobs"]):
            player.end_job(job, "Failed", "DeadlineExceeded")

        assert (status, run(*preload).returncode, warm_nodes(api, artifact)) == (-9, 0, ["n1", "n2"])

    def test_so_it_is_with_fix(
        self, api: KubeApi, player: Player, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        run(*preload).check_returncode()
        player.started.clear()
        player.fates = {"n1": [RUNS], "n2": [RUNS]}
        command = ("status", preload[1], "--fix", *preload[4:])
        status, stderr = interrupted(api, signal.SIGINT, lambda: len(player.started) == 2, *command)

        assert (status, "; 2 Jobs go on without this command\n" in stderr) == (130, True)


class TestUnload:
    def test_labels_go(self, api: KubeApi, preload: tuple[str, ...], artifact: Artifact) -> None:
        run(*preload).check_returncode()
        ended = run("unload", *preload[1:])

        assert (ended.returncode, ended.stdout.count("Unloaded"), warm_nodes(api, artifact)) == (0, 2, [])

    def test_files_in_use_are_9(self, api: KubeApi, preload: tuple[str, ...], artifact: Artifact) -> None:
        annotations = {"modelctl.io/digest": artifact.root.digest}
        labels = {"app.kubernetes.io/managed-by": "modelctl"}
        metadata = {"name": "engine", "namespace": "ml", "labels": labels, "annotations": annotations}
        status = {"phase": "Running"}
        api.put("pods", {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status})
        api.put("namespaces", {"metadata": {"name": "modelctl-system"}})
        ended = run("unload", *preload[1:], "--mode", "host")

        assert (ended.returncode, "pod ml/engine uses it" in ended.stderr) == (9, True)

    def test_a_dry_run_is_0(self, preload: tuple[str, ...]) -> None:
        assert run("unload", *preload[1:], "--dry-run", "client").returncode == 0


class TestFix:
    def fixed(self, preload: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return run("status", preload[1], "--fix", *preload[4:])

    def test_labels_follow_what_was_left_running(
        self, api: KubeApi, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        run(*preload, "--no-wait").check_returncode()
        ended = self.fixed(preload)

        assert (ended.returncode, warm_nodes(api, artifact)) == (0, ["n1", "n2"])
        assert [line.split()[-1] for line in ended.stdout.splitlines()] == ["warm", "warm"]

    def test_a_label_that_goes_is_no_failure(
        self, api: KubeApi, player: Player, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        run(*preload).check_returncode()
        player.fates["n1"] = [failing(9, "partial", size=4000, resident=2000)]
        ended = self.fixed(preload)

        assert (ended.returncode, warm_nodes(api, artifact)) == (0, ["n2"])

    def test_a_node_that_could_not_be_measured_is_9(
        self, api: KubeApi, preload: tuple[str, ...], artifact: Artifact
    ) -> None:
        run(*preload).check_returncode()
        node: Any = api.find("nodes", "n1")
        node["spec"] = {"unschedulable": True}
        api.put("nodes", node)

        assert (self.fixed(preload).returncode, warm_nodes(api, artifact)) == (9, ["n1", "n2"])

    def test_on_a_terminal_a_table_is_drawn(self, player: Player, preload: tuple[str, ...]) -> None:
        run(*preload).check_returncode()
        _, seen = run_on_terminal("status", preload[1], "--fix", *preload[4:])

        assert [word for word in ("CLUSTER", "RESIDENT", "2 Warm") if word not in seen] == []
