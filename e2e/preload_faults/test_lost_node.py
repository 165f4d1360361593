"""A node that loses its power in the middle of a preload, and comes back with its disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from e2e.command import CommandFailed, Ended, ended, run
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import kubectl, new_namespace
from e2e.kubernetes.node import node_exec
from e2e.preload_faults.model import Model
from e2e.preload_faults.trouble import on_disk, slow_network, wait_until

pytestmark = [pytest.mark.usefixtures("n2"), pytest.mark.timeout(600)]

SHARD = 10_000_000
_LOST = "Kubelet stopped posting node status"
"""What the condition Ready of a node says when its kubelet is silent."""


@contextmanager
def powerless(node: str) -> Iterator[None]:
    """Take the power from a node; give it back, and wait until pods may start there."""
    run("cluster", "kill", node)
    try:
        yield
    finally:
        run("cluster", "start", node)
        kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=60s")
        wait_until("no taint", lambda: not kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}"))


@dataclass(frozen=True)
class Waited:
    """A preload that lasted from before the power went until after it was back; what it had said before that."""

    model: Model
    words: str
    found: Ended


@pytest.fixture(scope="module")
def waited(new_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waited]:
    model = new_model(SHARD)
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        with slow_network("n2", "20mbit"), model.preloading(*on("n2"), "-n", namespace.name) as preload:
            preload.until("a  n2  Pulling")
            with powerless("n2"):
                kubectl("wait", "--for=condition=Ready=Unknown", "node/n2", "--timeout=60s")
                with suppress(CommandFailed):
                    wait_until("it to notice", lambda: _LOST in preload.words, 35)
                said = preload.words
            yield Waited(model, said, preload.ended())


class TestOneCommandInImageMode:
    def test_the_table_says_that_the_node_is_not_ready(self, waited: Waited) -> None:
        assert _LOST in waited.words

    def test_it_ends_well_when_the_node_is_back(self, waited: Waited) -> None:
        assert (waited.found.status, waited.model.labels("n2")) == (0, {"warm"}), waited.found.stderr
        assert waited.model.jobs() == []


@dataclass(frozen=True)
class Returned:
    """Preloads: one whose time was over while the node was lost, one when that was known, and one after it was back."""

    model: Model
    first: Ended
    kept: int
    second: Told
    third: Told


@pytest.fixture(scope="module")
def returned(new_model: Callable[..., Model]) -> Returned:
    model = new_model(SHARD)
    flags = (*on("n2"), "--mode", "host")
    with slow_network("n2", "20mbit"), model.preloading(*flags, "--timeout", "20s") as preload:
        wait_until("a part", lambda: on_disk("n2", model.partial) > 1 << 20)
        node_exec("n2", "sync")
        with powerless("n2"):
            first = preload.ended()
            kubectl("wait", "--for=condition=Ready=Unknown", "node/n2", "--timeout=60s")
            second = model.preload(*flags)
        kept = on_disk("n2", model.partial)
    return Returned(model, first, kept, second, model.preload(*flags))


class TestTheNextCommandInHostMode:
    def test_the_first_ends_by_its_time(self, returned: Returned) -> None:
        assert returned.first.status == 10
        assert "the same command goes on" in returned.first.stderr

    def test_while_the_node_is_lost_the_plan_leaves_it_out(self, returned: Returned) -> None:
        assert (returned.second.status, returned.second.states) == (9, {"n2": "NotReady"})
        assert "kubectl describe node n2" in returned.second.words

    def test_when_it_is_back_the_same_command_goes_on_with_what_is_on_its_disk(self, returned: Returned) -> None:
        assert returned.kept > 1 << 20
        assert (returned.third.status, returned.third.states) == (0, {"n2": "Warm"}), returned.third.words
        assert returned.model.labels("n2") == {"disk", "warm"}
        assert returned.model.jobs() == []


@pytest.fixture(scope="module", autouse=True)
def up() -> Iterator[None]:
    """Leave no node without power."""
    yield
    ended("cluster", "start", "n2")
