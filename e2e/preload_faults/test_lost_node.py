"""A node that loses its power in the middle of two preloads, and comes back with its disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from e2e.command import CommandFailed, Ended, run
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import kubectl, new_namespace
from e2e.kubernetes.node import node_exec
from e2e.preload_faults.model import Model
from e2e.preload_faults.trouble import on_disk, slow_network, wait_until

pytestmark = [pytest.mark.usefixtures("n2"), pytest.mark.timeout(600)]

SHARD = 10_000_000
PART = 1 << 20
LOST = "Kubelet stopped posting node status"
"""What the condition Ready of a node says when its kubelet is silent."""


@contextmanager
def powerless(node: str) -> Iterator[None]:
    """Take the power from a node until the `with` ends; then wait until pods may start there."""
    run("cluster", "kill", node)
    try:
        yield
    finally:
        run("cluster", "start", node)
        kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=60s")
        wait_until("no taint", lambda: not kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}"))


@dataclass(frozen=True)
class Patient:
    """A preload in image mode that lasted all the time; what it had said before the node was back."""

    model: Model
    words: str
    found: Ended


@dataclass(frozen=True)
class Impatient:
    """Preloads in host mode: one whose time was over while the node was lost, one then, and one when it was back.

    `kept` is what the first had pulled and was still there in the end [bytes].
    """

    model: Model
    first: Ended
    second: Told
    kept: int
    third: Told


@pytest.fixture(scope="module")
def outage(
    new_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Patient, Impatient]]:
    host, image = new_model(SHARD), new_model(SHARD)
    flags = (*on("n2"), "--mode", "host")
    with (
        new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,),
        slow_network("n2", "20mbit"),
        host.preloading(*flags, "--timeout", "20s") as impatient,
        image.preloading(*on("n2"), "-n", namespace.name) as patient,
    ):
        patient.until("a  n2  Pulling")
        wait_until("a part", lambda: on_disk("n2", host.partial) > PART)
        node_exec("n2", "sync")
        with powerless("n2"):
            first = impatient.ended()
            kubectl("wait", "--for=condition=Ready=Unknown", "node/n2", "--timeout=60s")
            second = host.preload(*flags)
            with suppress(CommandFailed):
                wait_until("it to notice", lambda: LOST in patient.words, 40)
            words = patient.words
        kept = on_disk("n2", host.partial)
        found = patient.ended()
        yield Patient(image, words, found), Impatient(host, first, second, kept, host.preload(*flags))


@pytest.fixture
def patient(outage: tuple[Patient, Impatient]) -> Patient:
    return outage[0]


@pytest.fixture
def impatient(outage: tuple[Patient, Impatient]) -> Impatient:
    return outage[1]


class TestOneCommandInImageMode:
    def test_the_table_says_that_the_node_is_not_ready(self, patient: Patient) -> None:
        assert LOST in patient.words

    def test_it_ends_well_when_the_node_is_back(self, patient: Patient) -> None:
        assert patient.found.status == 0, patient.found.stderr
        assert (patient.model.labels("n2"), patient.model.jobs()) == ({"warm"}, [])


class TestTheNextCommandInHostMode:
    def test_the_first_ends_by_its_time(self, impatient: Impatient) -> None:
        assert impatient.first.status == 10
        assert "the same command goes on" in impatient.first.stderr

    def test_while_the_node_is_lost_the_plan_leaves_it_out(self, impatient: Impatient) -> None:
        assert (impatient.second.status, impatient.second.states) == (9, {"n2": "NotReady"})
        assert LOST in impatient.second.words
        assert "kubectl describe node n2" in impatient.second.words

    def test_when_it_is_back_the_same_command_goes_on_with_what_is_on_its_disk(self, impatient: Impatient) -> None:
        assert impatient.kept > PART
        assert (impatient.third.status, impatient.third.states) == (0, {"n2": "Warm"}), impatient.third.words
        assert (impatient.model.labels("n2"), impatient.model.jobs()) == ({"disk", "warm"}, [])
