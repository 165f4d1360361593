"""The cluster's own command: what it is asked for wrongly, two clusters at once, and that nothing of a run stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CLUSTER = Path(__file__).with_name("cluster") / "cluster"
LOOK = """
echo $CLUSTER_DIR
kubectl --context a get nodes -o name
kubectl --context b get nodes -o name
cluster exec n2 -- findmnt -n -o FSTYPE /var/lib/containerd
exit 7
"""


def cluster(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "--nodes", "0", "--", "true"], "cluster: --nodes 0: say 3, or 2,1"),
        (["run", "--disk", "n3=10", "--", "true"], "cluster: --disk n3=10: say n2=300, of a node that there is"),
        (["run", "--keep", CLUSTER.parent, "--", "true"], f"cluster: --keep {CLUSTER.parent}: not empty"),
        (["run", "--", "no-such-command"], "cluster: no-such-command: command not found"),
        (["exec", "n1", "--", "true"], "cluster: there is no n1 here"),
    ],
)
def test_a_wrong_command_line_ends_at_once_and_says_why(arguments: list[str | Path], why: str) -> None:
    ended = cluster(*arguments)
    assert (ended.stderr.strip(), ended.returncode) == (why, 1)


def test_two_clusters_run_side_by_side_and_nothing_of_them_stays() -> None:
    ended = cluster("run", "--nodes", "1,1", "--disk", "n2=100", "--", "sh", "-c", LOOK)
    folder, *printed = ended.stdout.splitlines()

    assert printed == ["node/n1", "node/n2", "ext4"]
    assert ended.returncode == 7
    assert not Path(folder).exists()
    assert Path(folder).name not in Path("/proc/mounts").read_text()
    assert list(Path("/sys/fs/cgroup").glob(f"**/{Path(folder).name}")) == []
